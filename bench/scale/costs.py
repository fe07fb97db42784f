"""Costs and bytes, by formula: prices are the reader's to look up."""

from __future__ import annotations

BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "ubinary": 1 / 8}  # per dimension


def dollars_per_billion_tokens(tokens_per_s: float, price_per_hour: float) -> float:
    """What 10^9 tokens cost on a machine of this rate and price, kept busy."""
    return 1e9 / tokens_per_s / 3600 * price_per_hour


def vector_bytes(texts: float, dimension: int, precision: str) -> float:
    """Bytes of all vectors, without ids or an index."""
    return texts * dimension * BYTES[precision]


def told_bytes(texts: float, dimension: int, precision: str) -> str:
    """In TB (10^12), or GB where that is below 1."""
    size = vector_bytes(texts, dimension, precision)
    return f"{size / 1e12:.3g} TB" if size >= 1e12 else f"{size / 1e9:.3g} GB"
