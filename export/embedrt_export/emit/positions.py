"""Positions of a text's tokens, which tables, rotation and distances read."""

from __future__ import annotations

import numpy as np

from embedrt_export.nodes import Nodes


def token_positions(out: Nodes) -> str:
    """0, 1, ... (S,), made once."""
    name = "states.positions"
    if not out.has(name):
        length = out.add("Shape", ["input_ids"], "states.length", start=1, end=2)
        scalar = out.add("Squeeze", [length], "states.length.scalar")
        none, one = out.scalar("const.none", np.int64(0)), out.scalar("const.single", np.int64(1))
        out.add("Range", [none, scalar, one], name)
    return name
