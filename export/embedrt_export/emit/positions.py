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


def table_positions(out: Nodes, pad_position: int | None) -> str:
    """Rows of a table of positions: (S,), or (B, S) where tokens that are padding do not count."""
    if pad_position is None:
        return token_positions(out)
    pad = out.scalar("const.pad", np.int64(pad_position))
    is_pad = out.add("Equal", ["input_ids", pad], "embeddings.is_pad")
    counted = out.add("Where", [is_pad, out.scalar("const.none", np.int64(0)), out.scalar("const.single", np.int64(1))],
                      "embeddings.counted")  # fmt: skip
    out.add("CumSum", [counted, out.scalar("const.tokens_axis", np.int64(1))], "embeddings.number")
    out.add("Mul", ["embeddings.number", counted], "embeddings.number_or_none")
    return out.add("Add", ["embeddings.number_or_none", pad], "embeddings.position.ids")
