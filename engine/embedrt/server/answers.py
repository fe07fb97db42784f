"""Vectors to bytes: JSON numbers in the fewest digits that give the same float32 back, or base64.

Long answers are written in slices, with the event loop let in between.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from embedrt.embedder import Embedder
from embedrt.options import EncodeOptions
from embedrt.server.engine import Answer
from embedrt.sparse_vectors import SparseVector

_SLICE_NUMBERS = 65536  # about 3 ms of writing
_SLICE_WEIGHTS = 8192  # about as long
_PIECE_BYTES = 256 * 1024


def to_json(value: object) -> bytes:
    """JSON of plain values and numpy arrays."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def to_base64(vector: NDArray[Any]) -> bytes:
    """A vector's float32 values, little-endian, in base64."""
    return binascii.b2a_base64(np.ascontiguousarray(vector, "<f4").data, newline=False)


Shape = Callable[[int, NDArray[Any]], bytes]  # what stands for input i in the answer, by its finished vector


@dataclass(frozen=True)
class Rows:
    """An answer's rows on their way to JSON, comma-separated."""

    answer: Answer
    embedder: Embedder
    options: EncodeOptions
    shape: Shape

    @property
    def step(self) -> int:
        """Rows that are written in one go."""
        width = max((row.size for row in self.answer.rows), default=1)
        return max(1, _SLICE_NUMBERS // max(1, width))

    def part(self, begin: int, end: int) -> bytes:
        """Those of some inputs."""
        rows = [self.answer.rows[row] for row in self.answer.row_of[begin:end]]
        return b",".join(map(self.shape, count(begin), self.embedder.finish(rows, self.options)))

    async def parts(self) -> AsyncIterator[bytes]:
        """All of them, in pieces."""
        step = self.step
        for k in range(0, len(self.answer.row_of), step):
            if k:
                await asyncio.sleep(0)
                yield b","
            yield self.part(k, k + step)


async def write_tokens(rows: Sequence[NDArray[np.float32]], row_of: Sequence[int]) -> AsyncIterator[bytes]:
    """Vectors of tokens (n, D) as JSON, one list of vectors per input, comma-separated, in pieces of a few vectors."""
    for i, row in enumerate(row_of):
        vectors = rows[row]
        step = max(1, _SLICE_NUMBERS // max(1, vectors.shape[1]))
        yield b",[" if i else b"["
        for k in range(0, len(vectors), step):
            yield (b"," if k else b"") + to_json(np.ascontiguousarray(vectors[k : k + step]))[1:-1]
            await asyncio.sleep(0)
        yield b"]"


async def write_weights(rows: Sequence[SparseVector], row_of: Sequence[int]) -> AsyncIterator[bytes]:
    """Sparse vectors as text-embeddings-inference writes them: a list of {"index", "value"} per input."""
    written = 0
    for i, row in enumerate(row_of):
        vector = rows[row]
        yield b",[" if i else b"["
        for k in range(0, len(vector), _SLICE_WEIGHTS):
            part = slice(k, k + _SLICE_WEIGHTS)
            values = to_json(np.ascontiguousarray(vector.values[part]))[1:-1].split(b",")
            pairs = zip(vector.indices[part].tolist(), values, strict=True)
            yield b"," * (k > 0) + b",".join([b'{"index":%d,"value":%b}' % pair for pair in pairs])
            written += len(values)
            if written >= _SLICE_WEIGHTS:
                written = 0
                await asyncio.sleep(0)
        yield b"]"


async def between(head: bytes, pieces: AsyncIterator[bytes], tail: bytes) -> AsyncIterator[bytes]:
    """The same bytes with `head` before and `tail` behind them, in pieces worth sending."""
    held = bytearray(head)
    async for piece in pieces:
        if len(held) >= _PIECE_BYTES:
            yield bytes(held)
            held.clear()
        held += piece
    yield bytes(held + tail)


class PiecesResponse(Response):
    """JSON that is sent as it is written, so that no more than a piece of it is held."""

    def __init__(self, first: list[bytes], rest: AsyncIterator[bytes]) -> None:
        super().__init__(media_type="application/json")
        del self.headers["content-length"]
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, as fast as the client reads."""
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._first:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        async for piece in self._rest:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def respond_rows(request: Request, head: bytes, rows: Rows, tail: bytes) -> Response:
    """An answer of rows between `head` and `tail`; a short one without what pieces need."""
    size = len(rows.answer.row_of)
    if size <= rows.step:
        return Response(head + rows.part(0, size) + tail, media_type="application/json")
    return await respond(request, between(head, rows.parts(), tail))


async def respond(request: Request, pieces: AsyncIterator[bytes]) -> Response:
    """An answer of pieces of JSON; with its length in front where it is one piece, and always for HTTP/1.0."""
    first = [await anext(pieces)]
    if request.scope["http_version"] == "1.0":
        first = [b"".join([*first, *[piece async for piece in pieces]])]
    if (second := await anext(pieces, None)) is None:
        return Response(first[0], media_type="application/json")
    return PiecesResponse([*first, second], pieces)


def truncation_field(answer: Answer) -> Sequence[dict[str, int]]:
    """The inputs that were cut, as a field of an answer."""
    return [{"index": cut.index, "num_tokens": cut.num_tokens, "limit": cut.limit} for cut in answer.truncated]


def as_matrix(answer: Answer, embedder: Embedder, options: EncodeOptions) -> NDArray[np.float32]:
    """Finished vectors of all inputs, (N, D)."""
    matrix: NDArray[np.float32] = embedder.finish([answer.rows[row] for row in answer.row_of], options)
    return matrix
