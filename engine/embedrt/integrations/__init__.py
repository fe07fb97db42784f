"""Embedders in the shape that other libraries want, a module for each; none is imported with embedrt.

Every class takes the directory or the name of a bundle, the keywords of `Embedder` and uses the model's prompt for
queries and for documents where the library tells them apart. The model is opened at its first use, once for each
object, and again in another process: objects can be pickled.
"""
