"""Vectors of a corpus, kept beside it: CORPUS.embedrt/ with one index per identity.

::

    <identity>.json              content hash of the corpus, rows, the files below
    <identity>-<content>.npy     vectors (N, D)
    <identity>-<content>.keys.npy  hash of each row's text (N, 16), so that a changed corpus embeds only new texts

The .json is written last and replaced in one step, so a reader finds a whole index or none. One process at a time
makes an index; others wait for it, and then find it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedrt._schema import SchemaError, decode
from embedrt.commands.source import TextSource
from embedrt.commands.state import save_json
from embedrt.commands.writers import NpyWriter, Shape
from embedrt.errors import FileFormatError, InputError
from embedrt.progress import Progress

if TYPE_CHECKING:
    from embedrt.embedder import Embedder

_KEY_BYTES = 16
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
    embedder: Embedder, corpus: TextSource, folder: Path, progress: Progress, *, rebuild: bool = False
) -> CorpusIndex:
    """The corpus' vectors as documents: read if they are there, and made, wholly or for new texts, if not.

    Raises:
        FileFormatError: the corpus cannot be read, or is a pipe.
        EmbedrtError: a text cannot be embedded.
    """
    fingerprint = corpus.fingerprint()
    if fingerprint is None:
        raise FileFormatError(f"{corpus.name}: a corpus must be a file, because its vectors are kept beside it")
    identity = embedder.identify(kind="document")
    place = _Folder(folder, identity)
    content = hashlib.sha256(json.dumps([fingerprint.sha256, corpus.reading]).encode()).hexdigest()
    found = None if rebuild else place.find(content)
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
        found = None if rebuild else place.find(content)  # another process may have made it meanwhile
        return found or _make(embedder, corpus, place, content, None if rebuild else place.load(), progress)


def _make(
    embedder: Embedder, corpus: TextSource, place: _Folder, content: str, earlier: _Loaded | None, progress: Progress
) -> CorpusIndex:
    stem = f"{place.identity}-{content[:16]}"
    made = _Builder(embedder, corpus, place, stem).build(earlier, progress)
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
        try:
            import fcntl
        except ImportError:  # Windows has no such locks
            pass
        else:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class _Built:
    num_rows: int
    num_embedded: int
    num_cut: int


class _Builder:
    """Two passes over the corpus: which texts are new; their vectors, then all rows in order."""

    def __init__(self, embedder: Embedder, corpus: TextSource, place: _Folder, stem: str) -> None:
        self._embedder = embedder
        self._corpus = corpus
        self._folder = place.folder
        self._stem = stem

    def build(self, earlier: _Loaded | None, progress: Progress) -> _Built:
        """Write vectors and keys."""
        known: dict[bytes, int] = {}
        if earlier is not None:
            known = {key.tobytes(): row for row, key in enumerate(earlier[2])}
        keys, fresh, wanted = [], dict[bytes, int](), []
        for row, text in enumerate(self._corpus.texts()):
            key = _key(text)
            keys.append(key)
            if key not in known and key not in fresh:
                fresh[key] = len(fresh)
                wanted.append(row)
        new_path = self._folder / f"{self._stem}.new"
        num_cut = self._embed(wanted, new_path, progress)
        new = np.load(new_path, mmap_mode="r")
        part = self._folder / f"{self._stem}.part"  # renamed, because a reader may hold the file it replaces
        writer = NpyWriter(part, 0, Shape(int(new.shape[1]), "float32", False, {}))
        for key in keys:
            writer.append_array(new[fresh[key]] if key in fresh else earlier[1][known[key]] if earlier else new[:0])
        writer.finish().replace(self._folder / f"{self._stem}.npy")
        table = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _KEY_BYTES)
        np.save(self._folder / f"{self._stem}.keys.npy", table)
        new_path.unlink()
        reembedded = sum(1 for key in keys if key in fresh)
        return _Built(len(keys), reembedded, num_cut)

    def _embed(self, rows: list[int], path: Path, progress: Progress) -> int:
        """Embed the texts of some rows, in order, into `path`; the number that was cut."""
        writer = NpyWriter(path, 0, Shape(self._embedder.dimension, "float32", False, {}))
        num_cut = 0
        if rows:
            with progress.step("embedding the corpus", len(rows)) as advance:
                try:
                    for block in self._embedder.encode_stream(self._texts_of(rows), block_size=256, kind="document"):
                        writer.append_array(block.embeddings)
                        num_cut += len(block.truncated)
                        advance(len(block.indices))
                except InputError as exc:
                    writer.close()
                    raise FileFormatError(f"{self._corpus.name}: {exc}") from exc
        writer.finish()
        return num_cut

    def _texts_of(self, rows: list[int]) -> Iterator[str]:
        chosen = set(rows)
        return (text for row, text in enumerate(self._corpus.texts()) if row in chosen)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
