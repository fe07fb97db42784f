"""A token table in int8, with a second row for those tokens that one row of 8 bits loses most of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from embedrt_export.int8.builder import Builder
from embedrt_export.int8.weights import quantize_rows

Array = NDArray[np.float32]

NAME = "embeddings.word"
REST = "embeddings.word_rest"


@dataclass(frozen=True)
class Table8:
    """rows * scale, and of some tokens what that leaves: rest[rest_row] * rest_scale[rest_row]."""

    rows: NDArray[np.int8]  # (V, E)
    scale: Array  # (V, 1)
    rest: NDArray[np.int8]  # (R, E), the first row zero
    rest_scale: Array  # (R, 1)
    rest_row: NDArray[np.int32]  # (V, 1)
    error: float  # |error| / |table - its mean row|

    def look_up(self, out: Builder, ids: str) -> str:
        """The float32 rows of the ids (B, S, E)."""
        first = _rows(out, NAME, self.rows, self.scale, ids)
        if len(self.rest) == 1:
            return first
        row = out.add("Gather", [out.once(f"{REST}.row", self.rest_row), ids], f"{REST}.row_of")
        row = out.add("Squeeze", [row, out.axis()], f"{REST}.row_ids")
        second = _rows(out, REST, self.rest, self.rest_scale, row)
        return out.add("Add", [first, second], f"{NAME}.rows")


def quantize_table(table: Array, share: float) -> Table8:
    """The table (V, E) in int8; the `share` of its rows that lose most, each relative to its own length, get a second
    row."""
    rows, scale = quantize_rows(table)
    left = table - rows * scale
    middle = table.mean(axis=0)
    lost = np.linalg.norm(left, axis=1) / np.maximum(np.linalg.norm(table - middle, axis=1), 1e-12)
    worst = np.sort(np.argsort(-lost, kind="stable")[: round(share * len(table))])
    rest, rest_scale = quantize_rows(left[worst])
    left[worst] -= rest * rest_scale
    rest_row = np.zeros((len(table), 1), np.int32)
    rest_row[worst, 0] = np.arange(1, len(worst) + 1)
    error = float(np.linalg.norm(left) / max(float(np.linalg.norm(table - middle)), 1e-12))
    return Table8(
        rows, scale, np.concatenate([np.zeros_like(rows[:1]), rest]),
        np.concatenate([np.ones_like(scale[:1]), rest_scale]), rest_row, error,
    )  # fmt: skip


def _rows(out: Builder, name: str, rows: NDArray[np.int8], scale: Array, ids: str) -> str:
    out.add("Gather", [out.once(name, rows), ids], f"{name}.int8")
    out.add("Cast", [f"{name}.int8"], f"{name}.float", to=TensorProto.FLOAT)
    out.add("Gather", [out.once(f"{name}.scale", scale), ids], f"{name}.row_scale")
    return out.add("Mul", [f"{name}.float", f"{name}.row_scale"], f"{name}.scaled_rows")
