"""Vectors to bytes: JSON numbers in the fewest digits that give the same float32 back, or base64.

Long answers are written in slices, with the event loop let in between.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from embedrt.embedder import Embedder
from embedrt.options import EncodeOptions
from embedrt.server.engine import Answer

_SLICE_NUMBERS = 65536  # about 3 ms of writing


def to_json(value: object) -> bytes:
    """JSON of plain values and numpy arrays."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def to_base64(vector: NDArray[Any]) -> str:
    """A vector's float32 values, little-endian, in base64."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode("ascii")


async def write_rows(
    answer: Answer, embedder: Embedder, options: EncodeOptions, shape: Callable[[int, Any], object]
) -> list[bytes]:
    """The answer's rows as JSON, comma-separated, in pieces; `shape(i, vector)` says what stands for input i."""
    pieces: list[bytes] = []
    width = max(1, max((row.size for row in answer.rows), default=1))
    step = max(1, _SLICE_NUMBERS // width)
    for k in range(0, len(answer.row_of), step):
        if k:
            await asyncio.sleep(0)
        rows = embedder.finish([answer.rows[row] for row in answer.row_of[k : k + step]], options)
        part = to_json([shape(k + i, vector) for i, vector in enumerate(rows)])[1:-1]
        pieces.append(part if not pieces else b"," + part)
    return pieces


def truncation_field(answer: Answer) -> Sequence[dict[str, int]]:
    """The inputs that were cut, as a field of an answer."""
    return [{"index": cut.index, "num_tokens": cut.num_tokens, "limit": cut.limit} for cut in answer.truncated]


def as_matrix(answer: Answer, embedder: Embedder, options: EncodeOptions) -> NDArray[np.float32]:
    """Finished vectors of all inputs, (N, D)."""
    matrix: NDArray[np.float32] = embedder.finish([answer.rows[row] for row in answer.row_of], options)
    return matrix
