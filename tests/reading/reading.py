"""Bytes through a reader, as a file would go."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from embedrt.commands.reading.compression import unpacked
from embedrt.commands.reading.formats import FORMATS
from embedrt.commands.reading.records import How, Record


def records(data: bytes, format_name: str, name: str = "in", **how: Any) -> list[Record]:
    with unpacked(io.BytesIO(data), name) as stream:
        return list(FORMATS[format_name].read(stream, name, How(**how)))


def texts(data: bytes, format_name: str, **how: Any) -> list[str | None]:
    return [record.text for record in records(data, format_name, **how)]


def problems(data: bytes, format_name: str, **how: Any) -> dict[int, str]:
    """What is wrong, by line."""
    return {record.line: record.problem for record in records(data, format_name, **how) if record.problem}


DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
