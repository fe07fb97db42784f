"""`embedrt mine`: pairs of texts that mean the same, within a file or between two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.commands.reading.records import Record
from embedrt.commands.source import TextSource
from embedrt.commands.tables import Row, rounded, write_table
from embedrt.progress import Progress
from embedrt.vectors.pairs import Pairs, pairs_between, pairs_within
from embedrt.vectors.rows import Floats

COLUMNS = {
    "score": float, "row_a": int, "row_b": int, "line_a": int, "line_b": int, "text_a": str, "text_b": str,
}  # fmt: skip
PARAPHRASES_K, TRANSLATIONS_K = 10, 4  # neighbours, where the user says nothing


@dataclass(frozen=True)
class Bounds:
    """Which pairs are wanted."""

    top_k: int | None = None  # neighbours of each text
    threshold: float | None = None  # the least score
    max_pairs: int = 500_000


@dataclass(frozen=True)
class MinedPair:
    """A pair with its texts."""

    score: float
    a: Record
    b: Record

    def values(self) -> tuple[Any, ...]:
        """As COLUMNS has them."""
        a, b = self.a, self.b
        return (rounded(self.score), a.row, b.row, a.line, b.line, a.text, b.text)


def mine(vectors: Floats, bounds: Bounds, progress: Progress) -> Pairs:
    """The most alike pairs of a file's rows (N, D), by cosine, best first."""
    least = -np.inf if bounds.threshold is None else bounds.threshold
    with progress.step("comparing", len(vectors)) as advance:
        return pairs_within(
            vectors, bounds.top_k or PARAPHRASES_K, bounds.max_pairs, threshold=least, advance=advance
        ).above(least)


def mine_between(a: Floats, b: Floats, bounds: Bounds, progress: Progress) -> Pairs:
    """Rows of two files (N, D) and (M, D) that translate each other, by margin, each in one pair, best first."""
    with progress.step("comparing", len(a) + len(b)) as advance:
        pairs = pairs_between(a, b, k=bounds.top_k or TRANSLATIONS_K, advance=advance)
    return (pairs if bounds.threshold is None else pairs.above(bounds.threshold)).best(bounds.max_pairs)


def with_texts(pairs: Pairs, sources: Sequence[TextSource]) -> Iterator[MinedPair]:
    """The pairs with their records, in order; `sources` are one file, or two.

    Only records that are in a pair are held.
    """
    first = _records(sources[0], pairs.first if len(sources) == 2 else np.concatenate([pairs.first, pairs.second]))
    second = _records(sources[1], pairs.second) if len(sources) == 2 else first
    columns = (pairs.scores.tolist(), pairs.first.tolist(), pairs.second.tolist())
    return (MinedPair(score, first[i], second[j]) for score, i, j in zip(*columns, strict=True))


def write_pairs(path: Path, pairs: Iterator[MinedPair]) -> None:
    """A row for each pair; columns that are kept come with _a and _b behind their names."""
    write_table(path, COLUMNS, (Row(pair.values(), _along(pair)) for pair in pairs))


def _along(pair: MinedPair) -> Record:
    sides = (("a", pair.a), ("b", pair.b))
    kept = {f"{name}_{side}": value for side, record in sides for name, value in record.kept.items()}
    return Record(pair.a.row, pair.a.line, pair.a.text, None, kept)


def _records(source: TextSource, rows: Any) -> dict[int, Record]:
    wanted = set(rows.tolist())
    return {record.row: record for record in source.records() if record.row in wanted}
