"""Texts that were embedded before, in this shard or in a store that shards share: each is embedded once."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.arrow import Rows as Vectors
from embedrt.arrow import VectorShape
from embedrt.batch import EmbedBatch
from embedrt.datasets.sources import TEXT, Rows
from embedrt.errors import DatabaseError

REMEMBERED_BYTES = 256 << 20  # of vectors within a shard; texts behind are embedded as often as they come
_QUERY_TEXTS = 500  # values of one query; SQLite's oldest limit is 999


@dataclass(frozen=True, eq=False)
class Done:
    """What is known of a text."""

    vector: NDArray[Any]  # (W,)
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Embedded:
    """Rows of the input with their vectors."""

    rows: Rows
    vectors: Vectors
    repeats: int  # rows whose vector was known


class VectorStore:
    """Vectors by text in one SQLite file, which several processes of a machine may use at once.

    It has a table per identity and precision, so that vectors of two models cannot meet.

    Raises:
        DatabaseError: it cannot be opened.
    """

    def __init__(self, path: str | Path, identity: str, shape: VectorShape) -> None:
        self._dtype = shape.dtype
        try:
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        except sqlite3.OperationalError as exc:
            raise DatabaseError(f"{path}: {exc}") from exc
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")  # what a crash loses is embedded again
        self._table = f"vectors_{identity}_{shape.precision}"
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} "
            "(text BLOB PRIMARY KEY, vector BLOB, tokens INT, truncated INT) WITHOUT ROWID"
        )

    def find(self, digests: Sequence[bytes]) -> dict[bytes, Done]:
        """Those that are there."""
        found: dict[bytes, Done] = {}
        for k in range(0, len(digests), _QUERY_TEXTS):
            some = digests[k : k + _QUERY_TEXTS]
            where = ",".join("?" * len(some))
            query = f"SELECT text, vector, tokens, truncated FROM {self._table} WHERE text IN ({where})"
            for text, vector, tokens, truncated in self._connection.execute(query, some):
                found[text] = Done(np.frombuffer(vector, self._dtype), tokens, bool(truncated))
        return found

    def add(self, done: Iterable[tuple[bytes, Done]]) -> None:
        """Keep them; what is there already stays."""
        rows = [(text, one.vector.tobytes(), one.tokens, one.truncated) for text, one in done]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(f"INSERT OR IGNORE INTO {self._table} VALUES (?, ?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def embed_once(
    embed: EmbedBatch,
    batches: Iterable[Rows],
    block_texts: int,
    store: VectorStore | None = None,
    max_bytes: int = REMEMBERED_BYTES,
) -> Iterator[Embedded]:
    """Rows with vectors, in their order; texts that came before are not embedded again.

    Args:
        embed: with a column for errors.
        batches: rows as `read_shard` gives them.
        block_texts: held at once.
        store: asked for each text, and told of each new one.
        max_bytes: of vectors that are remembered.
    """
    run = _Run(embed, store, max_bytes)
    for _, vectors in embed.rows(run.fresh(batches), block_texts):
        yield run.joined(vectors)


@dataclass(frozen=True)
class _Waiting:
    rows: Rows
    digests: list[bytes | None]
    new: NDArray[np.int64]  # places whose text is being embedded


class _Run:
    def __init__(self, embed: EmbedBatch, store: VectorStore | None, max_bytes: int) -> None:
        self._embed = embed
        self._store = store
        self._room = max_bytes // max(1, embed.shape.width * np.dtype(embed.shape.dtype).itemsize)
        self._known: dict[bytes, Done | None] = {}  # None: being embedded, by the time it is asked for it is there
        self._failed: dict[bytes, str] = {}
        self._waiting: deque[_Waiting] = deque()

    def fresh(self, batches: Iterable[Rows]) -> Iterator[Any]:
        """For each batch one of the texts that are to be embedded, which may be none."""
        import pyarrow as pa

        for rows in batches:
            texts = rows.batch.column(0)
            digests = [None if text is None else digest(text) for text in texts.to_pylist()]
            self._ask_store(digests)
            new = []
            for k, key in enumerate(digests):
                if key is None or key in self._known or key in self._failed:
                    continue
                new.append(k)
                if len(self._known) < self._room:
                    self._known[key] = None
            self._waiting.append(_Waiting(rows, digests, np.array(new, np.int64)))
            yield pa.RecordBatch.from_arrays([texts.take(pa.array(new, pa.int64()))], names=[TEXT])

    def joined(self, made: Vectors) -> Embedded:
        """The oldest waiting batch, with what was made of its new texts."""
        waiting = self._waiting.popleft()
        rows, digests, new = waiting.rows, waiting.digests, waiting.new
        whole = Vectors(self._embed.shape)
        whole.vectors = np.zeros((len(digests), made.vectors.shape[1]), made.vectors.dtype)
        whole.tokens, whole.truncated = np.zeros(len(digests), np.int32), np.zeros(len(digests), bool)
        whole.vectors[new], whole.tokens[new], whole.truncated[new] = made.vectors, made.tokens, made.truncated
        self._remember(digests, new, made)
        whole.reasons = {int(new[k]): reason for k, reason in made.reasons.items()}
        repeats = 0
        for k in np.setdiff1d(np.arange(len(digests)), new).tolist():
            key = digests[k]
            known = None if key is None else self._known.get(key)
            if known is None:
                whole.reasons[k] = rows.problems.get(k, "null") if key is None else self._failed[key]
                continue
            whole.vectors[k], whole.tokens[k], whole.truncated[k] = known.vector, known.tokens, known.truncated
            repeats += 1
        return Embedded(rows, whole, repeats)

    def _remember(self, digests: list[bytes | None], new: NDArray[np.int64], made: Vectors) -> None:
        added = []
        for k, place in enumerate(new.tolist()):
            key = digests[place]
            assert key is not None
            if k in made.reasons:
                self._failed[key] = made.reasons[k]
                self._known.pop(key, None)
                continue
            done = Done(made.vectors[k], int(made.tokens[k]), bool(made.truncated[k]))
            if key in self._known:
                self._known[key] = done
            added.append((key, done))
        if self._store is not None and added:
            self._store.add(added)

    def _ask_store(self, digests: list[bytes | None]) -> None:
        if self._store is not None:
            unknown = {key for key in digests if key is not None and key not in self._known}
            self._known.update(self._store.find(sorted(unknown)))


def digest(text: str) -> bytes:
    """16 bytes that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
