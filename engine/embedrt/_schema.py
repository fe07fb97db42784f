"""Strict decoding of JSON values into frozen dataclasses: no missing field, no unknown one, no other type."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


class SchemaError(ValueError):
    """A value does not fit the schema; the message begins with the place."""


def decode(cls: type[T], value: Any, where: str = "") -> T:
    """`value` (from json.loads) as an instance of the dataclass `cls`.

    Raises:
        SchemaError: with the dotted place of the first field that does not fit.
    """
    if not isinstance(value, dict):
        raise SchemaError(f"{where or 'top level'}: must be an object, not {_kind(value)}")
    hints = _hints(typing.cast("Any", cls))
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise SchemaError(f"{_join(where, unknown[0])}: unknown field")
    out = {}
    for name, fld in fields.items():
        if name in value:
            out[name] = _decode(hints[name], value[name], _join(where, name))
        elif fld.default is dataclasses.MISSING and fld.default_factory is dataclasses.MISSING:
            raise SchemaError(f"{_join(where, name)}: missing")
    return cls(**out)


@functools.cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    """Types by field. Annotations are strings and are compiled each time; a manifest has a thousand tensors."""
    return typing.get_type_hints(cls)


def _decode(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast("type[Any]", hint), value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (a for a in typing.get_args(hint) if a is not type(None))
        return _decode(inner, value, where)
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        if type(value) is not str or value not in choices:
            given = repr(value) if isinstance(value, str) else _kind(value)
            raise SchemaError(f"{where}: must be one of {', '.join(choices)}, not {given}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise SchemaError(f"{where}: must be a list, not {_kind(value)}")
        item = typing.get_args(hint)[0]
        return tuple(_decode(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise SchemaError(f"{where}: must be an object, not {_kind(value)}")
        item = typing.get_args(hint)[1]
        return {k: _decode(item, v, _join(where, k)) for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:  # bool is no int here
        raise SchemaError(f"{where}: must be {hint.__name__}, not {_kind(value)}")
    return value


def require(condition: bool, where: str, message: str) -> None:
    """Raise SchemaError with the place and the message unless the condition holds."""
    if not condition:
        raise SchemaError(f"{where}: {message}")


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
