"""The tables of hits that `embedrt search` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class ShownHit:
    """A line of the table."""

    rank: int
    score: float
    where: str | None  # in the corpus: its line, or its id
    kept: Mapping[str, Any]
    text: str


def print_hits(
    query: str | None, hits: Sequence[ShownHit], where: tuple[str, Literal["left", "right"]] | None,
    names: Sequence[str], console: Console, empty: str,
) -> None:  # fmt: skip
    """Print the hits of a query, under its text if that is given: rank, score, place, the columns `names`, text."""
    from rich.text import Text

    from embedrt.cli.tables import compact_table
    from embedrt.commands.labels import label

    if query is not None:
        console.print(Text(label(query, console.width), "bold"))
    kept: list[tuple[str, Literal["left"]]] = [(name, "left") for name in names]
    places = [where] if where is not None else []
    table = compact_table(("", "right"), ("score", "right"), *places, *kept, ("text", "left"))
    for hit in hits:
        values = [Text(label(_shown(hit.kept.get(name)), 60)) for name in names]
        place = [label(hit.where or "-", 40)] if where is not None else []
        table.add_row(str(hit.rank), f"{hit.score:.4f}", *map(Text, place), *values, Text(label(hit.text, 240)))
    console.print(table if hits else empty)


def _shown(value: Any) -> str:
    """A kept value in a table."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
