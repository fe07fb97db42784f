"""PostgreSQL with pgvector: a table of a server (extra `postgres`).

The recipe is in the table's comment. A run that writes holds an advisory lock; searches are read-only transactions.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.databases.columns import COLUMNS_HASH, ID, OWN, TEXT_HASH, Type, Value
from embedrt.databases.model import EXACT, Asked, Candidate, Description, Hashes, Recipe, Row
from embedrt.databases.recipes import read_recipe, written_recipe
from embedrt.databases.where import to_sql
from embedrt.errors import DatabaseError, DependencyError, OptionError

# Bytes decide the order of texts, as in the other databases, whatever the server's language.
_TYPES: dict[Type, str] = {
    "text": 'text COLLATE "C"', "integer": "bigint", "number": "double precision", "boolean": "boolean",
}  # fmt: skip
_OPERATORS = {
    "cosine": ("<=>", "vector_cosine_ops"), "dot": ("<#>", "vector_ip_ops"), "euclidean": ("<->", "vector_l2_ops"),
    "manhattan": ("<+>", "vector_l1_ops"),
}  # fmt: skip
_LONGEST_NAME = 63  # bytes
_MOST_EF = 1000  # candidates that an HNSW scan of pgvector keeps
_IDS_PER_CALL = 4096


class PostgresDatabase:
    """One table. `hnsw` is pgvector's graph over the vectors, `binary` the same over their signs (pgvector 0.7)."""

    approximations = ("hnsw", "binary")
    tokenizers = ("simple",)  # words in PostgreSQL's configuration of that name, ranked by ts_rank_cd, not BM25

    def __init__(self, connection: Any, table: str, name: str, *, write: bool = False) -> None:
        """A connection of psycopg's, in autocommit; `open_postgres` makes one."""
        self.name = name
        self._connection = connection
        self._table = table
        self._quoted = _quoted(table)
        if write:
            self._lock()

    def describe(self) -> Description | None:
        """The table; None if there is none yet."""
        found = self._seen()
        if found is None:
            return None
        (num_rows,) = self._one(f"SELECT count(*) FROM {self._quoted}")
        return replace(found, num_rows=num_rows)

    def _seen(self) -> Description | None:
        """The table without the number of its rows, which takes a scan."""
        (comment, there) = self._one(
            "SELECT obj_description(to_regclass(%s), 'pg_class'), to_regclass(%s) IS NOT NULL",
            [_quoted(self._table).replace("%%", "%")] * 2,
        )
        if not there:
            return None
        recipe = read_recipe(comment or "null", self.name)
        indexes = {
            name for (name,) in self._all("SELECT indexname FROM pg_indexes WHERE tablename = %s", [self._table])
        }
        approximate = next((kind for kind in self.approximations if self._index(kind) in indexes), EXACT)
        return Description(recipe, 0, approximate, "simple" if self._index("words") in indexes else None)

    def create(self, recipe: Recipe) -> None:
        """An empty table, in place of one that is there."""
        self.describe()  # refuses one that is somebody else's
        for name in recipe.columns:
            if len(name.encode()) > _LONGEST_NAME:
                raise OptionError(f"PostgreSQL takes no column {name!r}: rename it, or leave it out with --keep")
        columns = [f"{_quoted(name)} {_TYPES[kind]}" for name, kind in recipe.columns.items()]
        own = [f"{ID} text PRIMARY KEY", *(f"{name} text NOT NULL" for name in (TEXT_HASH, COLUMNS_HASH, "text"))]
        fields = ", ".join([*own, f"vector vector({recipe.dimension}) NOT NULL", *columns])
        from psycopg.sql import Literal

        with self._said(), self._connection.transaction():
            self._run("CREATE EXTENSION IF NOT EXISTS vector")
            self._run(f"DROP TABLE IF EXISTS {self._quoted}")
            self._run(f"CREATE TABLE {self._quoted} ({fields})")
            comment = Literal(written_recipe(recipe)).as_string(self._connection).replace("%", "%%")
            self._run(f"COMMENT ON TABLE {self._quoted} IS {comment}")

    def ids_and_hashes(self) -> Iterator[tuple[str, Hashes]]:
        """Every row's id, and what the row was made of."""
        statement = f"SELECT {ID}, {TEXT_HASH}, {COLUMNS_HASH} FROM {self._quoted}"
        with self._said(), self._connection.cursor() as cursor:
            for row_id, text, columns in cursor.stream(statement, [], binary=True):
                yield row_id, Hashes(text, columns)

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The vectors (n, D) of rows that are there."""
        found = dict(self._all(f"SELECT {ID}, vector::real[] FROM {self._quoted} WHERE {ID} = ANY(%s)", [list(ids)]))
        return np.array([found[row_id] for row_id in ids], np.float32)

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows of new ids, which the table's own index finds out for less than anybody else would."""
        self.upsert(rows)

    def upsert(self, rows: Sequence[Row]) -> None:
        """Add rows, or replace those of the same ids."""
        names = [*OWN, *(rows[0].columns if rows else ())]
        quoted = [_quoted(name) for name in names]
        sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in quoted[1:])
        values = ", ".join("%s::vector" if name == "vector" else "%s" for name in names)
        statement = (
            f"INSERT INTO {self._quoted} ({', '.join(quoted)}) VALUES ({values}) "
            f"ON CONFLICT ({ID}) DO UPDATE SET {sets}"
        )
        given = [
            [row.id, row.hashes.text, row.hashes.columns, row.text, str(row.vector.tolist()), *row.columns.values()]
            for row in rows
        ]
        with self._said(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(statement, given)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows."""
        with self._said():
            for start in range(0, len(ids), _IDS_PER_CALL):
                some = list(ids[start : start + _IDS_PER_CALL])
                self._run(f"DELETE FROM {self._quoted} WHERE {ID} = ANY(%s)", [some])

    def finish(self, approximate: str, words: str | None) -> None:
        """Make or drop the indexes as asked; the server keeps them in line with the rows."""
        there = self.describe()
        if there is None:
            return
        if approximate != there.approximate:
            self._drop(*self.approximations)
            if approximate != EXACT:
                self._make(approximate, f"USING hnsw ({self._key(there.recipe, approximate)})")
        if words != there.words:
            self._drop("words")
            if words is not None:
                self._make("words", "USING gin (to_tsvector('simple', text))")
        with self._said():
            self._run(f"ANALYZE {self._quoted}")

    def search(self, asked: Asked) -> list[Candidate]:
        """The k best rows, best first."""
        table = self._seen()
        if table is None:
            return []
        given: list[Any] = []
        score, order = self._ranking(table, asked, given)
        conditions = []
        if asked.words is not None:
            conditions.append(f"to_tsvector('simple', text) @@ {_ANY_WORD}")
            given.append(asked.words)
        if asked.where is not None:
            conditions.append(to_sql(asked.where, _quoted, lambda value: _parameter(value, given)))
        names = list(table.recipe.columns)
        selected = ", ".join([ID, "text", "vector::real[]", score, *map(_quoted, names)])
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        given += _ordering(asked)
        statement = f"SELECT {selected} FROM {self._quoted}{where} ORDER BY {order} LIMIT %s"
        with self._said(), self._connection.transaction():
            for setting in _settings(asked, self._version()):
                self._run(setting)
            found = self._run(statement, [*given, asked.k]).fetchall()
        return [
            Candidate(row[0], row[1], dict(zip(names, row[4:], strict=True)), np.array(row[2], np.float32), row[3])
            for row in found
        ]

    def close(self) -> None:
        """Let go of the connection, and of the lock."""
        if not self._connection.broken and not self._connection.closed:
            self._all("SELECT pg_advisory_unlock_all()")  # the server would do it after a moment
        self._connection.close()

    def _lock(self) -> None:
        """Keep a second writer away; a server lets go of a killed one's lock after a moment."""
        for pause in (0.1, 0.4, 1.5, 0.0):
            (held,) = self._one("SELECT pg_try_advisory_lock(hashtextextended(%s, 7))", [f"embedrt {self._table}"])
            if held:
                return
            time.sleep(pause)
        raise DatabaseError(f"{self.name} is being written by another run; wait for its end")

    def _ranking(self, table: Description, asked: Asked, given: list[Any]) -> tuple[str, str]:
        """The column with the score, and what rows are ordered by; parameters of the former go into `given`."""
        if asked.words is not None:
            given.append(asked.words)
            return f"ts_rank_cd(to_tsvector('simple', text), {_ANY_WORD})", f"4 DESC, {ID}"
        operator, _ = _OPERATORS[table.recipe.similarity]
        if table.approximate == "binary" and not asked.exact:
            bits = f"bit({table.recipe.dimension})"
            return "0::real", f"binary_quantize(vector)::{bits} <~> binary_quantize(%s::vector)::{bits}"
        return "0::real", f"vector {operator} %s::vector"

    def _key(self, recipe: Recipe, kind: str) -> str:
        if kind == "binary":
            return f"(binary_quantize(vector)::bit({recipe.dimension})) bit_hamming_ops"
        return f"vector {_OPERATORS[recipe.similarity][1]}"

    def _index(self, kind: str) -> str:
        return f"{self._table}_embedrt_{kind}"

    def _drop(self, *kinds: str) -> None:
        with self._said():
            for kind in kinds:
                self._run(f"DROP INDEX IF EXISTS {_quoted(self._index(kind))}")

    def _make(self, kind: str, how: str) -> None:
        with self._said():
            self._run(f"CREATE INDEX {_quoted(self._index(kind))} ON {self._quoted} {how}")

    def _version(self) -> tuple[int, ...]:
        (version,) = self._one("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        return tuple(int(part) for part in version.split(".")[:2])

    def _one(self, statement: str, given: Sequence[Any] = ()) -> Any:
        return self._all(statement, given)[0]

    def _all(self, statement: str, given: Sequence[Any] = ()) -> list[Any]:
        with self._said():
            return list(self._run(statement, given).fetchall())

    def _run(self, statement: str, given: Sequence[Any] = ()) -> Any:
        """Always with parameters, if none: only then is %% one sign."""
        return self._connection.execute(statement, given, binary=True)

    @contextmanager
    def _said(self) -> Iterator[None]:
        with said(self.name):
            yield


def open_postgres(url: str, table: str, name: str, *, write: bool = False) -> PostgresDatabase:
    """A table of the database at a URL of libpq's.

    Raises:
        DatabaseError: the server cannot be reached, or another run writes the table.
        DependencyError: psycopg is not installed.
        OptionError: the table cannot be called so.
    """
    if len(f"{table}_embedrt_binary".encode()) > _LONGEST_NAME:
        raise OptionError(f"{table!r} is too long for a table's name")
    try:
        import psycopg
    except ImportError as exc:
        raise DependencyError("PostgreSQL needs psycopg: pip install 'embedrt[postgres]'") from exc
    with said(name):
        connection = psycopg.connect(url, autocommit=True, connect_timeout=10)
    try:
        return PostgresDatabase(connection, table, name, write=write)
    except BaseException:
        connection.close()
        raise


@contextmanager
def said(name: str) -> Iterator[None]:
    """psycopg's errors as DatabaseError, on one line."""
    import psycopg

    try:
        yield
    except psycopg.Error as exc:
        lines = [line.strip() for line in str(exc).strip().splitlines()] or [type(exc).__name__]
        hint = "; install pgvector on the server" if 'extension "vector" is not available' in lines[0] else ""
        raise DatabaseError(f"{name}: {lines[0][:300]}{hint}") from exc


_ANY_WORD = "replace(plainto_tsquery('simple', %s)::text, '&', '|')::tsquery"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def _parameter(value: Value, given: list[Any]) -> str:
    given.append(value)
    return "%s"


def _ordering(asked: Asked) -> list[Any]:
    return [] if asked.vector is None else [str(asked.vector.tolist())]


def _settings(asked: Asked, version: tuple[int, ...]) -> list[str]:
    """What one transaction sets: read only, and how far an index is searched, or that none is."""
    settings = ["SET TRANSACTION READ ONLY"]
    if asked.words is not None:
        return settings
    if asked.exact:
        return [*settings, "SET LOCAL enable_indexscan = off"]
    settings.append(f"SET LOCAL hnsw.ef_search = {min(max(asked.k, 40), _MOST_EF)}")
    if version >= (0, 8):  # go on where a condition leaves too few
        settings.append("SET LOCAL hnsw.iterative_scan = relaxed_order")
    return settings


def without_password(url: str) -> str:
    """The URL as messages may show it."""
    return re.sub(r"(://[^:/@?]*):[^@/]*@", r"\1@", url)
