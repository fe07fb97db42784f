"""The user's own columns: each is of one of four types, in every database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

from embedrt.errors import OptionError
from embedrt.vectors.keys import key_of

Value = str | int | float | bool | None
Type: TypeAlias = str
"""One of TITLES: text, integer, number, boolean."""

RESERVED = ("text", "vector")  # columns of the table's own; the others begin with PREFIX
PREFIX = "embedrt_"
ID, TEXT_HASH, COLUMNS_HASH = f"{PREFIX}id", f"{PREFIX}text_hash", f"{PREFIX}columns_hash"
OWN = (ID, TEXT_HASH, COLUMNS_HASH, *RESERVED)
_LARGEST = 2**63 - 1


def type_of(value: object, so_far: Type | None = None) -> Type | None:
    """The type of a column that held values of `so_far`, and now this one; None while nothing is known.

    Values that go together in no other way are kept as text; objects and lists as JSON.
    """
    found = _own_type(value)
    if found is None or found == so_far:
        return so_far
    if so_far is None:
        return found
    return "number" if {so_far, found} == {"integer", "number"} else "text"


def _own_type(value: object) -> Type | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if abs(value) <= _LARGEST else "text"
    return "number" if isinstance(value, float) else "text"


def converted(name: str, value: object, wanted: Type) -> Value:
    """A value as its column's type has it.

    Raises:
        OptionError: it cannot be.
    """
    if value is None:
        return None
    if wanted == "text":
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    found = _own_type(value)
    if found == wanted:
        return value  # type: ignore[return-value]  # _own_type has looked
    if wanted == "number" and found == "integer":
        return float(value)  # type: ignore[arg-type]
    shown = json.dumps(value, ensure_ascii=False)[:40]
    raise OptionError(f"the table's column {name!r} holds {TITLES[wanted]}, and the corpus has {shown}")


TITLES: dict[Type, str] = {
    "text": "text", "integer": "whole numbers", "number": "numbers", "boolean": "true or false",
}  # fmt: skip


def row_of(given: Mapping[str, object], types: Mapping[str, Type]) -> dict[str, Value]:
    """A record's values by the table's columns, in their order; what the record lacks is None.

    Raises:
        OptionError: it has a column that the table does not, or a value of another type.
    """
    for name in given:
        if name not in types:
            raise OptionError(
                f"the corpus has a column {name!r}, which the table does not ({', '.join(types) or 'it keeps none'})"
            )
    return {name: converted(name, given.get(name), wanted) for name, wanted in types.items()}


def hash_of(values: Mapping[str, Value]) -> bytes:
    """A key over a row's values, in whatever order they stand."""
    return key_of(json.dumps(values, ensure_ascii=False, sort_keys=True))


def refuse_reserved(names: Mapping[str, object]) -> None:
    """OptionError if a column is called as one of the table's own."""
    for name in names:
        if name in RESERVED or name.startswith(PREFIX):
            raise OptionError(f"the table has a column {name!r} of its own; rename the corpus' column, or leave it out")
