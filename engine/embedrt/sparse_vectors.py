"""Sparse vectors: of each text the dimensions that are not zero, and their weights. Rows end to end, never padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import DependencyError, OptionError
from embedrt.tensors import torch_if_imported

Floats = NDArray[np.float32]
_DENSE_NUMBERS = 1 << 22  # of the rows that are spread out at once to be multiplied


@dataclass(frozen=True, eq=False)
class SparseVector:
    """One text's: `values[i]` at dimension `indices[i]`, indices rising, no value 0."""

    indices: NDArray[np.int32]  # (n,)
    values: Floats  # (n,)
    dimension: int  # V

    def __len__(self) -> int:
        """How many dimensions are not zero."""
        return len(self.indices)

    def to_dense(self) -> Floats:
        """All dimensions (V,)."""
        out = np.zeros(self.dimension, np.float32)
        out[self.indices] = self.values
        return out

    def as_dict(self) -> dict[int, float]:
        """Dimension -> weight."""
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))

    def strongest(self, count: int | None) -> SparseVector:
        """The `count` largest values, those of the lower dimension where two are equal; all for None."""
        if count is None or count >= len(self):
            return self
        kept = np.sort(np.argsort(-self.values, kind="stable")[:count])
        return SparseVector(self.indices[kept], self.values[kept], self.dimension)

    def __repr__(self) -> str:
        return f"SparseVector({len(self)} of {self.dimension} dimensions)"


@dataclass(frozen=True, eq=False)
class SparseVectors(Sequence[SparseVector]):
    """Several texts': row i is `indices[offsets[i]:offsets[i + 1]]` with the same `values`. As scipy's CSR has them."""

    offsets: NDArray[np.int64]  # (N + 1,)
    indices: NDArray[np.int32]  # (n,)
    values: Floats  # (n,)
    dimension: int  # V

    @staticmethod
    def of(rows: Sequence[SparseVector], dimension: int) -> SparseVectors:
        """The rows end to end."""
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        indices = np.concatenate([row.indices for row in rows]) if rows else np.empty(0, np.int32)
        values = np.concatenate([row.values for row in rows]) if rows else np.empty(0, np.float32)
        return SparseVectors(offsets, indices, values, dimension)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, V)."""
        return len(self), self.dimension

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> SparseVector: ...
    @overload
    def __getitem__(self, index: slice) -> SparseVectors: ...
    def __getitem__(self, index: int | slice) -> SparseVector | SparseVectors:
        if isinstance(index, slice):
            return SparseVectors.of([self._row(i) for i in range(*index.indices(len(self)))], self.dimension)
        place = range(len(self))[index]  # IndexError, and from the end
        return self._row(place)

    def __iter__(self) -> Iterator[SparseVector]:
        return (self._row(i) for i in range(len(self)))

    def _row(self, i: int) -> SparseVector:
        part = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return SparseVector(self.indices[part], self.values[part], self.dimension)

    def to_dense(self) -> Floats:
        """All dimensions (N, V); V is large."""
        out = np.zeros(self.shape, np.float32)
        out[np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.indices] = self.values
        return out

    def to_scipy(self) -> Any:
        """A scipy.sparse.csr_matrix (N, V) over the same arrays.

        Raises:
            DependencyError: scipy is not installed.
        """
        try:
            from scipy.sparse import csr_matrix  # type: ignore[import-untyped,unused-ignore]
        except ImportError as exc:
            raise DependencyError("a CSR matrix is scipy's: pip install scipy") from exc
        return csr_matrix((self.values, self.indices, self.offsets), shape=self.shape)

    def to_torch(self) -> Any:
        """A coalesced sparse COO tensor (N, V), as sentence-transformers gives; torch must be imported.

        Raises:
            OptionError: it is not.
        """
        torch = torch_if_imported()
        if torch is None:
            raise OptionError("tensors are made where torch is imported before the call; to_scipy() needs none")
        rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        places = torch.from_numpy(np.stack([rows, self.indices.astype(np.int64)]))
        return torch.sparse_coo_tensor(
            places, torch.from_numpy(self.values), self.shape, is_coalesced=True, check_invariants=True
        )

    def __repr__(self) -> str:
        return f"SparseVectors({len(self)} of {self.dimension} dimensions, {len(self.indices)} values)"


def as_rows(vectors: object) -> SparseVectors:
    """One vector or several as several.

    Raises:
        OptionError: they are something else.
    """
    if isinstance(vectors, SparseVectors):
        return vectors
    if isinstance(vectors, SparseVector):
        return SparseVectors.of([vectors], vectors.dimension)
    if isinstance(vectors, Sequence) and vectors and all(isinstance(row, SparseVector) for row in vectors):
        return SparseVectors.of(list(vectors), vectors[0].dimension)
    raise OptionError(f"sparse vectors are what SparseEncoder.encode gives, not {type(vectors).__name__}")


def dot_products(a: SparseVectors, b: SparseVectors) -> Floats:
    """Dot products (N, M). Some rows of `a` are spread out at a time, and those of `b` look up what they have.

    Raises:
        OptionError: their dimensions differ.
    """
    check_dimensions(a, b)
    out = np.zeros((len(a), len(b)), np.float32)
    if not len(b.indices):
        return out
    filled = np.flatnonzero(np.diff(b.offsets))  # reduceat wants no empty rows
    size = max(1, _DENSE_NUMBERS // max(a.dimension, len(b.indices)))
    for start in range(0, len(a), size):
        spread = a[start : start + size].to_dense()
        products = spread[:, b.indices] * b.values
        out[start : start + size, filled] = np.add.reduceat(products, b.offsets[filled], axis=1)
    return out


def norms(vectors: SparseVectors) -> Floats:
    """Lengths (N,); of an empty row 0."""
    squares = np.zeros(len(vectors), np.float32)
    filled = np.flatnonzero(np.diff(vectors.offsets))
    if len(filled):
        squares[filled] = np.add.reduceat(vectors.values * vectors.values, vectors.offsets[filled])
    return np.sqrt(squares)


def check_dimensions(a: SparseVectors, b: SparseVectors) -> None:
    """Raise OptionError where the two cannot be compared."""
    if a.dimension != b.dimension:
        raise OptionError(f"vectors of {a.dimension} and of {b.dimension} dimensions cannot be compared")
