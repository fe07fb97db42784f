"""Proof that a bundle gives the reference's vectors: texts, metrics, gates, and the report as JSON and as a page.

Needs numpy only, so that a bundle is verified on the machine that will run it.
"""
