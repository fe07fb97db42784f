"""JSON to a request's type; what is wrong with it is said by field, with the values that it may have."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterator
from typing import TypeVar

import msgspec
import msgspec.inspect as types

from embedrt.server.errors import ServeError

S = TypeVar("S", bound=msgspec.Struct)

_AT = re.compile(r" - at `\$\.?(.*)`$")
_SAID = 200  # characters of a message that are kept of its beginning, and of its end, where _AT is
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_ENUM = "Invalid enum value "
_HALF_A_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_PAIR_BYTES = 12
_SEARCHED_BYTES = 64 * 1024
_OTHER_ENCODINGS = (  # what a body begins with that is not UTF-8; longer marks first
    ((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "UTF-32 (it begins with a byte order mark)"),
    ((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "UTF-16 (it begins with a byte order mark)"),
    ((b"{\0", b"\0{"), "UTF-16"),
)


def parse(body: bytes | bytearray | memoryview, shape: type[S]) -> S:
    """The body as `shape`. A UTF-8 byte order mark is passed over, and so are fields that nobody knows and are null.

    Raises:
        ServeError: the body is empty or no JSON ("malformed"), or not of that shape ("invalid").
    """
    if bytes(body[: len(codecs.BOM_UTF8)]) == codecs.BOM_UTF8:
        body = body[len(codecs.BOM_UTF8) :]
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as exc:
        message = _shortened(str(exc))
        cleaned = _without_null_extras(body, shape) if _UNKNOWN.match(message) else None
        if cleaned is None:
            raise _invalid(message, shape) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        if not body or (len(body) <= _SEARCHED_BYTES and bytes(body).isspace()):
            empty = f"the body is empty; send JSON with the fields: {_names(shape)}"
            raise ServeError("malformed", empty) from exc
        raise ServeError("malformed", f"the body is not JSON: {_what_it_is(body, exc)}") from exc
    try:
        return msgspec.json.decode(cleaned, type=shape)
    except msgspec.ValidationError as exc:
        raise _invalid(_shortened(str(exc)), shape) from exc


def _shortened(message: str) -> str:
    """msgspec's message without the middle of a field's name, or value, that is as long as the body may be."""
    return message if len(message) <= 2 * _SAID else f"{message[:_SAID]}...{message[-_SAID:]}"


def _without_null_extras(body: bytes | bytearray | memoryview, shape: type[msgspec.Struct]) -> bytes | None:
    """The body without the fields that `shape` does not have and that are null; None if it has no such field."""
    found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    kept = {name: raw for name, raw in found.items() if name in shape.__struct_fields__ or bytes(raw) != b"null"}
    return msgspec.json.encode(kept) if len(kept) < len(found) else None


def _what_it_is(body: bytes | bytearray | memoryview, exc: Exception) -> str:
    for marks, name in _OTHER_ENCODINGS:
        if bytes(body[:4]).startswith(marks):
            return f"it is {name}; send UTF-8"
    if isinstance(exc, UnicodeDecodeError):
        return f"a text is not UTF-8: {exc.reason} 0x{exc.object[exc.start]:02x}"
    half = _half_a_pair(body)
    if half is not None:
        return (
            f"a text has half a surrogate pair (byte {half}), which no Unicode text can hold; it was cut within a "
            "character"
        )
    return str(exc)


def _half_a_pair(body: bytes | bytearray | memoryview) -> int | None:
    """Where half a surrogate pair stands, searched in slices: other threads get no turn during one."""
    for begin in range(0, len(body), _SEARCHED_BYTES):
        found = _HALF_A_PAIR.search(body, begin, begin + _SEARCHED_BYTES + _PAIR_BYTES)
        if found is not None and found.start() < begin + _SEARCHED_BYTES:
            return found.start()
    return None


def _invalid(message: str, shape: type[msgspec.Struct]) -> ServeError:
    """msgspec's message in the words of a client: the field first, and what it may be."""
    at = _AT.search(message)
    path = at[1] if at else ""
    text = _AT.sub("", message)
    if (unknown := _UNKNOWN.match(text)) is not None:
        owner = _struct_at(shape, path)
        near = difflib.get_close_matches(unknown[1], owner.__struct_fields__, n=1)
        hint = f", did you mean '{near[0]}'? The" if near else "; the"
        where = f" in {path}" if path else ""
        field = f"{path}.{unknown[1]}" if path else unknown[1]
        return ServeError(
            "invalid", f"there is no field '{unknown[1]}'{where}{hint} fields are: {_names(owner)}", param=field
        )
    if (missing := _MISSING.match(text)) is not None:
        field = f"{path}.{missing[1]}" if path else missing[1]
        return ServeError("invalid", f"the field '{field}' is missing", param=field)
    if text.startswith(_ENUM):
        values = ", ".join(sorted(set(_literals(shape, path)), key=str))
        return ServeError("invalid", f"{path} must be one of {values}, not {text[len(_ENUM) :]}", param=path)
    return ServeError("invalid", f"{path or 'the body'}: {text[0].lower()}{text[1:]}", param=path or None)


def _names(shape: type[msgspec.Struct]) -> str:
    return ", ".join(shape.__struct_fields__)


def _struct_at(shape: type[msgspec.Struct], path: str) -> type[msgspec.Struct]:
    """The struct at `path`, as in "parameters", below `shape`."""
    found: type[msgspec.Struct] = shape
    for name in filter(None, path.split(".")):
        inner = [kind for kind in _alternatives(_field(found, name)) if isinstance(kind, types.StructType)]
        if inner:
            found = inner[0].cls
    return found


def _literals(shape: type[msgspec.Struct], path: str) -> Iterator[str]:
    """The values that the field at `path` may have."""
    owner, _, name = path.rpartition(".")
    for kind in _alternatives(_field(_struct_at(shape, owner), name)):
        if isinstance(kind, types.LiteralType):
            yield from map(str, kind.values)


def _field(shape: type[msgspec.Struct], name: str) -> types.Type | None:
    described = types.type_info(shape)
    assert isinstance(described, types.StructType)
    return next((field.type for field in described.fields if field.encode_name == name.partition("[")[0]), None)


def _alternatives(kind: types.Type | None) -> tuple[types.Type, ...]:
    if kind is None:
        return ()
    return kind.types if isinstance(kind, types.UnionType) else (kind,)
