"""The columns of an output: what a text's vectors are in JSON and in Arrow, by the names of `embedrt.Model`'s outputs.

Vectors are those of a block: an array (n, D) of dense ones, or `embedrt.model.Outputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.reading.parquet import import_pyarrow
from embedrt.sparse_vectors import SparseVectors

COLUMNS = {"dense": "embedding", "sparse": "sparse", "tokens": "tokens"}
"""Outputs of a model -> the columns that hold them."""


def _numbers(vector: NDArray[Any]) -> str:
    if vector.dtype == np.float32:
        return ", ".join([f"{value:.9g}" for value in vector.tolist()])  # 9 digits give any float32 back
    return ", ".join(map(str, vector.tolist()))


def _dense(vectors: Any) -> NDArray[Any]:
    """The dense vectors (n, D) of arrays and of Outputs."""
    found: NDArray[Any] = vectors if isinstance(vectors, np.ndarray) else vectors.dense
    return found


def _sparse_json(vectors: Any, k: int) -> str:
    row = vectors.sparse[k]
    return f'{{"indices": {row.indices.tolist()}, "values": [{_numbers(row.values)}]}}'


def _tokens_json(vectors: Any, k: int) -> str:
    return f"[{', '.join([f'[{_numbers(row)}]' for row in vectors.tokens[k]])}]"


AS_JSON: dict[str, Callable[[Any, int], str]] = {
    "dense": lambda vectors, k: f"[{_numbers(_dense(vectors)[k])}]",
    "sparse": _sparse_json,
    "tokens": _tokens_json,
}


def _fixed_lists(vectors: NDArray[Any], kind: Any) -> Any:
    """An Arrow column of vectors (n, D)."""
    pa, _ = import_pyarrow()
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).reshape(-1)), type=kind)


def _sparse_structs(given: Any, kind: Any) -> Any:
    """Indices and values of sparse vectors."""
    pa, _ = import_pyarrow()
    vectors: SparseVectors = given.sparse
    offsets = pa.array(vectors.offsets, pa.int32())
    lists = [pa.ListArray.from_arrays(offsets, pa.array(part)) for part in (vectors.indices, vectors.values)]
    return pa.StructArray.from_arrays(lists, fields=list(kind))


def _token_lists(given: Any, kind: Any) -> Any:
    """Lists of vectors (m, D)."""
    pa, _ = import_pyarrow()
    vectors: Sequence[NDArray[Any]] = given.tokens
    offsets = pa.array(np.cumsum([0, *map(len, vectors)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, _fixed_lists(np.concatenate(vectors), kind.value_type))


ARROW: dict[str, Callable[[Any, Any], Any]] = {
    "dense": lambda vectors, kind: _fixed_lists(_dense(vectors), kind),
    "sparse": _sparse_structs,
    "tokens": _token_lists,
}
"""Outputs -> vectors and an Arrow type to a column of it."""
