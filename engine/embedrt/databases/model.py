"""What a table holds, what is asked of it, and the few methods that make something a database here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedrt.databases.columns import Type, Value
from embedrt.databases.where import Condition

FORMAT = 1
EXACT = "exact"


@dataclass(frozen=True)
class Entry:
    """A record of a corpus."""

    text: str
    id: str | None = None  # None: known by its text
    columns: Mapping[str, object] = field(default_factory=dict)
    place: str = ""  # where it stands, for messages: "line 7"
    content: str | None = None  # what decides its vector, where that is not the text: of a picture's path, the file

    @property
    def decides(self) -> str:
        """What decides its vector."""
        return self.text if self.content is None else self.content


@dataclass(frozen=True, slots=True)
class Hashes:
    """What a row was made of: keys of `embedrt.vectors.keys` in hexadecimal."""

    text: str
    columns: str


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    id: str
    text: str
    hashes: Hashes
    columns: Mapping[str, Value]  # by the table's columns, all of them
    vector: NDArray[np.float32]  # (D,)


@dataclass(frozen=True)
class Recipe:
    """What decides a table's vectors, and where they came from; kept with the table."""

    identity: str
    bundle: str  # a name, or an absolute path
    model: str
    variant: str
    similarity: str
    dimension: int
    prompt: str | None = None  # of documents
    prompt_name: str | None = None
    truncate_dim: int | None = None
    long: str | None = None  # what became of texts over the limit: None (cut), "windows", or the size of pieces
    ids: str | None = None  # the corpus' column that rows are known by; None: their texts
    columns: dict[str, Type] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True)
class Description:
    """A table as it is."""

    recipe: Recipe
    num_rows: int
    approximate: str = EXACT  # the index over the vectors, one of the database's `approximations`
    words: str | None = None  # the tokenizer of the full-text index


@dataclass(frozen=True)
class Asked:
    """One search for candidates: by vector, or by words."""

    k: int
    vector: NDArray[np.float32] | None = None  # (D,)
    words: str | None = None
    where: Condition | None = None
    exact: bool = False  # leave an approximate index aside


@dataclass(frozen=True)
class Candidate:
    """A row that a search found."""

    id: str
    text: str
    columns: Mapping[str, Value]
    vector: NDArray[np.float32]  # (D,) as it was stored
    score: float  # the database's own, larger is better


class Database(Protocol):
    """One table of one database. Errors are DatabaseError, or OptionError for what it does not offer."""

    name: str  # as messages call it

    @property
    def approximations(self) -> tuple[str, ...]:
        """Indexes over the vectors, without EXACT."""

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """Tokenizers of full-text indexes."""

    def describe(self) -> Description | None:
        """The table; None if there is none yet."""

    def create(self, recipe: Recipe) -> None:
        """An empty table, in place of one that is there."""

    def ids_and_hashes(self) -> Iterator[tuple[str, Hashes]]:
        """Every row's id, and what the row was made of; read as they are asked for, in no order."""

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The vectors (n, D) of rows that are there."""

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows of ids that are not in the table; once it returns, no kill and no crash loses them."""

    def upsert(self, rows: Sequence[Row]) -> None:
        """Add rows, or replace those of the same ids; as safe, and dearer where a table must be looked through."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows; ids that are not there are passed over."""

    def finish(self, approximate: str, words: str | None) -> None:
        """Bring the indexes in line with the rows, after making or dropping them as asked."""

    def search(self, asked: Asked) -> list[Candidate]:
        """The k best rows, best first. Approximate indexes need not be right: callers score the vectors anew."""

    def close(self) -> None:
        """Let go of connections and locks."""
