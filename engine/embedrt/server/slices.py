"""Long lists of token ids, read slice by slice.

JSON is read without letting another thread in: a million ids in one go make the event loop wait for 20 to 45 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

LONG_BYTES = 256 * 1024  # of a field
_SLICE_BYTES = 32 * 1024  # a fraction of a millisecond


def read_long_lists(body: bytes | bytearray | memoryview, shape: type[S]) -> S | None:
    """The body as `shape`, its long lists of numbers, or of lists of these, read in slices.

    None where it has none, or where anything is wrong with it: what reads it in one go says what that is. Of a field
    that is there twice, the last counts, and the others are not looked at.
    """
    try:
        fields: dict[str, Any] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        long = {name: raw for name, raw in fields.items() if len(memoryview(raw)) >= LONG_BYTES and _is_numbers(raw)}
        if not long:
            return None
        types = {field.encode_name: (field.name, field.type) for field in msgspec.structs.fields(shape)}
        rest = msgspec.json.encode({name: [] if name in long else raw for name, raw in fields.items()})
        found = msgspec.json.decode(rest, type=shape)
        for name, raw in long.items():
            attribute, kind = types[name]
            setattr(found, attribute, _joined(memoryview(raw)[1:-1], kind))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, KeyError):
        return None
    return found


def _is_numbers(raw: msgspec.Raw) -> bool:
    """Whether it is a list without strings and objects, so that each bracket and comma is one."""
    view = memoryview(raw)
    if bytes(view[:1]) != b"[":
        return False
    parts = (bytes(view[begin : begin + _SLICE_BYTES]) for begin in range(0, len(view), _SLICE_BYTES))
    return not any(b'"' in part or b"{" in part for part in parts)


def _joined(values: memoryview, kind: Any) -> list[Any]:
    """The list whose brackets are around these values.

    A slice ends at a comma. Where that lies in an inner list, the list is closed there, and the next slice's first list
    is the rest of it.
    """
    decoder = msgspec.json.Decoder(kind)
    whole: list[Any] = []
    depth = 1
    for part in _slices(values):
        after = depth + part.count(b"[") - part.count(b"]")
        if depth not in (1, 2) or after not in (1, 2):
            raise ValueError("lists in lists of lists")
        found = decoder.decode(b"[" * depth + part + b"]" * after)
        if depth == 2:
            whole[-1] += found[0]
            del found[0]
        whole += found
        depth = after
    return whole


def _slices(values: memoryview) -> Iterator[bytes]:
    """Parts of what stands between the brackets, without the commas between them."""
    begin = 0
    while len(values) - begin > _SLICE_BYTES:
        part = bytes(values[begin : begin + _SLICE_BYTES])
        size = part.rfind(b",")
        if size < 0:
            raise ValueError("a number longer than a slice")
        yield part[:size]
        begin += size + 1
    yield bytes(values[begin:])
