"""Queries against a table: candidates out of the database, scored anew by the full vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedrt.databases.columns import Value
from embedrt.databases.fusion import fused
from embedrt.databases.model import EXACT, Asked, Candidate, Database, Description
from embedrt.databases.recipes import check_identity
from embedrt.databases.where import Condition, fitting, parse
from embedrt.errors import DatabaseError, OptionError

if TYPE_CHECKING:
    from embedrt.embedder import Embedder

Mode = Literal["vector", "words", "both"]
_LEAST_CANDIDATES = 50  # of each ranking that is fused, and of what is scored anew
_ROUNDING = 8  # rows beyond k: a database sums in another order, and the last places may be exchanged


@dataclass(frozen=True)
class SearchOptions:
    """How a table is searched."""

    k: int = 10
    where: str | None = None  # see `embedrt.databases.where`
    mode: Mode = "vector"
    exact: bool = False  # leave an approximate index aside
    refine: int = 10  # candidates per hit that the full vectors are asked of, where the index is approximate
    task: str | None = None  # these three: of the queries
    prompt: str | None = None
    prompt_name: str | None = None


@dataclass(frozen=True)
class Hit:
    """One row of a table."""

    rank: int  # from 1
    score: float  # similarity; BM25 for words; the fused score for both
    id: str
    text: str
    columns: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """The hits of one query, best first."""

    query: str
    hits: tuple[Hit, ...]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def search(
    embedder: Embedder, database: Database, queries: Sequence[str], options: SearchOptions | None = None
) -> list[Answer]:
    """The rows most alike to each query, those most alike in words, or both by reciprocal rank fusion.

    Raises:
        DatabaseError: there is no table, or the database cannot be read.
        IdentityError: the table's vectors are another model's, variant's or prompt's.
        OptionError: a condition does not fit the columns, or the table has no full-text index.
    """
    options = options or SearchOptions()
    table = database.describe()
    if table is None:
        raise DatabaseError(f"{database.name} holds no table; 'embedrt index' makes one")
    check_identity(embedder, table.recipe, database.name)
    where = _condition(options.where, table)
    if options.mode != "vector" and table.words is None:
        raise OptionError(f"{database.name} has no full-text index; 'embedrt index ... --full-text' makes one")
    vectors = _query_vectors(embedder, queries, table, options)
    run = _Run(embedder, database, table, options, where)
    return [Answer(query, run.hits(query, vector)) for query, vector in zip(queries, vectors, strict=True)]


def _condition(where: str | None, table: Description) -> Condition | None:
    return None if where is None else fitting(parse(where), table.recipe.columns)


def _query_vectors(
    embedder: Embedder, queries: Sequence[str], table: Description, options: SearchOptions
) -> NDArray[np.float32]:
    """(Q, D); not embedded where only words are asked for."""
    if options.mode == "words":
        return np.zeros((len(queries), table.recipe.dimension), np.float32)
    given = {
        "task": options.task, "prompt": options.prompt, "prompt_name": options.prompt_name,
        "truncate_dim": table.recipe.truncate_dim,
    }  # fmt: skip
    keywords: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    vectors: NDArray[np.float32] = embedder.encode_detailed(list(queries), kind="query", **keywords).embeddings
    return vectors


class _Run:
    """The searches of one call."""

    def __init__(
        self,
        embedder: Embedder,
        database: Database,
        table: Description,
        options: SearchOptions,
        where: Condition | None,
    ) -> None:
        self._embedder = embedder
        self._database = database
        self._table = table
        self._options = options
        self._where = where

    def hits(self, query: str, vector: NDArray[np.float32]) -> tuple[Hit, ...]:
        """The best k, by the mode."""
        k, mode = self._options.k, self._options.mode
        if mode == "words":
            return _as_hits(self._by_words(query, k)[:k])
        if mode == "vector":
            return _as_hits(self._by_vector(vector, k)[:k])
        depth = max(k, _LEAST_CANDIDATES)
        rankings = [self._by_vector(vector, depth)[:depth], self._by_words(query, depth)]
        rows = {found.id: found for ranking in rankings for found, _ in ranking}
        best = fused([found.id for found, _ in ranking] for ranking in rankings)
        return _as_hits([(rows[row_id], score) for row_id, score in best[:k]])

    def _by_words(self, query: str, k: int) -> list[tuple[Candidate, float]]:
        found = self._database.search(Asked(k, words=query, where=self._where))
        return [(one, one.score) for one in found]

    def _by_vector(self, vector: NDArray[np.float32], k: int) -> list[tuple[Candidate, float]]:
        """Candidates with the model's own similarity, best first; equal scores by id."""
        exact = self._options.exact or self._table.approximate == EXACT
        wanted = k + _ROUNDING if exact else max(k * self._options.refine, _LEAST_CANDIDATES)
        asked = Asked(wanted, vector, where=self._where, exact=exact)
        found = self._database.search(asked)
        if not found:
            return []
        scores = self._embedder.similarity(vector[None, :], np.stack([one.vector for one in found]))[0]
        return sorted(zip(found, map(float, scores), strict=True), key=lambda pair: (-pair[1], pair[0].id))


def _as_hits(ranked: Sequence[tuple[Candidate, float]]) -> tuple[Hit, ...]:
    return tuple(
        Hit(rank, score, found.id, found.text, found.columns) for rank, (found, score) in enumerate(ranked, start=1)
    )
