"""`embedrt search`: the rows of a corpus nearest to a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.corpus_index import CorpusIndex
from embedrt.commands.encoding import EncodeRequest
from embedrt.commands.kept import json_object
from embedrt.commands.piece_source import taken_apart
from embedrt.commands.reading.records import Record
from embedrt.commands.source import TextSource
from embedrt.vectors.nearest import nearest

if TYPE_CHECKING:
    from embedrt.embedder import Embedder

_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Hit:
    """One row of the corpus."""

    rank: int  # from 1
    score: float
    row: int  # from 0
    line: int  # from 1
    text: str
    kept: dict[str, Any] = field(default_factory=dict)  # the corpus' columns that go along
    piece: tuple[int, int] | None = (
        None  # of a piece of a text, `row` and `line` being the text's: its characters there
    )


@dataclass(frozen=True)
class Answer:
    """The hits of one query, best first."""

    query: str
    identity: str  # of the query's vector
    hits: tuple[Hit, ...]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        found = asdict(self)
        for hit in found["hits"]:
            if hit["piece"] is None:
                del hit["piece"]
        return found


def search(
    embedder: Embedder, index: CorpusIndex, corpus: TextSource, queries: Sequence[str], request: EncodeRequest, k: int
) -> list[Answer]:
    """The k best rows for each query, by the model's own similarity; equal scores in the corpus' order."""
    result = embedder.encode_detailed(list(queries), **request.keywords())
    vectors, identity = result.embeddings, result.identity
    rows, scores = top_k(embedder, vectors, index.vectors, k)
    wanted = {int(row) for row in rows.ravel()}
    records = {record.row: record for record in corpus.records() if record.row in wanted}
    return [Answer(query, identity, _hits(rows[i], scores[i], records)) for i, query in enumerate(queries)]


def top_k(
    embedder: Embedder, queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows (Q, min(k, N)) and their scores, best first; reads the vectors a block at a time."""
    found = nearest(queries, vectors, k, embedder.similarity, corpus_rows=_BLOCK_ROWS)
    return found.rows, found.scores


def _hits(rows: NDArray[np.int64], scores: NDArray[np.float32], records: dict[int, Record]) -> tuple[Hit, ...]:
    return tuple(
        _hit(rank, float(score), records[int(row)])
        for rank, (row, score) in enumerate(zip(rows, scores, strict=True), start=1)
    )


def _hit(rank: int, score: float, record: Record) -> Hit:
    row, piece, kept = taken_apart(record)
    return Hit(rank, score, row, record.line, record.text or "", json_object(kept), piece)
