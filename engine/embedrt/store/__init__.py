"""Bundles by name: a folder of this user that keeps them, the hub that gives them, an export that makes them."""
