"""Conditions on columns, the same in every database: `lang = 'ko' AND (year >= 2020 OR year IS NULL)`.

::

    condition  = all { OR all }
    all        = one { AND one }
    one        = NOT one | "(" condition ")" | column test
    test       = ( = | != | <> | < | <= | > | >= ) value | [NOT] IN "(" value { "," value } ")" | IS [NOT] NULL
    column     = a word, or anything in "double quotes" or `backticks`
    value      = 'text' ('' is a quote), a number, TRUE, FALSE

As in SQL, a column without a value fulfils nothing but IS NULL, with NOT or without. NOT is carried inwards while
reading, so that a database needs no NOT of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from embedrt.databases.columns import TITLES, Type, Value
from embedrt.errors import OptionError


@dataclass(frozen=True)
class Compare:
    """A column beside a value."""

    column: str
    operator: str  # = != < <= > >=
    value: Value


@dataclass(frozen=True)
class OneOf:
    """A column's value is among some, or is there and is not."""

    column: str
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True)
class IsNull:
    """A column has no value, or has one."""

    column: str
    negated: bool = False


@dataclass(frozen=True)
class Several:
    """Conditions of which all must hold, or any."""

    parts: tuple[Condition, ...]
    any: bool


Condition: TypeAlias = Compare | OneOf | IsNull | Several

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"[^"]+"|`[^`]+`)
    | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
    | (?P<word>[^\W\d][\w.\-]*)
    | (?P<sign><=|>=|<>|!=|[=<>(),])
    )""",
    re.VERBOSE,
)
_OPPOSITE = {"=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_KEYWORDS = ("AND", "OR", "NOT", "IN", "IS", "NULL", "TRUE", "FALSE")


@dataclass(frozen=True)
class _Token:
    kind: str  # text, quoted, number, word, sign, keyword, end
    value: str
    at: int


def parse(text: str) -> Condition:
    """The condition that a text says.

    Raises:
        OptionError: it says none; with the place.
    """
    return _Parser(text).whole()


def _tokens(text: str) -> list[_Token]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise OptionError(f"where: cannot be read from {text[at:].strip()[:30]!r} on; {_EXAMPLE}")
        kind, value = match.lastgroup, match[match.lastgroup]
        if kind == "word" and value.upper() in _KEYWORDS:
            kind, value = "keyword", value.upper()
        found.append(_Token(kind, value, match.start(match.lastgroup)))
        at = match.end()
    return [*found, _Token("end", "", end)]


_EXAMPLE = "such as lang = 'ko' AND year >= 2020"


class _Parser:
    """Descends through the grammar of the module."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0

    def whole(self) -> Condition:
        found = self._any(False)
        if self._now.kind != "end":
            raise self._unexpected("AND, OR or the end")
        return found

    @property
    def _now(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, value: str) -> bool:
        """Go on if the next token is this keyword or sign."""
        if self._now.kind in ("keyword", "sign") and self._now.value == value:
            self._next += 1
            return True
        return False

    def _expect(self, value: str) -> None:
        if not self._take(value):
            raise self._unexpected(value)

    def _unexpected(self, wanted: str) -> OptionError:
        rest = self._text[self._now.at :].strip()[:30]
        return OptionError(f"where: {wanted} expected, {f'not {rest!r}' if rest else 'and it ends'}; {_EXAMPLE}")

    def _any(self, negated: bool) -> Condition:
        parts = [self._all(negated)]
        while self._take("OR"):
            parts.append(self._all(negated))
        return parts[0] if len(parts) == 1 else Several(tuple(parts), any=not negated)

    def _all(self, negated: bool) -> Condition:
        parts = [self._one(negated)]
        while self._take("AND"):
            parts.append(self._one(negated))
        return parts[0] if len(parts) == 1 else Several(tuple(parts), any=negated)

    def _one(self, negated: bool) -> Condition:
        if self._take("NOT"):
            return self._one(not negated)
        if self._take("("):
            found = self._any(negated)
            self._expect(")")
            return found
        return self._test(self._column(), negated)

    def _column(self) -> str:
        token = self._now
        if token.kind not in ("word", "quoted"):
            raise self._unexpected("a column")
        self._next += 1
        return token.value[1:-1] if token.kind == "quoted" else token.value

    def _test(self, column: str, negated: bool) -> Condition:
        if self._take("IS"):
            inverted = self._take("NOT")
            self._expect("NULL")
            return IsNull(column, inverted != negated)
        inverted = self._take("NOT")
        if self._take("IN"):
            return OneOf(column, self._values(), inverted != negated)
        token = self._now
        operator = "!=" if token.value == "<>" else token.value
        if inverted or token.kind != "sign" or operator not in _OPPOSITE:
            raise self._unexpected("IN" if inverted else "=, !=, <, <=, >, >=, IN or IS")
        self._next += 1
        return Compare(column, _OPPOSITE[operator] if negated else operator, self._value())

    def _values(self) -> tuple[Value, ...]:
        self._expect("(")
        found = [self._value()]
        while self._take(","):
            found.append(self._value())
        self._expect(")")
        return tuple(found)

    def _value(self) -> Value:
        token = self._now
        self._next += 1
        if token.kind == "text":
            return token.value[1:-1].replace("''", "'")
        if token.kind == "number":
            return float(token.value) if re.search(r"[.eE]", token.value) else int(token.value)
        if token.kind == "keyword" and token.value in ("TRUE", "FALSE"):
            return token.value == "TRUE"
        self._next -= 1
        raise self._unexpected("a value ('text', a number, TRUE or FALSE)")


def fitting(condition: Condition, types: Mapping[str, Type]) -> Condition:
    """The condition with values of the columns' types.

    Raises:
        OptionError: there is no such column, or it holds values of another type.
    """
    if isinstance(condition, Several):
        return replace(condition, parts=tuple(fitting(part, types) for part in condition.parts))
    name = condition.column
    if name not in types:
        raise OptionError(f"where: the table has no column {name!r}; {_kept(types)}")
    if isinstance(condition, Compare):
        return replace(condition, value=_fitting(name, condition.value, types[name]))
    if isinstance(condition, OneOf):
        return replace(condition, values=tuple(_fitting(name, value, types[name]) for value in condition.values))
    return condition


def _kept(types: Mapping[str, Type]) -> str:
    if not types:
        return "it keeps none: name them with --keep when it is made"
    return f"its columns: {', '.join(types)}"


def _fitting(name: str, value: Value, wanted: Type) -> Value:
    if wanted == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    fits = {
        "text": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, float),
    }
    if not fits[wanted]:
        instead = f": write '{value}'" if wanted == "text" else ""
        raise OptionError(f"where: {name!r} holds {TITLES[wanted]}, not {value!r}{instead}")
    return value


def to_sql(condition: Condition, column: Callable[[str], str], value: Callable[[Value], str]) -> str:
    """SQL, with names and values as the callables write them."""
    if isinstance(condition, Several):
        parts = (to_sql(part, column, value) for part in condition.parts)
        return "(" + (" OR " if condition.any else " AND ").join(parts) + ")"
    name = column(condition.column)
    if isinstance(condition, Compare):
        return f"{name} {condition.operator.replace('!=', '<>')} {value(condition.value)}"
    negated = "NOT " if condition.negated else ""
    if isinstance(condition, OneOf):
        return f"{name} {negated}IN ({', '.join(value(one) for one in condition.values)})"
    return f"{name} IS {negated}NULL"


def literal(value: Value) -> str:
    """A value as SQL writes it."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
