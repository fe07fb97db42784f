"""What must be done so that a table holds what a corpus does. Pure: keys in, a plan out.

There may be many millions of rows, so they are arrays of tens of bytes a row, without an object for any of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedrt.vectors.keys import KEY_BYTES, Keys, Rows, first_rows, places_in


@dataclass(frozen=True)
class Hashed:
    """What rows were made of, as keys (N, KEY_BYTES)."""

    ids: Keys
    texts: Keys
    columns: Keys


NOTHING = Hashed(*(np.zeros((0, KEY_BYTES), np.uint8) for _ in range(3)))


@dataclass(frozen=True)
class Plan:
    """What becomes of the corpus' rows, known by their places in it from 0."""

    embed: NDArray[np.bool_]  # (N,) rows with a new text
    copy: Rows  # (N,) for a row whose vector is in the table, the table's row that has it; else -1
    copy_later: Rows  # (N,) for a row whose text is embedded in this run, the row that it is embedded for; else -1
    gone: Rows  # the table's rows that the corpus no longer has
    added: NDArray[np.bool_]  # (N,) rows with an id that is not in the table
    num_changed: int
    num_same: int

    @property
    def num_added(self) -> int:
        """Rows with a new id."""
        return int(self.added.sum())


def planned(now: Hashed, stored: Hashed) -> Plan:
    """The plan for these rows; each text is embedded once, and none that is there already.

    A vector is copied only from a row that keeps its text, or goes: one that changes may be written first. Of an empty
    table's plan only the texts' keys are looked at.
    """
    count = len(now.texts)
    copy, same, gone = np.full(count, -1, np.int64), np.zeros(count, bool), np.zeros(0, np.int64)
    added = np.ones(count, bool)
    if len(stored.ids):
        at = places_in(stored.ids, now.ids)
        there = np.flatnonzero(at >= 0)
        added[there] = False
        keeps_text = (now.texts[there] == stored.texts[at[there]]).all(axis=1)
        same[there] = keeps_text & (now.columns[there] == stored.columns[at[there]]).all(axis=1)
        source, left = np.ones(len(stored.ids), bool), np.ones(len(stored.ids), bool)
        source[at[there[~keeps_text]]] = left[at[there]] = False
        gone = np.flatnonzero(left)
        copy = _taken(np.flatnonzero(source), places_in(stored.texts[source], now.texts), where=~same)
    rest = np.flatnonzero(~same & (copy < 0))
    first = rest[first_rows(now.texts[rest])]
    embed = np.zeros(count, bool)
    embed[first] = True
    copy_later = np.full(count, -1, np.int64)
    again = first != rest
    copy_later[rest[again]] = first[again]
    num_same = int(same.sum())
    return Plan(embed, copy, copy_later, gone, added, int((~added).sum()) - num_same, num_same)


def _taken(rows: Rows, places: Rows, where: NDArray[np.bool_]) -> Rows:
    """`rows` at the places that are one, in the rows that want it; else -1."""
    found = np.full(len(places), -1, np.int64)
    chosen = where & (places >= 0)
    found[chosen] = rows[places[chosen]]
    return found
