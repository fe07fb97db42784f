"""Shards: which rows of which file are done together. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol, TypeVar

BYTES_PER_TOKEN = 4  # of text; English and code have more, Korean and Chinese fewer: shards need only be alike
SHARD_TOKENS = 2_000_000  # a minute of MiniLM, half an hour of E5-large on a few cores


@dataclass(frozen=True)
class Shard:
    """Rows `first` to `first + rows` of one input file: the unit that is done, written and recorded."""

    path: str  # of the file, relative to the input's root
    tag: str  # size and etag or time of change: another tag is another shard
    first: int
    rows: int
    tokens: int  # estimated
    start: int = 0  # bytes of a file of lines; 0 and 0 for others
    stop: int = 0

    @property
    def key(self) -> str:
        """16 hex digits: the same rows of an unchanged file have the same key in every plan."""
        parts = f"{self.path}\0{self.tag}\0{self.first}\0{self.rows}\0{self.start}\0{self.stop}"
        return hashlib.sha256(parts.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class InputFile:
    """One file of the input as it was when it was planned."""

    path: str
    tag: str
    bytes: int


class Named(Protocol):
    """What has an input file's path."""

    @property
    def path(self) -> str:
        """Relative to the input's root."""


P = TypeVar("P", bound=Named)


@dataclass(frozen=True)
class Group:
    """Rows that lie together in a file: a row group, or some lines."""

    rows: int
    text_bytes: int
    start: int = 0  # bytes, for lines
    stop: int = 0


def cut(file: InputFile, groups: Iterable[Group], max_tokens: int, target_tokens: int) -> Iterator[Shard]:
    """A file's shards, each of about `target_tokens` tokens.

    Small groups are joined. A large one is cut into equal parts where its rows can be read from any place (row groups,
    not lines): what lies before is decoded again, which costs little beside embedding.

    Args:
        file: whose rows they are.
        groups: in the file's order.
        max_tokens: of the model; what lies behind costs nothing.
        target_tokens: per shard.
    """
    first, held, held_tokens = 0, list[Group](), 0
    for group in groups:
        tokens = estimated_tokens(group, max_tokens)
        if held and held_tokens + tokens > target_tokens:
            yield from _shards(file, first, held, held_tokens, target_tokens)
            first, held, held_tokens = first + sum(g.rows for g in held), [], 0
        if group.rows:
            held.append(group)
            held_tokens += tokens
    if held:
        yield from _shards(file, first, held, held_tokens, target_tokens)


def estimated_tokens(group: Group, max_tokens: int) -> int:
    """Tokens that a group's texts have for the model: two special ones each, none behind its limit."""
    mean = group.text_bytes / max(1, group.rows) / BYTES_PER_TOKEN + 2
    return round(group.rows * min(mean, max_tokens))


def _shards(file: InputFile, first: int, groups: Sequence[Group], tokens: int, target: int) -> Iterator[Shard]:
    rows = sum(group.rows for group in groups)
    start, stop = groups[0].start, groups[-1].stop
    parts = 1 if stop else min(rows, max(1, round(tokens / target)))
    for k in range(parts):
        a, b = rows * k // parts, rows * (k + 1) // parts
        yield Shard(file.path, file.tag, first + a, b - a, tokens * (b - a) // rows, start, stop)


@dataclass(frozen=True)
class Changes:
    """What differs between an input and the plan that was made of it, by path."""

    changed: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.new or self.gone)

    def told(self, most: int = 5) -> list[str]:
        """A line per file, and a last one for the rest."""
        lines = [f"{path}: {what}" for what in ("changed", "new", "gone") for path in getattr(self, what)]
        return lines if len(lines) <= most else [*lines[:most], f"and {len(lines) - most:,} more"]


def paired(planned: Iterable[P], found: Iterable[InputFile]) -> Iterator[tuple[P | None, InputFile | None]]:
    """Entries of a plan and the files of the same paths; at the end those that have no like.

    Only what has not met its like is held, which is little as long as both are in nearly the same order.
    """
    left: dict[str, P] = {}
    right: dict[str, InputFile] = {}
    for entry, file in zip_longest(planned, found):
        if entry is not None:
            left[entry.path] = entry
        if file is not None:
            right[file.path] = file
        for path in {one.path for one in (entry, file) if one is not None}:
            if path in left and path in right:
                yield left.pop(path), right.pop(path)
    yield from ((entry, None) for entry in left.values())
    yield from ((None, file) for file in right.values())


def changes(planned: Iterable[InputFile], found: Iterable[InputFile]) -> Changes:
    """Compare by path and tag."""
    changed, new, gone = list[str](), list[str](), list[str]()
    for before, after in paired(planned, found):
        if before is None:
            new.extend([] if after is None else [after.path])
        elif after is None:
            gone.append(before.path)
        elif before.tag != after.tag:
            changed.append(before.path)
    return Changes(tuple(sorted(changed)), tuple(sorted(new)), tuple(sorted(gone)))
