"""What stands for a text where texts are looked up: a hash."""

from __future__ import annotations

import hashlib

KEY_BYTES = 16


def key_of(text: str) -> bytes:
    """A hash of KEY_BYTES."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()
