"""A table made to hold what a corpus holds: only new texts are embedded.

The corpus is read twice: once for hashes, which say what is new; once for the texts. Rows are kept as soon as a
second's work is embedded, and what is gone from the corpus is deleted last, so a run that is killed loses a second, and
the next one goes on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import compress, islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedrt.databases.columns import Type, hash_of, row_of
from embedrt.databases.hashing import Held, read_corpus, read_table
from embedrt.databases.ids import Ids, Names
from embedrt.databases.model import EXACT, Database, Description, Entry, Hashes, Recipe, Row
from embedrt.databases.planning import NOTHING, Hashed, Plan, planned
from embedrt.databases.recipes import keywords_of, recipe_of, refuse_other
from embedrt.errors import DatabaseError, FileFormatError, InputError, NonFiniteError, OptionError
from embedrt.progress import NullProgress, Progress
from embedrt.vectors.keys import Rows, key_of
from embedrt.vectors.nearest import blocks

if TYPE_CHECKING:
    from embedrt.embedder import Embedder
    from embedrt.results import EncodedBlock

_BLOCK_TEXTS = 256
_BLOCK_ROWS = 4096
_SAVE_SECONDS = 1.0  # a kill loses at most so much finished work
_LEAST_FOR_AN_INDEX = 256  # rows; codebooks are trained on the vectors, and so few are found faster without


@dataclass(frozen=True)
class IndexOptions:
    """How a table is made. What is None stays as the table has it."""

    prompt: str | None = None  # of documents
    prompt_name: str | None = None
    truncate_dim: int | None = None
    on_overflow: Literal["truncate", "error"] = "truncate"
    long: str | None = None  # "windows", in place of `on_overflow`; or how the entries, which are pieces, were cut
    ids: str | None = None  # what the entries' ids are called; None: rows are known by their texts
    approximate: str | None = None  # "exact", or an index of the database's
    words: str | None = None  # "none", or a tokenizer of the database's
    delete: bool = True  # rows that the corpus no longer has
    rebuild: bool = False


@dataclass(frozen=True)
class Indexed:
    """What was done."""

    table: Description
    num_added: int
    num_changed: int
    num_deleted: int
    num_same: int
    num_embedded: int  # texts; the other rows' vectors were there
    num_cut: int  # of those, texts over the model's limit
    too_few: bool = False  # rows for the approximate index that was asked for

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "identity": self.table.recipe.identity, "rows": self.table.num_rows, "added": self.num_added,
            "changed": self.num_changed, "deleted": self.num_deleted, "unchanged": self.num_same,
            "embedded": self.num_embedded, "cut": self.num_cut, "approximate": self.table.approximate,
            "full_text": self.table.words,
        }  # fmt: skip


def index(
    embedder: Embedder,
    database: Database,
    entries: Iterable[Entry],
    options: IndexOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Indexed:
    """Make the table hold these entries, as the model's documents.

    Args:
        embedder: what the table was made with, if it is there.
        database: from `open_database`.
        entries: read twice; an iterator is kept in memory.
        options: of the table; see there.
        progress: told of each step.

    Raises:
        FileFormatError: there are no entries, an id is missing or stands twice, or a text cannot be embedded.
        IdentityError: the table's vectors are another model's, variant's or prompt's.
        OptionError: columns or options do not go with the table or the database.
        DatabaseError: the database cannot be written.
    """
    corpus = list(entries) if isinstance(entries, Iterator) else entries
    return _Run(embedder, database, corpus, options or IndexOptions(), progress or NullProgress()).run()


@dataclass
class _Done:
    """Counts of a run."""

    num_embedded: int = 0
    num_cut: int = 0


@dataclass
class _Buffer:
    """Rows that wait to be written together, a second's work."""

    database: Database
    added: NDArray[np.bool_]  # of the plan
    new: list[Row] = field(default_factory=list)
    changed: list[Row] = field(default_factory=list)
    next_save: float = 0.0

    def take(self, rows: Iterable[tuple[int, Row]]) -> None:
        """Rows with their places in the corpus."""
        for place, row in rows:
            (self.new if self.added[place] else self.changed).append(row)
        if time.monotonic() >= self.next_save or len(self.new) + len(self.changed) >= _BLOCK_ROWS:
            self.flush()

    def flush(self) -> None:
        if self.new:
            self.database.add(self.new)
        if self.changed:
            self.database.upsert(self.changed)
        self.new, self.changed = [], []
        self.next_save = time.monotonic() + _SAVE_SECONDS


class _Run:
    """One run over a corpus."""

    def __init__(
        self,
        embedder: Embedder,
        database: Database,
        entries: Iterable[Entry],
        options: IndexOptions,
        progress: Progress,
    ) -> None:
        self._embedder = embedder
        self._database = database
        self._entries = entries
        self._options = options
        self._progress = progress
        self._done = _Done()

    def run(self) -> Indexed:
        options = self._options
        _check_offered(self._database, options)
        recipe = recipe_of(
            self._embedder, options.prompt, options.prompt_name, options.truncate_dim, options.ids, options.long
        )
        table = None if options.rebuild else self._database.describe()
        if table is not None:
            refuse_other(recipe, table.recipe, self._database.name)
            recipe = table.recipe
        types = None if table is None else recipe.columns
        read = read_corpus(self._entries, options.ids, types, self._columns)
        if table is None:
            recipe = replace(recipe, columns=read.types)
            self._database.create(recipe)
        stored = Held() if table is None else read_table(self._database)
        plan = planned(
            Hashed(read.ids.keys() if len(stored.ids) else NOTHING.ids, read.texts, read.columns), stored.rows
        )
        self._apply(plan, read.ids, stored.ids, recipe)
        gone = plan.gone if options.delete else plan.gone[:0]
        for some in blocks(len(gone), _BLOCK_ROWS):
            self._database.delete([stored.ids[row] for row in gone[some]])
        too_few = self._finish(table, num_rows=len(read.texts) + len(plan.gone) - len(gone))
        made = self._database.describe()
        if made is None:
            raise DatabaseError(f"{self._database.name}: the table went away while it was written")
        return Indexed(
            made, plan.num_added, plan.num_changed, len(gone), plan.num_same, self._done.num_embedded,
            self._done.num_cut, too_few,
        )  # fmt: skip

    def _columns(self, entry: Entry, types: dict[str, Type]) -> dict[str, Any]:
        try:
            return row_of(entry.columns, types)
        except OptionError as exc:
            at = f"{entry.place}: " if entry.place else ""
            raise OptionError(f"{at}{exc}; --keep chooses columns, --rebuild makes the table anew") from exc

    def _apply(self, plan: Plan, ids: Ids, stored: Names, recipe: Recipe) -> None:
        buffer = _Buffer(self._database, plan.added, next_save=time.monotonic() + _SAVE_SECONDS)
        self._copy(plan.copy, stored, ids, recipe, buffer)
        if plan.embed.any():
            with self._progress.step("embedding", int(plan.embed.sum())) as advance:
                self._embed(plan, ids, recipe, buffer, advance)
        self._copy(plan.copy_later, ids, ids, recipe, buffer)

    def _copy(self, sources: Rows, named: Ids | Names, ids: Ids, recipe: Recipe, buffer: _Buffer) -> None:
        """Write rows whose vectors are in the table: `sources` has the places of their ids in `named`."""
        chosen = sources >= 0
        rows = _rows_at(chosen, self._entries if chosen.any() else ())
        while block := list(islice(rows, _BLOCK_ROWS)):
            vectors = self._database.vectors([named[sources[row]] for row, _ in block])
            buffer.take(
                (row, self._row(ids[row], entry, vector, recipe))
                for (row, entry), vector in zip(block, vectors, strict=True)
            )
        buffer.flush()

    def _embed(self, plan: Plan, ids: Ids, recipe: Recipe, buffer: _Buffer, advance: Callable[[int], None]) -> None:
        pending: deque[tuple[int, Entry]] = deque()

        def texts() -> Iterator[str]:
            for row, entry in _rows_at(plan.embed, self._entries):
                pending.append((row, entry))
                yield entry.text

        keywords: dict[str, Any] = {"on_overflow": self._options.on_overflow, **keywords_of(recipe)}
        encoded = self._embedder.encode_stream(texts(), block_size=_BLOCK_TEXTS, **keywords)
        for block in _told_with_places(encoded, pending):
            taken = [pending.popleft() for _ in range(block.num_texts)]
            buffer.take(
                (row, self._row(ids[row], entry, vector, recipe))
                for (row, entry), vector in zip(taken, block.embeddings, strict=True)
            )
            self._done.num_embedded += len(taken)
            self._done.num_cut += len(block.truncated)
            advance(len(taken))
        buffer.flush()

    def _row(self, row_id: str, entry: Entry, vector: Any, recipe: Recipe) -> Row:
        columns = self._columns(entry, recipe.columns)
        return Row(row_id, entry.text, Hashes(key_of(entry.decides).hex(), hash_of(columns).hex()), columns, vector)

    def _finish(self, table: Description | None, num_rows: int) -> bool:
        """Make the indexes; whether there are too few rows for the one that was asked for."""
        options = self._options
        approximate = options.approximate or (table.approximate if table is not None else EXACT)
        words = options.words or (table.words if table is not None else None)
        too_few = approximate != EXACT and num_rows < _LEAST_FOR_AN_INDEX
        with self._progress.step("bringing the indexes up to date"):
            self._database.finish(EXACT if too_few else approximate, None if words == "none" else words)
        return too_few


def _rows_at(chosen: NDArray[np.bool_], entries: Iterable[Entry]) -> Iterator[tuple[int, Entry]]:
    """The entries that are chosen, with their places."""
    return compress(enumerate(entries), chosen.tobytes())


def _told_with_places(encoded: Iterator[EncodedBlock], pending: deque[tuple[int, Entry]]) -> Iterator[EncodedBlock]:
    """The blocks; an error about a text is told with the place it came from."""
    start = 0
    while True:
        try:
            block = next(encoded, None)
        except (InputError, NonFiniteError) as exc:
            at = -1 if exc.index is None else exc.index - start
            if not 0 <= at < len(pending):
                raise
            reason = exc.reason if isinstance(exc, InputError) else str(exc)
            raise FileFormatError(f"{pending[at][1].place or f'entry {pending[at][0] + 1}'}: {reason}") from exc
        if block is None:
            return
        start = block.start + block.num_texts
        yield block


def _check_offered(database: Database, options: IndexOptions) -> None:
    """Refuse an index that the database does not have, before anything is embedded."""
    offered = (EXACT, *database.approximations)
    if options.approximate is not None and options.approximate not in offered:
        raise OptionError(f"{database.name} searches {', '.join(offered)}, not {options.approximate!r}")
    tokenizers = ("none", *database.tokenizers)
    if options.words is not None and options.words not in tokenizers:
        raise OptionError(f"{database.name} has full-text indexes by {', '.join(tokenizers)}, not {options.words!r}")
