"""Products of two computed values as sums of blocks, in an order that does not follow the values' shapes.

`embedrt_export.int8.sums` says which products need that, and why.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import helper

from embedrt_export.nodes import Nodes

BLOCK = 128  # terms that ONNX Runtime always adds up in one go


def add_in_blocks(out: Nodes, values: Sequence[str], name: str, output: str, terms: int) -> None:
    """The product of two values over `terms` terms as a sum of products of `BLOCK` terms."""
    count = -(-terms // BLOCK)
    sizes = np.full(count, BLOCK)
    sizes[-1] = terms - BLOCK * (count - 1)
    lengths = out.constant("const.blocks", sizes, str(terms))
    sides = []
    for side, (value, axis) in enumerate(zip(values, (-1, -2), strict=True)):
        parts = [f"{name}.{side}.{block}" for block in range(count)]
        out.nodes.append(helper.make_node("Split", [value, lengths], parts, name=f"{name}.{side}", axis=axis))
        sides.append(parts)
    pairs = zip(*sides, strict=True)
    products = [out.add("MatMul", list(pair), f"{name}.block.{block}") for block, pair in enumerate(pairs)]
    total = products[0]
    for block, product in enumerate(products[1:], 1):
        total = out.add("Add", [total, product], output if block == count - 1 else f"{name}.sum.{block}")
