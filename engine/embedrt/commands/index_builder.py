"""Making the vectors of a corpus: what is known is copied, the rest embedded, and an interrupted run gone on with."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedrt._schema import SchemaError, decode
from embedrt.commands.encoding import EncodeRequest
from embedrt.commands.known_vectors import Known
from embedrt.commands.source import TextSource
from embedrt.commands.state import save_json
from embedrt.commands.writers import NpyWriter, Shape, naming
from embedrt.errors import FileFormatError, InputError
from embedrt.progress import Progress
from embedrt.vectors.keys import Keys, Rows, first_rows, places_in, table_of
from embedrt.vectors.nearest import blocks
from embedrt.vectors.rows import Floats

if TYPE_CHECKING:
    from embedrt.embedder import Embedder

_BLOCK_TEXTS = 256
_BLOCK_ROWS = 8192  # that are copied at once
_SAVE_SECONDS = 1.0  # a kill loses at most so much finished work


@dataclass(frozen=True)
class Built:
    """What was made."""

    num_rows: int
    num_embedded: int
    num_cut: int


@dataclass(frozen=True)
class _Partial:
    """How far a run has come: so many of the texts that are wanted are in so many of the file's first bytes."""

    wanted: str  # hash over the texts' keys
    done: int = 0
    position: int = 0
    num_cut: int = 0


@dataclass(frozen=True)
class _Plan:
    """Where each row's vector comes from. Tens of bytes a row: a corpus may have many millions of them."""

    source: NDArray[np.int8]  # (N,) the number of a source that has it; one past the last: this run embeds it
    place: Rows  # (N,) its row there
    wanted: Rows  # rows of the corpus whose texts are embedded, each text once, rising


def _planned(keys: Keys, sources: list[Known]) -> _Plan:
    """The earlier source gives a vector that several have."""
    first = first_rows(keys)
    source, place = np.full(len(keys), len(sources), np.int8), np.full(len(keys), -1, np.int64)
    for number, known in enumerate(sources):
        places = places_in(known.keys, keys)
        found = (place < 0) & (places >= 0)
        source[found], place[found] = number, places[found]
    new = np.flatnonzero(place < 0)
    wanted = new[first[new] == new]
    place[new] = np.searchsorted(wanted, first[new])
    return _Plan(source, place, wanted)


class Builder:
    """Makes STEM.npy and STEM.keys.npy in two passes: which texts are new; their vectors, then all rows in order."""

    def __init__(self, embedder: Embedder, corpus: TextSource, stem: Path, request: EncodeRequest) -> None:
        self._embedder = embedder
        self._corpus = corpus
        self._stem = stem
        self._keywords: dict[str, Any] = request.keywords()

    def build(self, sources: list[Known], progress: Progress) -> Built:
        """Write vectors and keys."""
        keys = table_of(self._corpus.content_of(text) for text in self._corpus.texts())
        plan = _planned(keys, sources)
        begun = _Partial(hashlib.sha256(keys[plan.wanted].tobytes()).hexdigest())
        num_cut = self._embed(plan.wanted, begun, progress)
        new = np.load(self._beside(".new"), mmap_mode="r")
        # Written aside and renamed, because a reader may hold the file that it replaces.
        writer = NpyWriter(self._beside(".part"), 0, self._shape())
        for block in _rows_of(plan, [*(known.vectors for known in sources), new]):
            writer.append_array(block)
        writer.finish().replace(self._beside(".npy"))
        with naming(self._beside(".keys.npy")):
            np.save(self._beside(".keys.npy"), keys)
        return Built(len(keys), int((plan.source == len(sources)).sum()), num_cut)

    def _embed(self, rows: Rows, begun: _Partial, progress: Progress) -> int:
        """Embed the texts of some rows, in order, into the .new file, from where it ends; the number that was cut."""
        at = self._earlier(begun)
        writer = NpyWriter(self._beside(".new"), at.position, self._shape())
        rest = rows[at.done :]
        title = f"embedding the corpus from text {at.done:,}" if at.done else "embedding the corpus"
        try:
            if len(rest):
                with progress.step(title, len(rest)) as advance:
                    at = self._append(rest, at, writer, advance)
            writer.finish()
        except InputError as exc:
            raise FileFormatError(f"{self._corpus.name}: {exc}") from exc
        finally:
            writer.close()
        return at.num_cut

    def _append(self, rows: Rows, at: _Partial, writer: NpyWriter, advance: Callable[[int], None]) -> _Partial:
        next_save = 0.0
        blocks = self._embedder.encode_stream(self._texts_of(rows), block_size=_BLOCK_TEXTS, **self._keywords)
        for block in blocks:
            writer.append_array(block.embeddings)
            at = replace(at, done=at.done + len(block.indices), num_cut=at.num_cut + len(block.truncated))
            if time.monotonic() >= next_save:
                at = replace(at, position=writer.sync())
                save_json(self._beside(".new.json"), asdict(at))
                next_save = time.monotonic() + _SAVE_SECONDS
            advance(len(block.indices))
        return at

    def _earlier(self, begun: _Partial) -> _Partial:
        """Where an interrupted run for the same texts ended; else the beginning."""
        try:
            at = decode(_Partial, json.loads(self._beside(".new.json").read_text(encoding="utf-8")))
            size = self._beside(".new").stat().st_size
        except (OSError, ValueError, SchemaError):
            return begun
        return at if at.wanted == begun.wanted and size >= at.position else begun

    def _shape(self) -> Shape:
        return Shape(self._embedder.dimension, "float32", False, {})

    def _beside(self, ending: str) -> Path:
        return self._stem.with_name(self._stem.name + ending)

    def _texts_of(self, rows: Rows) -> Iterator[str]:
        """The texts of some rows, rising; at least one."""
        chosen = np.zeros(int(rows[-1]) + 1, bool)
        chosen[rows] = True
        return compress(self._corpus.texts(), chosen.tobytes())


def _rows_of(plan: _Plan, sources: list[Floats]) -> Iterator[Floats]:
    """The vectors of all rows in order, in blocks."""
    for part in blocks(len(plan.place), _BLOCK_ROWS):
        rows = np.empty((part.stop - part.start, sources[-1].shape[1]), np.float32)
        for number, vectors in enumerate(sources):
            mine = plan.source[part] == number
            if mine.any():
                rows[mine] = vectors[plan.place[part][mine]]
        yield rows
