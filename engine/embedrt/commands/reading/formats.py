"""Which reader reads what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedrt.commands.reading.compression import SUFFIXES as PACKED
from embedrt.commands.reading.compression import without_packing
from embedrt.commands.reading.json_records import read_json, read_jsonl
from embedrt.commands.reading.parquet import read_parquet
from embedrt.commands.reading.plain import read_txt
from embedrt.commands.reading.records import How, Record
from embedrt.commands.reading.separated import read_csv, read_tsv
from embedrt.errors import FileFormatError, OptionError


@dataclass(frozen=True)
class Format:
    """One input format."""

    read: Callable[[Any, str, How], Iterator[Record]]
    suffixes: tuple[str, ...]
    options: frozenset[str]  # fields of How that mean something to it
    unit: str = "line"  # what Record.line counts


_COLUMNS = frozenset({"column", "keep", "encoding"})

FORMATS = {
    "txt": Format(read_txt, (".txt",), frozenset({"encoding"})),
    "jsonl": Format(read_jsonl, (".jsonl", ".ndjson"), _COLUMNS),
    "json": Format(read_json, (".json",), _COLUMNS, "item"),
    "csv": Format(read_csv, (".csv",), _COLUMNS | {"delimiter", "quoting"}),
    "tsv": Format(read_tsv, (".tsv", ".tab"), _COLUMNS | {"delimiter", "quoting"}),
    "parquet": Format(read_parquet, (".parquet",), _COLUMNS, "row"),
}
# Raised when the same bytes begin to give other records: earlier work on them is then no longer the same.
RULES = 2
SUFFIXES = {suffix: name for name, entry in FORMATS.items() for suffix in entry.suffixes}
# Files that people try, and what to do with them.
_FOREIGN = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "a spreadsheet: save it as CSV"),
    **dict.fromkeys((".pdf", ".docx", ".doc", ".hwp", ".hwpx", ".pptx", ".html", ".htm"),
                    "a document: save its texts, one per line (.txt) or with more beside them (.jsonl, .csv)"),
    **dict.fromkeys((".npy", ".npz"), "an array of numbers: texts are expected"),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), "a database: save the texts as CSV"),
    **dict.fromkeys((".arrow", ".feather"), "an Arrow file: save it as parquet"),
    **dict.fromkeys((".zip", ".tar", ".7z"), "an archive: unpack it"),
}  # fmt: skip


def format_of(path: Path) -> str:
    """The input format that a suffix stands for, one of compression left aside."""
    suffix = without_packing(path).suffix.lower()
    try:
        return SUFFIXES[suffix]
    except KeyError:
        if suffix in _FOREIGN:
            raise FileFormatError(f"{path} is {_FOREIGN[suffix]}") from None
        raise FileFormatError(
            f"{path}: unknown suffix {path.suffix!r}; known: {', '.join(SUFFIXES)}, each also packed "
            f"({', '.join(PACKED)}); or say what it is with --input-format"
        ) from None


def is_known(path: Path) -> bool:
    """Whether the suffix says the format."""
    return without_packing(path).suffix.lower() in SUFFIXES


def check_options(name: str, format_name: str, how: How) -> None:
    """Refuse what means nothing to a format.

    Raises:
        OptionError: an option is given that the format does not have.
    """
    for option in ("column", "encoding", "delimiter", "quoting", "keep"):
        if getattr(how, option) in (None, ()) or option in FORMATS[format_name].options:
            continue
        why = "plain lines, which have none" if format_name == "txt" else f"{format_name}, which has none"
        spelled = how.keep_option if option == "keep" else f"--{option}"
        raise OptionError(f"{spelled} does not go with {name}: it is read as {why}; see --input-format")
