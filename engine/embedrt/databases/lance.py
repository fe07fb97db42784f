"""LanceDB: a table in a folder, without a server (extra `lance`).

The recipe is in the metadata of the table's schema, and what indexes there are is read from the table itself. Every
write is a new version of the table that is there as a whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from embedrt.databases.columns import COLUMNS_HASH, ID, TEXT_HASH, Type
from embedrt.databases.model import EXACT, Asked, Candidate, Description, Hashes, Recipe, Row
from embedrt.databases.names import TABLE, is_lance
from embedrt.databases.recipes import read_recipe, written_recipe
from embedrt.databases.where import literal, to_sql
from embedrt.errors import DatabaseError, DependencyError, OptionError
from embedrt.locks import hold

_METADATA = b"embedrt"
_DISTANCES = {"cosine": "cosine", "dot": "dot", "euclidean": "l2"}
_TYPES: dict[Type, str] = {"text": "string", "integer": "int64", "number": "float64", "boolean": "bool_"}
_LOCK = ".lock"
_VECTORS, _WORDS = "vector_index", "text_index"  # names of indexes
_IDS_PER_DELETE = 1000
_NPROBES = 32  # cells of `ivf-pq` that are searched
# Candidates while a graph is built. LanceDB's 300 takes twice the time, and finds no more: 0.98 of the ten nearest of
# 100,000 in either case without rescoring, 1.00 with 3 candidates per hit.
_GRAPH_CANDIDATES = 100
_ALL_CELLS = 1 << 20  # LanceDB 0.40 divides the one cell of the other kinds where a table is large
# Of earlier versions, which a search that is running may still read.
_KEEP_VERSIONS = timedelta(minutes=10)


class LanceDatabase:
    """A folder with one table.

    `hnsw` keeps 8-bit codes in a graph, `ivf-pq` product-quantized ones in the square root of N cells, of which the
    nearest are searched; `int8` and `binary` (RaBitQ) keep a code per vector and look at every one of them.
    """

    approximations = ("hnsw", "ivf-pq", "int8", "binary")
    tokenizers = ("ngram", "icu", "simple")

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        """Open the folder, which need not be there to be written; see `open_database`."""
        self.name = str(folder)
        self._folder = folder
        self._lancedb = _import_lancedb()
        self._lock: IO[str] | None = None
        self._table: Any = None
        self._approximate: str | None = None  # of the table as it was last described
        self._connection: Any = None
        self._is_new = write and not folder.exists()
        if write:
            with self._said():
                folder.mkdir(parents=True, exist_ok=True)
                self._lock = _locked(folder)
        if folder.is_dir():
            with self._said():
                self._connection = self._lancedb.connect(folder)
                self._open()

    def describe(self) -> Description | None:
        """The table; None if there is none yet."""
        if self._table is None:
            return None
        with self._said():
            self._table.checkout_latest()
            indexes = self._table.list_indices()
            kinds = {index.name: index for index in indexes}
            approximate = _kind_of(kinds[_VECTORS].index_type) if _VECTORS in kinds else EXACT
            self._approximate = approximate
            details = kinds[_WORDS].index_details if _WORDS in kinds else None
            num_rows = self._table.count_rows()
        return Description(self._recipe(), num_rows, approximate, details["base_tokenizer"] if details else None)

    def create(self, recipe: Recipe) -> None:
        """An empty table, in place of one that is there."""
        if recipe.similarity not in _DISTANCES:
            raise OptionError(f"LanceDB has no {recipe.similarity} similarity, which {recipe.model} needs")
        for name in recipe.columns:
            if "." in name or "`" in name or name.startswith("_row"):
                raise OptionError(f"LanceDB takes no column {name!r}: rename it, or leave it out with --keep")
        mode = "create" if self._table is None else "overwrite"
        with self._said():
            self._table = self._connection.create_table(TABLE, schema=_schema(recipe), mode=mode)

    def ids_and_hashes(self) -> Iterator[tuple[str, Hashes]]:
        """Every row's id, and what the row was made of."""
        names = [ID, TEXT_HASH, COLUMNS_HASH]
        with self._said():
            for batch in self._table.search().select(names).limit(None).to_batches():
                columns = (batch.column(name).to_pylist() for name in names)
                yield from ((row_id, Hashes(text, kept)) for row_id, text, kept in zip(*columns, strict=True))

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The vectors (n, D) of rows that are there."""
        with self._said():
            found = self._table.search().where(_among(set(ids))).select([ID, "vector"]).limit(None).to_arrow()
        place = {row_id: row for row, row_id in enumerate(found[ID].to_pylist())}
        return _matrix(found["vector"])[[place[row_id] for row_id in ids]]

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows of new ids; unlike `upsert` it reads no id of the table, of which there may be many millions."""
        with self._said():
            self._table.add(_arrow(rows, self._table.schema))

    def upsert(self, rows: Sequence[Row]) -> None:
        """Add rows, or replace those of the same ids."""
        with self._said():
            merge = self._table.merge_insert(ID).when_matched_update_all().when_not_matched_insert_all()
            merge.execute(_arrow(rows, self._table.schema))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows."""
        with self._said():
            for start in range(0, len(ids), _IDS_PER_DELETE):
                self._table.delete(_among(set(ids[start : start + _IDS_PER_DELETE])))

    def finish(self, approximate: str, words: str | None) -> None:
        """Bring the indexes in line with the rows, after making or dropping them as asked."""
        there = self.describe()
        if there is None:
            return
        with self._said():
            if approximate != there.approximate:
                self._replace(_VECTORS, None if approximate == EXACT else self._vector_index(approximate, there))
            if words != there.words:
                self._replace(_WORDS, None if words is None else self._word_index(words))
            self._table.optimize(cleanup_older_than=_KEEP_VERSIONS)
        self._approximate = approximate

    def search(self, asked: Asked) -> list[Candidate]:
        """The k best rows, best first."""
        columns = ["text", ID, "vector", *self._recipe().columns]
        with self._said():
            if asked.words is not None:
                query = self._table.search(asked.words, query_type="fts", fts_columns="text")
                order, sign = "_score", 1.0
            else:
                query = self._table.search(asked.vector, vector_column_name="vector", query_type="vector")
                query = query.distance_type(_DISTANCES[self._recipe().similarity]).nprobes(self._num_probes())
                query = query.bypass_vector_index() if asked.exact else query
                order, sign = "_distance", -1.0
            if asked.where is not None:
                query = query.where(to_sql(asked.where, _quoted, literal), prefilter=True)
            found = query.limit(asked.k).select([*columns, order]).to_arrow()
        vectors, scores = _matrix(found["vector"]), found[order].to_pylist()
        rows = found.drop_columns(["vector", order]).to_pylist()
        return [
            Candidate(row.pop(ID), row.pop("text"), row, vector, sign * score)
            for row, vector, score in zip(rows, vectors, scores, strict=True)
        ]

    def _num_probes(self) -> int:
        """Cells that a search looks into."""
        if self._approximate is None:
            self.describe()
        return _NPROBES if self._approximate == "ivf-pq" else _ALL_CELLS

    def close(self) -> None:
        """Let other processes write."""
        if self._lock is not None and self._is_new and self._table is None:  # nothing came of it
            with suppress(OSError):
                (self._folder / _LOCK).unlink()
                self._folder.rmdir()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _open(self) -> None:
        if is_lance(self._folder) and any((self._folder / f"{TABLE}.lance" / "_versions").glob("*.manifest")):
            self._table = self._connection.open_table(TABLE)
            self._recipe()

    def _recipe(self) -> Recipe:
        return read_recipe((self._table.schema.metadata or {}).get(_METADATA, b"null"), self.name)

    def _replace(self, name: str, config: Any) -> None:
        if name in {index.name for index in self._table.list_indices()}:
            self._table.drop_index(name)
        if config is not None:
            self._table.create_index("vector" if name == _VECTORS else "text", config=config, name=name)

    def _vector_index(self, kind: str, there: Description) -> Any:
        from lancedb import index as kinds

        distance = _DISTANCES[there.recipe.similarity]
        if kind == "hnsw":
            return kinds.HnswSq(distance_type=distance, num_partitions=1, ef_construction=_GRAPH_CANDIDATES)
        if kind == "ivf-pq":
            return kinds.IvfPq(distance_type=distance, num_partitions=max(1, round(there.num_rows**0.5)))
        return (kinds.IvfSq if kind == "int8" else kinds.IvfRq)(distance_type=distance, num_partitions=1)

    def _word_index(self, tokenizer: str) -> Any:
        from lancedb.index import FTS

        # No stemming and no stop words: they are per language, and a corpus may have several.
        return FTS(
            base_tokenizer=tokenizer, ngram_min_length=2, ngram_max_length=3, stem=False, remove_stop_words=False
        )

    @contextmanager
    def _said(self) -> Iterator[None]:
        """LanceDB's errors as DatabaseError, on one line."""
        try:
            yield
        except (DatabaseError, OptionError):
            raise
        except (OSError, RuntimeError, ValueError) as exc:
            raise DatabaseError(f"{self.name}: {_reason(exc)}") from exc


def _import_lancedb() -> Any:
    os.environ.setdefault("LANCEDB_LOG", "error")  # it warns on stderr about what is meant
    try:
        import lancedb
    except ImportError as exc:
        raise DependencyError("a database in a folder needs LanceDB: pip install 'embedrt[lance]'") from exc
    return lancedb


def _locked(folder: Path) -> IO[str]:
    """Keep a second writer away; the lock dies with its process."""
    lock = (folder / _LOCK).open("w")
    try:
        hold(lock.fileno(), wait=False)
    except BlockingIOError as exc:
        lock.close()
        raise DatabaseError(f"{folder} is being written by another run; wait for its end") from exc
    return lock


def _schema(recipe: Recipe) -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            *(pa.field(name, pa.string(), nullable=False) for name in (ID, TEXT_HASH, COLUMNS_HASH, "text")),
            pa.field("vector", pa.list_(pa.float32(), recipe.dimension), nullable=False),
            *(pa.field(name, getattr(pa, _TYPES[kind])()) for name, kind in recipe.columns.items()),
        ],
        metadata={_METADATA: written_recipe(recipe).encode()},
    )


def _arrow(rows: Sequence[Row], schema: Any) -> Any:
    import pyarrow as pa

    matrix = np.ascontiguousarray(np.stack([row.vector for row in rows]), np.float32)
    own: dict[str, Any] = {
        ID: [row.id for row in rows],
        TEXT_HASH: [row.hashes.text for row in rows],
        COLUMNS_HASH: [row.hashes.columns for row in rows],
        "text": [row.text for row in rows],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1]),
    }
    columns = [own[name] if name in own else [row.columns[name] for row in rows] for name in schema.names]
    return pa.table(
        [
            column if isinstance(column, pa.Array) else pa.array(column, field.type)
            for column, field in zip(columns, schema, strict=True)
        ],
        schema=schema,
    )


def _matrix(column: Any) -> NDArray[np.float32]:
    """A column of fixed-size lists as (n, D)."""
    width = column.type.list_size
    flat = [np.asarray(chunk.flatten(), np.float32).reshape(-1, width) for chunk in column.chunks]
    return np.concatenate([np.zeros((0, width), np.float32), *flat])


def _among(ids: set[str]) -> str:
    return f"{ID} IN ({', '.join(literal(row_id) for row_id in sorted(ids))})"


def _quoted(name: str) -> str:
    return f"`{name}`"


def _kind_of(index_type: str) -> str:
    return {"IvfHnswSq": "hnsw", "IvfPq": "ivf-pq", "IvfSq": "int8", "IvfRq": "binary"}.get(index_type, index_type)


def _reason(exc: BaseException) -> str:
    """What LanceDB says, without the place in its sources."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror if exc.filename is None else f"{exc.filename}: {exc.strerror}"
    said = (str(exc).partition(", /")[0].strip().splitlines() or [type(exc).__name__])[0][:300]
    if "os error" in said:  # the system's: no space left, too large, not permitted
        return (
            f"{said.rpartition('): ')[2]}; what is embedded is kept, and the same command goes on once this is mended"
        )
    if "LanceError(IO)" in said or "Not found" in said:
        return f"{said}; if the folder is damaged, remove it and index again"
    return said
