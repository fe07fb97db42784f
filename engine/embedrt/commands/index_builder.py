"""Making the vectors of a corpus: what is known is copied, the rest embedded, and an interrupted run gone on with."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedrt._schema import SchemaError, decode
from embedrt.commands.encoding import EncodeRequest
from embedrt.commands.known_vectors import Known, vector_of
from embedrt.commands.source import TextSource
from embedrt.commands.state import save_json
from embedrt.commands.writers import NpyWriter, Shape, naming
from embedrt.errors import FileFormatError, InputError
from embedrt.progress import Progress
from embedrt.vectors.keys import KEY_BYTES, key_of

if TYPE_CHECKING:
    from embedrt.embedder import Embedder

_BLOCK_TEXTS = 256
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


class Builder:
    """Makes STEM.npy and STEM.keys.npy in two passes: which texts are new; their vectors, then all rows in order."""

    def __init__(self, embedder: Embedder, corpus: TextSource, stem: Path, request: EncodeRequest) -> None:
        self._embedder = embedder
        self._corpus = corpus
        self._stem = stem
        self._keywords: dict[str, Any] = request.keywords()

    def build(self, sources: list[Known], progress: Progress) -> Built:
        """Write vectors and keys."""
        keys, fresh, wanted = [], dict[bytes, int](), []
        for row, text in enumerate(self._corpus.texts()):
            key = key_of(self._corpus.content_of(text))
            keys.append(key)
            if key not in fresh and vector_of(key, sources) is None:
                fresh[key] = len(fresh)
                wanted.append(row)
        begun = _Partial(hashlib.sha256(b"".join(fresh)).hexdigest())
        num_cut = self._embed(wanted, begun, progress)
        new = np.load(self._beside(".new"), mmap_mode="r")
        # Written aside and renamed, because a reader may hold the file that it replaces.
        writer = NpyWriter(self._beside(".part"), 0, self._shape())
        for key in keys:
            known = vector_of(key, sources)
            writer.append_array(new[fresh[key]] if known is None else known)
        writer.finish().replace(self._beside(".npy"))
        table = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)
        with naming(self._beside(".keys.npy")):
            np.save(self._beside(".keys.npy"), table)
        return Built(len(keys), sum(1 for key in keys if key in fresh), num_cut)

    def _embed(self, rows: list[int], begun: _Partial, progress: Progress) -> int:
        """Embed the texts of some rows, in order, into the .new file, from where it ends; the number that was cut."""
        at = self._earlier(begun)
        writer = NpyWriter(self._beside(".new"), at.position, self._shape())
        rest = rows[at.done :]
        title = f"embedding the corpus from text {at.done:,}" if at.done else "embedding the corpus"
        try:
            if rest:
                with progress.step(title, len(rest)) as advance:
                    at = self._append(rest, at, writer, advance)
            writer.finish()
        except InputError as exc:
            raise FileFormatError(f"{self._corpus.name}: {exc}") from exc
        finally:
            writer.close()
        return at.num_cut

    def _append(self, rows: list[int], at: _Partial, writer: NpyWriter, advance: Callable[[int], None]) -> _Partial:
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

    def _texts_of(self, rows: list[int]) -> Iterator[str]:
        chosen = set(rows)
        return (text for row, text in enumerate(self._corpus.texts()) if row in chosen)
