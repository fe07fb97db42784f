"""Qdrant: a collection of a server, or of a folder in Qdrant's local mode (extra `qdrant`).

The recipe is in the collection's metadata, which servers keep since 1.16. Points are numbered by a UUID made from the
row's id. There is no lock: two runs that write the same collection at once do the same work twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.databases.columns import COLUMNS_HASH, ID, TEXT_HASH, Value
from embedrt.databases.model import EXACT, Asked, Candidate, Description, Hashes, Recipe, Row
from embedrt.databases.recipes import read_recipe, written_recipe
from embedrt.databases.where import Compare, Condition, IsNull, OneOf, Several
from embedrt.errors import DatabaseError, DependencyError, OptionError

_METADATA, _KIND = "embedrt", "embedrt_approximate"
_DISTANCES = {"cosine": "COSINE", "dot": "DOT", "euclidean": "EUCLID", "manhattan": "MANHATTAN"}
_POINTS_PER_CALL = 256  # a server takes 32 MB at once
_IDS_PER_CALL = 4096
_NAMESPACE = uuid.UUID("2f1d7f0e-5f0b-4c57-9d5e-0a3c7a2f6b11")
_TIMEOUT_SECONDS = 60


class QdrantDatabase:
    """One collection. `hnsw` is Qdrant's graph; with `int8` and `binary` it goes by such codes."""

    approximations = ("hnsw", "int8", "binary")
    tokenizers = ()  # its full-text indexes filter, and do not rank

    def __init__(self, client: Any, collection: str, name: str, *, local: bool = False) -> None:
        """A client of qdrant-client's, `local` without a server; `open_qdrant` makes one."""
        self._local = local
        self.name = name
        self._client = client
        self._collection = collection
        from qdrant_client import models

        self._models = models

    def describe(self) -> Description | None:
        """The collection; None if there is none yet."""
        with self._said():
            if not self._client.collection_exists(self._collection):
                return None
            metadata = self._client.get_collection(self._collection).config.metadata or {}
            num_rows = self._client.count(self._collection, exact=True).count
        recipe = read_recipe(metadata.get(_METADATA, "null"), self.name)
        return Description(recipe, num_rows, metadata.get(_KIND, EXACT))

    def create(self, recipe: Recipe) -> None:
        """An empty collection, in place of one that is there."""
        there = self.describe()  # refuses one that is somebody else's
        for name in recipe.columns:
            if '"' in name:
                raise OptionError(f"Qdrant takes no column {name!r}: rename it, or leave it out with --keep")
        vectors = self._models.VectorParams(
            size=recipe.dimension, distance=self._models.Distance[_DISTANCES[recipe.similarity]]
        )
        with self._said():
            if there is not None:
                self._client.delete_collection(self._collection)
            self._client.create_collection(
                self._collection, vectors, hnsw_config=self._models.HnswConfigDiff(m=0),
                metadata={_METADATA: written_recipe(recipe), _KIND: EXACT},
            )  # fmt: skip

    def ids_and_hashes(self) -> Iterator[tuple[str, Hashes]]:
        """Every row's id, and what the row was made of."""
        at = None
        while True:
            with self._said():
                points, at = self._client.scroll(
                    self._collection, limit=_IDS_PER_CALL, offset=at, with_payload=[ID, TEXT_HASH, COLUMNS_HASH]
                )
            for point in points:
                yield point.payload[ID], Hashes(point.payload[TEXT_HASH], point.payload[COLUMNS_HASH])
            if at is None:
                return

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The vectors (n, D) of rows that are there; where the model goes by cosines, normalized."""
        place: dict[str, Any] = {}
        wanted = list({_point_id(row_id) for row_id in ids})
        with self._said():
            for start in range(0, len(wanted), _POINTS_PER_CALL):
                some = wanted[start : start + _POINTS_PER_CALL]
                for point in self._client.retrieve(self._collection, some, with_payload=False, with_vectors=True):
                    place[str(point.id)] = point.vector
        return np.array([place[_point_id(row_id)] for row_id in ids], np.float32)

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows of new ids."""
        self.upsert(rows)

    def upsert(self, rows: Sequence[Row]) -> None:
        """Add rows, or replace those of the same ids."""
        points = [self._models.PointStruct(**_point(row)) for row in rows]
        with self._said():
            for start in range(0, len(points), _POINTS_PER_CALL):
                self._client.upsert(self._collection, points[start : start + _POINTS_PER_CALL], wait=True)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows."""
        with self._said():
            for start in range(0, len(ids), _IDS_PER_CALL):
                points = [_point_id(row_id) for row_id in ids[start : start + _IDS_PER_CALL]]
                self._client.delete(self._collection, self._models.PointIdsList(points=points), wait=True)

    def finish(self, approximate: str, words: str | None) -> None:
        """Tell the server which index to keep; it makes it on its own, in the background."""
        del words
        there = self.describe()
        if there is None or approximate == there.approximate:
            return
        models = self._models
        codes: Any = models.Disabled.DISABLED
        if approximate == "int8":
            config = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99)
            codes = models.ScalarQuantization(scalar=config)
        elif approximate == "binary":
            codes = models.BinaryQuantization(binary=models.BinaryQuantizationConfig())
        with self._said():
            self._client.update_collection(
                self._collection, hnsw_config=models.HnswConfigDiff(m=0 if approximate == EXACT else 16),
                quantization_config=codes,
                metadata={_METADATA: written_recipe(there.recipe), _KIND: approximate},
            )  # fmt: skip

    def search(self, asked: Asked) -> list[Candidate]:
        """The k best rows, best first."""
        if asked.vector is None:
            raise OptionError("Qdrant ranks no words")
        models = self._models
        codes = models.QuantizationSearchParams(rescore=False)  # callers do it
        params = models.SearchParams(exact=asked.exact, hnsw_ef=max(asked.k, 128), quantization=codes)
        where = None if asked.where is None else _filter(asked.where, models)
        with self._said():
            points = self._client.query_points(
                self._collection, query=asked.vector.tolist(), query_filter=where, limit=asked.k,
                search_params=None if self._local else params, with_payload=True, with_vectors=True,
            ).points  # fmt: skip
        return [_candidate(point) for point in points]

    def close(self) -> None:
        """Let go of the connection, and of a local folder."""
        self._client.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        with said(self.name):
            yield


def open_qdrant(
    collection: str, name: str, *, url: str | None = None, folder: str | None = None, key: str | None = None
) -> QdrantDatabase:
    """A collection of the server at `url`, or of a folder.

    Raises:
        DatabaseError: the folder is held by another process. A server is not asked before it is needed.
        DependencyError: qdrant-client is not installed.
    """
    try:
        from qdrant_client import QdrantClient
    except ImportError as exc:
        raise DependencyError("Qdrant needs its client: pip install 'embedrt[qdrant]'") from exc
    with said(name):
        if folder is not None:
            client = QdrantClient(path=folder)
        else:
            client = QdrantClient(url=url, api_key=key, timeout=_TIMEOUT_SECONDS, check_compatibility=False)
    return QdrantDatabase(client, collection, name, local=folder is not None)


@contextmanager
def said(name: str) -> Iterator[None]:
    """Qdrant's errors as DatabaseError, on one line."""
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except (ApiException, OSError, RuntimeError, ValueError) as exc:
        if isinstance(exc, OptionError):
            raise
        lines = str(exc).strip().splitlines() or [type(exc).__name__]
        raise DatabaseError(f"{name}: {' '.join(line.strip() for line in lines)[:300]}") from exc


def _point_id(row_id: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, row_id))


def _point(row: Row) -> dict[str, Any]:
    own = {ID: row.id, TEXT_HASH: row.hashes.text, COLUMNS_HASH: row.hashes.columns, "text": row.text}
    return {"id": _point_id(row.id), "vector": row.vector.tolist(), "payload": {**row.columns, **own}}


def _candidate(point: Any) -> Candidate:
    payload = dict(point.payload)
    row_id, text = payload.pop(ID), payload.pop("text")
    del payload[TEXT_HASH], payload[COLUMNS_HASH]
    return Candidate(row_id, text, payload, np.array(point.vector, np.float32), point.score)


def _filter(condition: Condition, models: Any) -> Any:
    """The condition as Qdrant's filter, with SQL's way with what has no value."""
    if isinstance(condition, Several):
        parts = [_filter(part, models) for part in condition.parts]
        return models.Filter(should=parts) if condition.any else models.Filter(must=parts)
    key = f'"{condition.column}"'
    empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
    if isinstance(condition, IsNull):
        return models.Filter(must_not=[empty]) if condition.negated else models.Filter(must=[empty])
    if isinstance(condition, OneOf):
        among = [_equals(key, value, models) for value in condition.values]
        return models.Filter(must_not=[empty, *among]) if condition.negated else models.Filter(should=among)
    return _compared(condition, key, empty, models)


def _compared(condition: Compare, key: str, empty: Any, models: Any) -> Any:
    if condition.operator == "=":
        return models.Filter(must=[_equals(key, condition.value, models)])
    if condition.operator == "!=":
        return models.Filter(must_not=[empty, _equals(key, condition.value, models)])
    if isinstance(condition.value, str | bool):
        raise OptionError(f"where: Qdrant compares {condition.column!r} with = and !=, not with {condition.operator}")
    limit = {{"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}[condition.operator]: condition.value}
    return models.Filter(must=[models.FieldCondition(key=key, range=models.Range(**limit))])


def _equals(key: str, value: Value, models: Any) -> Any:
    if isinstance(value, float):
        return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))
