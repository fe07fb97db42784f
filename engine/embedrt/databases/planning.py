"""What must be done so that a table holds what a corpus does. Pure: hashes in, a plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from embedrt.databases.model import Hashes


@dataclass(frozen=True)
class Plan:
    """The corpus' rows, by their places in it from 0, and what becomes of each."""

    ids: tuple[str, ...]
    embed: Set[int]  # rows with a new text
    copy: Mapping[int, str]  # rows whose vector is there already, and the id of the row that has it
    copy_later: Mapping[int, str]  # the same, of rows that are embedded in this run
    gone: tuple[str, ...]  # ids of the table that the corpus no longer has
    num_added: int
    num_changed: int
    num_same: int


def planned(ids: Sequence[str], hashes: Sequence[Hashes], stored: Mapping[str, Hashes]) -> Plan:
    """The plan for rows with these ids and hashes; each text is embedded once, and none that is there already.

    A vector is copied only from a row that keeps its text, or goes: one that changes may be written first.
    """
    now = {row_id: made.text for row_id, made in zip(ids, hashes, strict=True)} if stored else {}
    source = {made.text: row_id for row_id, made in stored.items() if now.get(row_id, made.text) == made.text}
    embed: set[int] = set()
    copy: dict[int, str] = {}
    copy_later: dict[int, str] = {}
    first: dict[str, str] = {}  # text -> id of the row that it is embedded for
    num_added = num_same = 0
    for row, (row_id, made) in enumerate(zip(ids, hashes, strict=True)):
        before = stored.get(row_id)
        num_added += before is None
        if before == made:
            num_same += 1
        elif made.text in source:
            copy[row] = source[made.text]
        elif made.text in first:
            copy_later[row] = first[made.text]
        else:
            first[made.text] = row_id
            embed.add(row)
    gone = tuple(row_id for row_id in stored if row_id not in now)
    num_changed = len(ids) - num_added - num_same
    return Plan(tuple(ids), embed, copy, copy_later, gone, num_added, num_changed, num_same)
