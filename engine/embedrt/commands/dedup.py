"""`embedrt dedup`: one text of each group of near duplicates stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.kept_rows import write_kept
from embedrt.commands.reading.records import Record
from embedrt.commands.source import TextSource
from embedrt.commands.tables import Row, rounded, write_aside, write_table
from embedrt.pooling import l2_normalize
from embedrt.progress import Progress
from embedrt.similarity import pairwise
from embedrt.vectors.groups import representatives
from embedrt.vectors.keys import distinct_rows, first_rows, table_of
from embedrt.vectors.rows import Floats

Rows = NDArray[np.int64]
GROUP_COLUMNS = {
    "row": int, "line": int, "kept_row": int, "kept_line": int, "score": float, "exact": bool, "text": str,
    "kept_text": str,
}  # fmt: skip


@dataclass(frozen=True)
class Duplicates:
    """For each row of a file which row stands for it."""

    stands: Rows  # (N,) itself for the rows that stay
    scores: Floats  # (N,) cosine to that row; 1 for itself
    exact: NDArray[np.bool_]  # (N,) the very text of that row, letter for letter; false for itself

    @property
    def stay(self) -> NDArray[np.bool_]:
        """(N,) rows that are kept."""
        return np.asarray(self.stands == np.arange(len(self.stands)))

    def counts(self) -> dict[str, int]:
        """For machines."""
        num_rows, kept, exact = len(self.stands), int(self.stay.sum()), int(self.exact.sum())
        groups = len(np.unique(self.stands[~self.stay]))
        return {"rows": num_rows, "kept": kept, "exact": exact, "near": num_rows - kept - exact, "groups": groups}

    def largest(self, count: int) -> list[tuple[int, int]]:
        """Rows that stand for most others, and for how many."""
        counted = Counter(self.stands[~self.stay].tolist())
        return sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:count]


def find_duplicates(
    source: TextSource, vectors: Floats, threshold: float, progress: Progress, *, keep_longest: bool = False
) -> Duplicates:
    """Equal texts by hash, then near ones by cosine.

    No two rows that stay are within a cosine of `threshold` of each other.

    Args:
        source: of N texts.
        vectors: (N, D), may be mapped from a file.
        threshold: from which cosine on texts count as the same.
        keep_longest: of a group the longest text stays, not the first.
    """
    same = first_rows(table_of(source.texts()))
    distinct = distinct_rows(same)
    if keep_longest:
        lengths = np.fromiter((len(text) for text in source.texts()), np.int64, len(same))
        distinct = distinct[np.argsort(-lengths[distinct], kind="stable")]
    with progress.step("comparing", len(distinct)) as advance:
        found = representatives(vectors, threshold, advance=advance, chosen=distinct)
    near = np.arange(len(same))
    near[distinct] = distinct[found]
    stands = near[same]
    exact = (same != np.arange(len(same))) & (stands == same)
    return Duplicates(stands, _scores(vectors, stands), exact)


def write_report(path: Path, source: TextSource, found: Duplicates) -> None:
    """A row for each text that is dropped, with the one that stays for it."""
    write_table(path, GROUP_COLUMNS, _dropped(source, found))


def write_rest(path: Path, source: TextSource, found: Duplicates) -> None:
    """What stays, in the input's own format."""
    write_aside(path, lambda part: write_kept(source, found.stay, part))


def _dropped(source: TextSource, found: Duplicates) -> Iterator[Row]:
    wanted = set(found.stands[~found.stay].tolist())
    standing = {record.row: record for record in source.records() if record.row in wanted}
    for record in source.records():
        if found.stay[record.row]:
            continue
        other = standing[int(found.stands[record.row])]
        like = (rounded(found.scores[record.row]), bool(found.exact[record.row]))
        places = (record.row, record.line, other.row, other.line)
        yield Row((*places, *like, record.text, other.text), Record(record.row, record.line, record.text))


def _scores(vectors: Floats, stands: Rows) -> Floats:
    scores = np.ones(len(stands), np.float32)
    dropped = np.flatnonzero(stands != np.arange(len(stands)))
    for start in range(0, len(dropped), 8192):
        rows = dropped[start : start + 8192]
        scores[rows] = np.minimum(
            1, pairwise("cosine", l2_normalize(vectors[rows]), l2_normalize(vectors[stands[rows]]))
        )
    return scores
