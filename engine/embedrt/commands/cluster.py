"""`embedrt cluster`: groups of texts, and what each is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.commands.clusters import NOISE, Clusters, How, check, find_clusters
from embedrt.commands.kept import label_of
from embedrt.commands.keywords import key_words
from embedrt.commands.reading.records import Record
from embedrt.commands.source import TextSource
from embedrt.commands.tables import Row, rounded, write_table
from embedrt.progress import Progress
from embedrt.vectors.centred import centred
from embedrt.vectors.keys import distinct_rows, first_rows, table_of
from embedrt.vectors.rows import Floats

COLUMNS = {"row": int, "line": int, "cluster": int, "score": float, "text": str}
_CENTRAL = 3  # texts that show what a cluster is about
WORD_TEXTS = 2000  # texts of a cluster that its key words are taken from, the nearest to its centre


@dataclass(frozen=True)
class Described:
    """One cluster in words."""

    cluster: int
    size: int
    words: tuple[str, ...]
    texts: tuple[str, ...]  # the nearest to the centre, equal ones once
    lines: tuple[int, ...]  # where they are

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def without_groups(source: TextSource, vectors: Floats, column: str) -> tuple[Floats, int]:
    """The vectors (N, D) less what the texts with one value of a column have in common, and how many values it has.

    Args:
        source: keeps the column.
    """
    numbers: dict[str, int] = {}
    groups = [numbers.setdefault(label_of(record, column), len(numbers)) for record in source.records()]
    return centred(vectors, np.asarray(groups, np.int64)), len(numbers)


def cluster(source: TextSource, vectors: Floats, how: How, progress: Progress) -> Clusters:
    """Clusters of a file's texts by their vectors (N, D).

    Raises:
        OptionError: k is over the number of different texts.
    """
    if how.k is not None:
        check(how, len(distinct_rows(first_rows(table_of(source.texts())))))
    return find_clusters(vectors, how, progress)


def describe(source: TextSource, clusters: Clusters) -> list[Described]:
    """Key words and central texts of each cluster, the largest first; noise is not described."""
    chosen = {number: clusters.central(number, WORD_TEXTS) for number in range(len(clusters.sizes))}
    wanted = {row for rows in chosen.values() for row in rows}
    records = {record.row: record for record in source.records() if record.row in wanted}
    words = key_words({number: [records[row].text or "" for row in rows] for number, rows in chosen.items()})
    return [
        _described(number, clusters.sizes[number], words[number], [records[row] for row in rows])
        for number, rows in chosen.items()
    ]


def _described(number: int, size: int, words: tuple[str, ...], records: list[Record]) -> Described:
    distinct = list({record.text: record for record in reversed(records)}.values())[::-1]  # the first of equal ones
    central = distinct[:_CENTRAL]
    return Described(
        number, size, words, tuple(record.text or "" for record in central), tuple(record.line for record in central)
    )


def write_rows(path: Path, source: TextSource, clusters: Clusters) -> None:
    """A row for each text, in the file's order."""
    write_table(path, COLUMNS, _rows(source, clusters))


def num_noise(clusters: Clusters) -> int:
    """Texts that are in no cluster."""
    return int(np.count_nonzero(clusters.labels == NOISE))


def _rows(source: TextSource, clusters: Clusters) -> Iterator[Row]:
    for record in source.records():
        label, score = int(clusters.labels[record.row]), rounded(clusters.scores[record.row])
        yield Row((record.row, record.line, label, score, record.text), record)
