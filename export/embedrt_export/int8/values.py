"""V of each text's first token, as the sum of two 8-bit rows: heads that have nothing to find attend to that token."""

from __future__ import annotations

import numpy as np

from embedrt_export.int8.builder import Builder
from embedrt_export.int8.linear import CENTRE
from embedrt_export.int8.weights import Int8Weight

_END = np.iinfo(np.int64).max  # of a slice that goes to the end


def first_twice(
    out: Builder, name: str, x: str, rows: tuple[str, str], weight: Int8Weight, shape: str, tensors: str | None = None
) -> str:
    """V without its bias (B, S, N); one product for all rows and the first tokens' second ones.

    Args:
        out: of a graph that has `states.batch`, the shape (B, S).
        name: of the product.
        x: what is read, (T, K).
        rows: its 8-bit rows and their scales.
        weight: (K, N).
        shape: name of the value (B, S, K).
        tensors: name of the weight's tensors, where it is not that of the product.
    """
    width = len(weight.weight)
    zero, one = out.constant("const", np.array([0]), "first"), out.constant("const", np.array([1]), "second")
    last, end = out.constant("const", np.array([-1]), "last"), out.constant("const", np.array([_END]), "end")
    flat = out.constant("const.flat", np.array([-1, width]), str(width))
    one_by_one = out.constant("const.texts", np.array([-1, 1, width]), str(width))
    scales_shape = "states.scales_shape"
    if not out.has(scales_shape):
        out.add("Concat", ["states.batch", one], scales_shape, axis=0)

    def part(value: str, first: str, stop: str, what: str) -> str:
        return out.add("Slice", [value, first, stop, one], f"{name}.{what}")

    states = out.add("Reshape", [x, shape], f"{name}.input")
    first = out.add("Reshape", [part(states, zero, one, "first"), flat], f"{name}.first.flat")
    rest = out.rest8(first, width, f"{name}.first", "texts")
    both: list[str] = []
    for what, every, few, every_shape, few_shape in (
        ("rows", rows[0], rest[0], shape, one_by_one),
        ("scales", rows[1], rest[1], scales_shape, out.constant("const", np.array([-1, 1, 1]), "text_scales")),
    ):
        pieces = [out.add("Reshape", [every, every_shape], f"{name}.{what}.every"),
                  out.add("Reshape", [few, few_shape], f"{name}.{what}.few")]  # fmt: skip
        both.append(out.add("Concat", pieces, f"{name}.{what}", axis=1))
    y = out.product(both[0], both[1], weight, CENTRE, name, tensors)
    first_sum = out.add("Add", [part(y, zero, one, "of_rows"), part(y, last, end, "of_rests")], f"{name}.of_first")
    return out.add("Concat", [first_sum, part(y, one, last, "of_others")], f"{name}.states", axis=1)
