"""A request's body: its sort, its size, its compression, and what it says, each refused by name."""

from __future__ import annotations

import asyncio
import zlib
from typing import TypeVar

import msgspec
import numpy as np
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from embedrt.server.budget import ByteBudget
from embedrt.server.call import Call, call_of
from embedrt.server.counting import Counted, count_json, is_plain
from embedrt.server.draining import drain
from embedrt.server.errors import ServeError
from embedrt.server.explain import parse
from embedrt.server.pool import Pool
from embedrt.server.settings import Settings
from embedrt.server.sizes import size_of_values
from embedrt.server.slices import read_long_lists

S = TypeVar("S", bound=msgspec.Struct)

_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS  # by what the data begin with
_SLICE_BYTES = 256 * 1024  # about a millisecond of decompressing
_MEMBERS = 1024  # of a gzip body, each of which may be of nothing
SMALL_BYTES = 64 * 1024  # are parsed in less than a millisecond, whatever is in them
_MANY_NUMBERS = 50_000  # are read in one or two milliseconds
_OTHER_VALUES = 64  # strings and brackets of a request besides its texts: names of fields and what they say


async def read_json(request: Request, shape: type[S], settings: Settings, budget: ByteBudget, pool: Pool) -> S:
    """The request's body as `shape`.

    Raises:
        ServeError: no JSON by its header (415), too large (413), too slow (408), or not what is wanted.
    """
    call = call_of(request)
    check_content_type(request.headers)
    encoding = _encoding(request.headers)
    limit = int(settings.body_mb * 1e6)
    chunks = await _read(request, call, budget, limit, settings)
    if encoding:
        chunks = await _decompress(chunks, encoding, call, budget, limit, pool)
    size = sum(map(len, chunks))
    with call.timed("parse"):
        if size <= SMALL_BYTES:
            body = b"".join(chunks)
            budget.hold(call, size_of_values(size, body.count(b",") + body.count(b"["), plain=is_plain(body)))
            return parse(body, shape)
        budget.hold(call, size)  # the pieces and the whole, for a moment
        whole = [await pool.run(call.client, _joined, chunks)]
        budget.free(call, size)
        counted = await pool.run(call.client, _count, whole[0], settings)
        budget.hold(call, size_of_values(size, counted.values, plain=counted.plain))
        return await pool.alone(call.client, _parse_last, whole, shape, counted.numbers > _MANY_NUMBERS)


def _joined(chunks: list[bytes]) -> memoryview:
    """The pieces in one, each gone once it is copied.

    `b"".join` would hold the GIL for all of it, and the event loop would wait: 20 ms and more for 31 MB of new pages.
    """
    whole = np.empty(sum(map(len, chunks)), np.uint8)
    begin = 0
    chunks.reverse()
    while chunks:
        piece = np.frombuffer(chunks.pop(), np.uint8)
        for at in range(0, len(piece), _SLICE_BYTES):
            part = piece[at : at + _SLICE_BYTES]
            whole[begin : begin + len(part)] = part
            begin += len(part)
    return whole.data


def _parse_last(whole: list[memoryview], shape: type[S], in_slices: bool) -> S:
    """The body, which is freed here and not in the event loop: to give so many pages back takes milliseconds."""
    body = whole.pop()
    found = read_long_lists(body, shape) if in_slices else None
    return parse(body, shape) if found is None else found


def _count(body: memoryview, settings: Settings) -> Counted:
    """What a large body holds, once it is known that it is not millions of values."""
    counted = count_json(body)
    found = max(counted.strings, counted.brackets)
    if found > settings.request_texts + _OTHER_VALUES:
        raise too_many_texts(found - _OTHER_VALUES, settings.request_texts)
    if counted.values > settings.request_tokens + settings.request_texts + _OTHER_VALUES:
        count = counted.values - _OTHER_VALUES
        raise ServeError(
            "too_large",
            f"a request may have {settings.request_tokens} token ids, this has {count} values; split it, or raise "
            "request_tokens",
        )
    return counted


def too_many_texts(count: int, limit: int) -> ServeError:
    """The error for a request of more texts than it may have."""
    return ServeError(
        "too_large", f"a request may have {limit} texts, this has {count} or more; split it, or raise request_texts"
    )


def check_content_type(headers: Headers) -> None:
    """Refuse what is not called JSON: a page of another origin may send other types, or none, without asking first.

    Raises:
        ServeError: 415. A body without a type is taken from what is no web page.
    """
    given = headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return
    if not kind and "origin" not in headers:
        return
    raise ServeError(
        "wrong_type",
        f"the body must have Content-Type: application/json, not {given[:80] or 'none'!r}; with curl: "
        "-H 'Content-Type: application/json'",
    )


def _encoding(headers: Headers) -> str:
    given = headers.get("content-encoding", "").strip().lower()
    if given in ("", "identity"):
        return ""
    if given not in _ENCODINGS:
        raise ServeError(
            "wrong_type",
            f"Content-Encoding may be gzip, deflate or absent, not {given[:80]!r}",
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    return given


async def _read(request: Request, call: Call, budget: ByteBudget, limit: int, settings: Settings) -> list[bytes]:
    """The body in pieces, as it came: one that grows would be moved again and again."""
    if request.scope.get("embedrt.whole"):  # it came with its head: nothing is waited for
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ServeError("gone", "the client left while sending")
        whole: bytes = message["body"]
        if len(whole) > limit:
            raise _too_large(limit, len(whole))
        budget.hold(call, len(whole))
        return [whole]
    said = request.headers.get("content-length", "")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            if said.isdigit() and int(said) > limit:
                raise await _too_large_by(request, limit, int(said))
            if said.isdigit():  # all of it at once: many that come side by side would else refuse each other halfway
                budget.hold(call, int(said))
            stream = request.stream()
            while True:
                async with asyncio.timeout(settings.idle_timeout_s):
                    chunk = await anext(stream, None)
                if chunk is None:
                    break
                if not said.isdigit():
                    budget.hold(call, len(chunk))
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise await _too_large_by(request, limit, size)
    except TimeoutError:
        raise ServeError(
            "slow_body",
            f"the body did not come within {settings.body_timeout_s:g} s, or nothing of it for "
            f"{settings.idle_timeout_s:g} s",
            headers={"Connection": "close"},
        ) from None
    except ClientDisconnect:
        raise ServeError("gone", "the client left while sending") from None
    return chunks


async def _too_large_by(request: Request, limit: int, size: int) -> ServeError:
    """The error for a body that is too large, once enough of the rest was read and thrown away."""
    whole = await drain(request.receive, request.headers.get("expect", ""), limit, size)
    return _too_large(limit, size, {} if whole else {"Connection": "close"})


def _too_large(limit: int, size: int, headers: dict[str, str] | None = None) -> ServeError:
    return ServeError(
        "too_large", f"the body may have {limit} bytes, this has {size} or more; split it, or raise body_mb",
        headers=headers,
    )  # fmt: skip


async def _decompress(
    packed: list[bytes], encoding: str, call: Call, budget: ByteBudget, limit: int, pool: Pool
) -> list[bytes]:
    """What is in a gzip or zlib body, never more than `limit` bytes; in slices, of which all but a short one at first
    are made in the pool: 64 bodies side by side would hold the event loop for 64 slices."""
    body: list[bytes] = []
    size = members = 0
    decoder = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        for chunk in packed:
            rest = chunk
            while rest:
                if decoder.eof:  # gzip files may be several, one after the other
                    members += 1
                    if members == _MEMBERS:
                        raise ServeError("malformed", f"the body is more than {_MEMBERS} {encoding} files in a row")
                    decoder = zlib.decompressobj(_ZLIB_OR_GZIP)
                if body:
                    part = await pool.run(call.client, decoder.decompress, rest, _SLICE_BYTES)
                else:
                    part = decoder.decompress(rest, SMALL_BYTES)
                size += len(part)
                budget.hold(call, len(part))
                body.append(part)
                if size > limit:
                    raise ServeError(
                        "too_large", f"the body may have {limit} bytes, this has more when it is decompressed; split it"
                    )
                rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    except zlib.error as exc:
        raise ServeError("malformed", f"the body is not {encoding}, as Content-Encoding says: {exc}") from exc
    if not decoder.eof:
        raise ServeError("malformed", f"the body ends in the middle of its {encoding} data")
    return body
