"""Vectors of a corpus, kept beside it: CORPUS.embedrt/ with one index per identity.

::

    <identity>.json              content hash of the corpus, rows, the files below
    <identity>-<content>.npy     vectors (N, D)
    <identity>-<content>.keys.npy  hash of each row's text (N, 16), so that a changed corpus embeds only new texts
    <identity>-<content>.new.*     what a run that was interrupted had embedded; the next one goes on from it

The .json is written last and replaced in one step, so a reader finds a whole index or none. One process at a time
makes an index; others wait for it, and then find it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedrt import locks
from embedrt._schema import SchemaError, decode
from embedrt.commands.encoding import EncodeRequest
from embedrt.commands.index_builder import Builder
from embedrt.commands.known_vectors import Known, vectors_of_embed
from embedrt.commands.source import TextSource
from embedrt.commands.state import save_json
from embedrt.errors import FileFormatError
from embedrt.progress import Progress

if TYPE_CHECKING:
    from embedrt.embedder import Embedder

_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """The .json of an index."""

    format: int
    identity: str
    corpus_sha256: str
    corpus_format: str
    column: str | None
    num_rows: int
    vectors: str
    keys: str


@dataclass(frozen=True)
class CorpusIndex:
    """Vectors of every row of a corpus."""

    vectors: NDArray[np.float32]  # (N, D), mapped from the disk
    identity: str
    folder: Path
    num_embedded: int  # texts embedded by this call
    num_reused: int  # rows whose vector was there already
    num_cut: int  # texts embedded by this call that were over the model's limit


@dataclass(frozen=True)
class Wish:
    """Which vectors of the corpus are wanted, and where they may come from."""

    request: EncodeRequest = field(default_factory=lambda: EncodeRequest(kind="document"))
    rebuild: bool = False  # use no earlier index
    made: Path | None = None  # an output of `embedrt embed`


_Loaded = tuple[Entry, NDArray[np.float32], NDArray[np.uint8]]  # with vectors (N, D) and keys (N, 16)


class _Folder:
    """Names within CORPUS.embedrt/."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.identity = identity
        self.entry = folder / f"{identity}.json"

    def find(self, content: str) -> CorpusIndex | None:
        """The index, if it is of this content."""
        loaded = self.load()
        if loaded is None or loaded[0].corpus_sha256 != content:
            return None
        return CorpusIndex(loaded[1], self.identity, self.folder, 0, len(loaded[1]), 0)

    def load(self) -> _Loaded | None:
        """What is there; None if there is no index of this identity, or a damaged one."""
        try:
            entry = decode(Entry, json.loads(self.entry.read_text(encoding="utf-8")))
            vectors = np.load(self.folder / entry.vectors, mmap_mode="r")
            keys = np.load(self.folder / entry.keys)
        except (OSError, ValueError, EOFError, SchemaError):
            return None
        whole = len(vectors) == len(keys) == entry.num_rows and entry.identity == self.identity
        return (entry, vectors, keys) if whole and entry.format == _FORMAT else None

    def remove_others(self, keep: set[str]) -> None:
        """Delete this identity's files of earlier contents."""
        for path in self.folder.glob(f"{self.identity}-*"):
            if path.name not in keep:
                path.unlink(missing_ok=True)


def open_index(
    embedder: Embedder, corpus: TextSource, folder: Path, progress: Progress, wish: Wish | None = None
) -> CorpusIndex:
    """The corpus' vectors: read if they are there, and made, wholly or for new texts, if not.

    Raises:
        FileFormatError: the corpus cannot be read, or is a pipe; or the vectors cannot be kept.
        EmbedrtError: a text cannot be embedded, or vectors that were given are of another kind.
    """
    wish = wish or Wish()
    corpus.check_fits(embedder)
    fingerprint = corpus.fingerprint()
    if fingerprint is None:
        raise FileFormatError(f"{corpus.name}: a corpus must be a file, because its vectors are kept beside it")
    place = _Folder(folder, embedder.identify(**wish.request.keywords()))
    content = hashlib.sha256(json.dumps([fingerprint.sha256, corpus.reading]).encode()).hexdigest()
    found = None if wish.rebuild else place.find(content)
    if found is not None:
        return found
    try:
        folder.mkdir(exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as exc:
        raise FileFormatError(
            f"the vectors cannot be kept in {folder} ({exc.strerror}); choose another place with --index DIR"
        ) from exc
    with _locked(lock):
        found = None if wish.rebuild else place.find(content)  # another process may have made it meanwhile
        try:
            return found or _make(embedder, corpus, place, content, wish, progress)
        except OSError as exc:
            raise FileFormatError(
                f"{exc.filename or folder}: {exc.strerror or exc}; what is embedded is kept, and the next run goes "
                "on from it; --index DIR chooses another place"
            ) from exc


def _make(
    embedder: Embedder, corpus: TextSource, place: _Folder, content: str, wish: Wish, progress: Progress
) -> CorpusIndex:
    stem = f"{place.identity}-{content[:16]}"
    earlier = None if wish.rebuild else place.load()
    sources = [] if wish.made is None else [vectors_of_embed(wish.made, corpus, place.identity, place.folder)]
    if earlier is not None:
        sources.append(Known(earlier[2], earlier[1]))
    made = Builder(embedder, corpus, place.folder / stem, wish.request).build(sources, progress)
    entry = Entry(
        format=_FORMAT, identity=place.identity, corpus_sha256=content, corpus_format=corpus.format,
        column=corpus.how.column, num_rows=made.num_rows, vectors=f"{stem}.npy", keys=f"{stem}.keys.npy",
    )  # fmt: skip
    save_json(place.entry, asdict(entry))
    place.remove_others({entry.vectors, entry.keys})
    vectors = np.load(place.folder / entry.vectors, mmap_mode="r")
    num_reused = made.num_rows - made.num_embedded
    return CorpusIndex(vectors, place.identity, place.folder, made.num_embedded, num_reused, made.num_cut)


@contextmanager
def _locked(lock: IO[str]) -> Iterator[None]:
    """Wait for other processes that make an index here; the lock dies with its process."""
    with lock:
        locks.hold(lock.fileno())
        yield
