"""Vectors as Arrow has them, and rows that wait for the batch they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.reading.parquet import import_pyarrow

if TYPE_CHECKING:
    from embedrt.results import EncodedBlock

PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")
_STORED = {"binary": "int8", "ubinary": "uint8"}  # numpy's name, where it is another
_PER_BYTE = {"binary": 8, "ubinary": 8}


@dataclass(frozen=True)
class VectorShape:
    """How a vector of D dimensions is stored."""

    dimension: int  # D
    precision: str  # out of PRECISIONS
    variable_lists: bool = False

    @property
    def width(self) -> int:
        """Numbers of a vector, as stored."""
        return -(-self.dimension // _PER_BYTE.get(self.precision, 1))

    @property
    def dtype(self) -> str:
        """numpy's name of the numbers' type."""
        return _STORED.get(self.precision, self.precision)

    @property
    def arrow_type(self) -> Any:
        """Arrow's type of a vector."""
        pa, _ = import_pyarrow()
        if self.precision == "ubinary":
            return pa.binary() if self.variable_lists else pa.binary(self.width)
        value = pa.from_numpy_dtype(np.dtype(self.dtype))
        return pa.list_(value) if self.variable_lists else pa.list_(value, self.width)


class Rows:
    """Rows that are embedded and not yet given out, in the stream's order."""

    def __init__(self, shape: VectorShape) -> None:
        self._shape = shape
        self.vectors: NDArray[Any] = np.zeros((0, shape.width), shape.dtype)
        self.tokens: NDArray[np.int32] = np.zeros(0, np.int32)
        self.truncated: NDArray[np.bool_] = np.zeros(0, bool)
        self.reasons: dict[int, str] = {}  # by position among the rows held

    @property
    def num_rows(self) -> int:
        return len(self.tokens)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which have no vector."""
        mask = np.zeros(self.num_rows, bool)
        mask[list(self.reasons)] = True
        return mask

    def add(self, block: EncodedBlock, reasons: dict[int, str]) -> None:
        """Put a block behind what is there; `reasons` say, by position in the stream, why rows have no vector."""
        n, at = block.num_texts, np.array(block.indices, np.int64) - block.start
        vectors = np.zeros((n, self.vectors.shape[1]), self.vectors.dtype)
        vectors[at] = block.embeddings
        tokens = np.zeros(n, np.int32)
        tokens[at] = block.num_tokens
        truncated = np.zeros(n, bool)
        truncated[[item.index - block.start for item in block.truncated]] = True
        held = self.num_rows
        self.reasons.update((held + index - block.start, reason) for index, reason in reasons.items())
        self.vectors = np.concatenate([self.vectors, vectors]) if held else vectors
        self.tokens = np.concatenate([self.tokens, tokens])
        self.truncated = np.concatenate([self.truncated, truncated])

    def take(self, n: int) -> Rows:
        """The first n rows, which are held no more."""
        first = Rows(self._shape)
        first.vectors, self.vectors = self.vectors[:n], self.vectors[n:]
        first.tokens, self.tokens = self.tokens[:n], self.tokens[n:]
        first.truncated, self.truncated = self.truncated[:n], self.truncated[n:]
        first.reasons = {k: reason for k, reason in self.reasons.items() if k < n}
        self.reasons = {k - n: reason for k, reason in self.reasons.items() if k >= n}
        return first

    def arrow_vectors(self) -> Any:
        """The vectors as Arrow has them, null where there is none."""
        return arrow_vectors(self.vectors, self._shape.arrow_type, self.failed if self.reasons else None)

    def arrow_tokens(self) -> Any:
        """Tokens of each text, before cutting."""
        return import_pyarrow()[0].array(self.tokens, mask=self.failed)

    def arrow_truncated(self) -> Any:
        """Whether each text was cut."""
        return import_pyarrow()[0].array(self.truncated, mask=self.failed)

    def arrow_reasons(self) -> Any:
        """Why a row has no vector; null for the others."""
        pa, _ = import_pyarrow()
        return pa.array([self.reasons.get(k) for k in range(self.num_rows)], pa.string())


def arrow_vectors(vectors: NDArray[Any], kind: Any, failed: NDArray[np.bool_] | None = None) -> Any:
    """Vectors (N, W) as an array of Arrow's type `kind`; null where `failed` (N,) says so."""
    pa, _ = import_pyarrow()
    n, width = vectors.shape
    flat = np.ascontiguousarray(vectors).reshape(-1)
    mask = None if failed is None else pa.array(failed)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(flat, kind.value_type), type=kind, mask=mask)
    if pa.types.is_list(kind):
        offsets = pa.array(np.arange(n + 1, dtype=np.int32) * np.int32(width))
        return pa.ListArray.from_arrays(offsets, pa.array(flat, kind.value_type), type=kind, mask=mask)
    whole = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), n, [None, pa.py_buffer(flat)])
    if mask is not None:
        import pyarrow.compute as pc

        whole = pc.if_else(mask, pa.scalar(None, whole.type), whole)
    return whole.cast(kind)
