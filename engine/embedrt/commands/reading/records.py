"""What every reader yields, and how a column is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from embedrt.errors import FileFormatError

DEFAULT_COLUMN = "text"
KeptNames = tuple[str, ...] | Literal["all"]


@dataclass(frozen=True)
class How:
    """What the user said of an input; None where the file says it itself."""

    column: str | None = None
    encoding: str | None = None
    delimiter: str | None = None  # one character
    quoting: str | None = None  # "double": fields may stand in double quotes; "none": quotes are characters
    keep: KeptNames = ()  # columns that go along
    keep_option: str = "--keep"  # how messages call what names them
    column_option: str = "--column"  # and what names the column of texts


@dataclass(frozen=True)
class Record:
    """One record: its text, or why it has none."""

    row: int  # from 0
    line: int  # from 1; where the record starts (parquet, json: row + 1)
    text: str | None
    problem: str | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)  # values of the columns that go along


def chosen_column(how: How, names: Sequence[str], name: str) -> str:
    """The column with the texts; FileFormatError if there is none, or more than one, of that name."""
    column = how.column
    if column is None:
        column = default_column(names, name, how.column_option)
    elif column not in names:
        raise no_column(name, column, names)
    refuse_twins(name, [column], names)
    return column


def default_column(names: Sequence[str], name: str, option: str) -> str:
    """ "text", or the only one."""
    if DEFAULT_COLUMN in names:
        return DEFAULT_COLUMN
    if len(names) == 1:
        return names[0]
    raise FileFormatError(f"{name} has no column {DEFAULT_COLUMN!r}; choose with {option}: {listed(names)}")


def kept_columns(how: How, column: str, names: Sequence[str], name: str) -> tuple[str, ...]:
    """The columns that go along: those named, or all but the texts'."""
    if how.keep == "all":
        kept = tuple(other for other in names if other != column)
    else:
        kept = how.keep
        for wanted in kept:
            if wanted not in names:
                raise no_column(name, wanted, names, how.keep_option)
    refuse_twins(name, kept, names)
    return kept


def refuse_twins(name: str, wanted: Iterable[str], names: Sequence[str]) -> None:
    """FileFormatError if a column that is wanted stands twice: which one is meant?"""
    for column in wanted:
        if names.count(column) > 1:
            raise FileFormatError(f"{name} has {names.count(column)} columns {column!r}; rename all but one")


def no_column(name: str, column: str, names: Sequence[str], option: str = "") -> FileFormatError:
    """The error about a column that is not there; a name that is a number says that the first line is no header."""
    missing = f"{name} has no column {column!r}{f' for {option}' if option else ''}; its columns: {listed(names)}"
    if any(_is_number(other) for other in names):
        missing += ". If that line is data, put a line of names before it (eval takes numbers too: --columns 1,2,3)"
    return FileFormatError(missing)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def listed(names: Sequence[str]) -> str:
    """Column names for a message."""
    return ", ".join(names) if names else "(none)"
