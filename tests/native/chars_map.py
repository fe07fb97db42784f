"""A precompiled map of SentencePiece's kind: a double array (Darts) of keys, and what they become."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_LEAF = 1 << 8


def chars_map(changes: Mapping[str, str]) -> bytes:
    """As a tokenizer.json holds it, before base64."""
    outcomes, places = b"", {}
    for key, becomes in changes.items():
        places[key.encode()] = len(outcomes)
        outcomes += becomes.encode() + b"\0"
    units: dict[int, int] = {}
    taken: set[int] = set()

    def place(prefix: bytes, position: int, label: int) -> None:
        """The node of `prefix`, and those below it."""
        following = sorted({key[len(prefix)] for key in places if key.startswith(prefix) and len(key) > len(prefix)})
        wanted = [*following, *([0] if prefix in places else [])]
        base = next(b for b in range(256, 1 << 20, 256) if not taken & {b ^ byte for byte in wanted})
        taken.update(base ^ byte for byte in wanted)
        units[position] = label | (_LEAF if prefix in places else 0) | (position ^ base) << 10
        if prefix in places:
            units[base] = 1 << 31 | places[prefix]
        for byte in following:
            place(prefix + bytes([byte]), base ^ byte, byte)

    place(b"", 0, 0)
    size = (max(units) // 256 + 1) * 256
    array = struct.pack(f"<{size}I", *(units.get(k, 0) for k in range(size)))
    return struct.pack("<I", len(array)) + array + outcomes
