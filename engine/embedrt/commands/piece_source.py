"""The pieces of a source's texts as a source of its own: what reads records reads pieces, and knows where they lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.encoding import EncodeRequest
from embedrt.commands.reading.records import Record
from embedrt.commands.source import TextSource
from embedrt.errors import FileFormatError, InputError
from embedrt.pieces import DEFAULT_OVERLAP, DEFAULT_TOKENS

if TYPE_CHECKING:
    from embedrt.embedder import Embedder

START = "start"
PLACES = ("text_row", START, "end")  # what a piece keeps: its record in the file, from 0, and its characters there
_SPLITTER = 1  # raised when texts are cut elsewhere than before

Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class PieceSize:
    """How long pieces are, in tokens."""

    tokens: int = DEFAULT_TOKENS
    overlap: int = DEFAULT_OVERLAP

    @property
    def name(self) -> str:
        """For folders and keys."""
        return f"pieces-{self.tokens}-{self.overlap}-{_SPLITTER}"

    @classmethod
    def named(cls, name: str) -> PieceSize:
        """The size that has this name."""
        tokens, overlap = map(int, name.split("-")[1:3])
        return cls(tokens, overlap)


class PieceTable:
    """The places of all pieces, in a file once they have been found: a search need not cut the corpus again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> NDArray[np.int64] | None:
        """PLACES of each piece (P, 3), in order; None where they are not there."""
        try:
            found: NDArray[np.int64] = np.load(self._path)
        except (OSError, ValueError, EOFError):
            return None
        return found if found.ndim == 2 and found.shape[1] == len(PLACES) else None

    def write(self, rows: list[tuple[int, int, int]]) -> None:
        """Keep them; a folder that cannot be written is done without."""
        part = self._path.with_suffix(".part.npy")
        try:
            np.save(part, np.array(rows, np.int64).reshape(-1, len(PLACES)))
            part.replace(self._path)
            for stale in self._path.parent.glob(f"{self._path.name.rpartition('-')[0]}-*.npy"):
                if stale != self._path:
                    stale.unlink(missing_ok=True)
        except OSError:
            part.unlink(missing_ok=True)


@dataclass(frozen=True)
class PieceSource(TextSource):
    """Records are pieces: rows count them, lines are those of their texts, PLACES are among what they keep.

    An empty text, and one that fits, is one piece. A record without a text stays one.
    """

    split: Callable[[str], Spans] = lambda text: [(0, len(text))]
    size: PieceSize = field(default_factory=PieceSize)
    table: PieceTable | None = None

    def records(self) -> Iterator[Record]:
        """The pieces of all records."""
        known = None if self.table is None else self.table.read()
        places: list[tuple[int, int, int]] = []
        for record in super().records():
            if taken := next((name for name in PLACES if name in record.kept), None):
                raise FileFormatError(f"--keep: pieces have a column {taken!r} of their own; name the others")
            for start, end in self._spans(record) if known is None else _of(record, known):
                text = None if record.text is None else record.text[start:end]
                kept = {**dict(zip(PLACES, (record.row, start, end), strict=True)), **record.kept}
                yield replace(record, row=len(places), text=text, kept=kept)
                places.append((record.row, start, end))
        if known is None and self.table is not None:
            self.table.write(places)

    def count(self) -> None:
        """Not known before all are cut."""

    @property
    def reading(self) -> dict[str, str | int | None]:
        """What decides which texts the bytes hold."""
        return {**super().reading, "pieces": self.size.name}

    def _spans(self, record: Record) -> Spans:
        if record.text is None:
            return [(0, 0)]
        try:
            return self.split(record.text)
        except InputError:  # told, or skipped, where it is embedded
            return [(0, len(record.text))]


def taken_apart(record: Record) -> tuple[int, tuple[int, int] | None, dict[str, Any]]:
    """A record's row in its file, its characters there if it is a piece, and what else it keeps."""
    kept = dict(record.kept)
    if not all(name in kept for name in PLACES):
        return record.row, None, kept
    row, start, end = (kept.pop(name) for name in PLACES)
    return row, (start, end), kept


def _of(record: Record, known: NDArray[np.int64]) -> Spans:
    """The known pieces of a record."""
    first, last = np.searchsorted(known[:, 0], [record.row, record.row + 1])
    return [(int(start), int(end)) for _, start, end in known[first:last]]


def pieces_of(
    source: TextSource, embedder: Embedder, request: EncodeRequest, size: PieceSize, folder: Path | None = None
) -> PieceSource:
    """The pieces of a source's texts, as the embedder's tokenizer counts them behind the request's prompt.

    Args:
        source: of whole texts.
        embedder: that will embed them.
        request: how.
        size: of a piece.
        folder: where the places may be kept from one run to the next; it must be there.

    Raises:
        OptionError: the size leaves no room for text.
    """
    keywords = {name: value for name, value in request.keywords().items() if name != "on_overflow"}

    def split(text: str) -> Spans:
        return embedder.split(text, tokens=size.tokens, overlap=size.overlap, **keywords)

    split("a " * embedder.max_tokens)  # a size that does not fit is said before anything is read
    found = PieceSource(source.path, source.format, source.how, split, size)
    print_ = source.fingerprint() if folder is not None else None
    if folder is None or print_ is None:
        return found
    content = hashlib.sha256(json.dumps([print_.sha256, found.reading]).encode()).hexdigest()[:16]
    return replace(found, table=PieceTable(folder / f"places-{embedder.identify(**request.keywords())}-{content}.npy"))
