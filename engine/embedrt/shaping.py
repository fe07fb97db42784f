"""From rows as the model gives them to what a call returns: truncated, normalized, as integers, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.options import EncodeOptions
from embedrt.pooling import l2_normalize
from embedrt.precision import CodeRanges, code_ranges, quantize
from embedrt.tensors import as_tensor

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shaper:
    """Shapes rows of one model. Each row by itself: it does not matter what else is in the call."""

    dimension: int  # of a row
    normalizes: bool  # whether rows have length 1
    reference: Callable[[], Floats]  # the vectors (R, D) that give integer precisions their ranges
    code_width: float | None  # as `code_ranges` takes it
    _ranges: dict[tuple[Any, ...], CodeRanges] = field(default_factory=dict)  # by what `cut` looks at

    def __call__(self, rows: Sequence[Any], options: EncodeOptions, *, single: bool) -> Any:
        """What `encode` returns for a sequence, or for one text.

        Args:
            rows: sentence embeddings (D,), token embeddings (n, H), or all features by name, as the options say.
            options: of the call.
            single: the call was for one text.
        """
        if options.output_value == "token_embeddings":
            return rows[0] if single else apart(rows)
        if options.output_value is None:
            return rows[0] if single else [{name: array.copy() for name, array in row.items()} for row in rows]
        vectors = self.cut(self._joined(rows, single), options)
        if options.precision != "float32":
            vectors = quantize(vectors, options.precision, self._ranges_of(options))
        found: Any = vectors if options.container == "array" else as_tensor(vectors)
        if single:
            return found[0]
        return list(found) if options.container == "tensors" else found

    def _ranges_of(self, options: EncodeOptions) -> CodeRanges:
        """Of vectors that are cut as the options say."""
        key = options.truncate_dim, options.normalize_embeddings, options.unnormalized
        if key not in self._ranges:
            self._ranges[key] = code_ranges(self.cut(self.reference(), options), self.code_width)
        return self._ranges[key]

    def _joined(self, rows: Sequence[Floats], single: bool) -> Floats:
        """Rows (D,) as one array (N, D) of their own; that of a single input is nobody else's already."""
        if single:
            return rows[0][np.newaxis]
        return np.concatenate(rows).reshape(len(rows), -1) if rows else np.empty((0, self.dimension), np.float32)

    def cut(self, vectors: Floats, options: EncodeOptions) -> Floats:
        """Truncate, and normalize where the pipeline or the caller wants it."""
        if options.truncate_dim is not None:
            vectors = vectors[:, : options.truncate_dim]
        return l2_normalize(vectors) if self.normalizes_again(options) else vectors

    def normalizes_again(self, options: EncodeOptions) -> bool:
        """Whether rows are normalized once they are cut."""
        again = options.truncate_dim is not None and self.normalizes and not options.unnormalized
        return options.normalize_embeddings or again


def apart(rows: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Each row an array of its own, also where texts are equal: who writes into one must not change another."""
    seen: set[int] = set()
    out = []
    for row in rows:
        out.append(row.copy() if id(row) in seen else row)
        seen.add(id(row))
    return out
