"""Where rows come from, of whatever kind, and rows as they are handed on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedrt.commands.reading.formats import format_of, is_known
from embedrt.commands.reading.parquet import Unreadable, column_at, import_pyarrow, texts_of
from embedrt.commands.reading.records import How
from embedrt.datasets.stores import Store, is_url, split_pattern, store_at
from embedrt.errors import FileFormatError

TEXT = "embedrt: text"  # the column of texts in the batches of a shard; no input calls one so
LANCE = "lance"  # the input format of a Lance dataset
BATCH_BYTES = 8 << 20
BATCH_ROWS = 2048


@dataclass(frozen=True)
class Source:
    """Where rows come from, and which of their columns are wanted."""

    place: str  # folder or URL
    pattern: str = ""  # of the files below it; "": all whose suffix is known
    how: How = field(default_factory=How)  # `keep` are the columns that go along, the id first
    input_format: str | None = None
    schema: Any = None  # of the columns that go along; found by `sampled`
    version: int | None = None  # of a Lance dataset: what is planned is what is read, whatever is written meanwhile

    @property
    def store(self) -> Store:
        """The folder."""
        return store_at(self.place)

    def format_of(self, path: str) -> str:
        """A file's format, by its suffix unless it was said."""
        return self.input_format or format_of(Path(path))


@dataclass(frozen=True)
class Rows:
    """Some rows of a shard."""

    batch: Any  # RecordBatch: TEXT, and the columns that go along
    problems: dict[int, str]  # why rows, by place in the batch, have no text


def source_at(place: str, how: How, input_format: str | None = None) -> Source:
    """The source at a file, a folder, a glob or a URL. A folder that holds Lance's versions is a Lance dataset.

    Raises:
        FileFormatError: nothing is there.
    """
    place = place.removeprefix("file://").rstrip("/")
    if input_format is None and _is_lance(place):
        from embedrt.datasets.lance_input import pinned

        return pinned(Source(place if is_url(place) else str(Path(place).absolute()), "", how, LANCE))
    if is_url(place):
        parent, _, name = place.rpartition("/")
        if is_known(Path(name)) and store_at(parent).stat(name) is not None:
            return Source(parent, name, how, input_format)
    elif Path(place).is_file():
        path = Path(place).absolute()
        return Source(str(path.parent), path.name, how, input_format)
    elif Path(place).is_dir():
        return Source(str(Path(place).absolute()), "", how, input_format)
    folder, pattern = split_pattern(place)
    if not is_url(place):
        if not pattern or not Path(folder).is_dir():
            raise FileFormatError(f"{place} is not there")
        folder = str(Path(folder).absolute())
    return Source(folder, pattern, how, input_format)


def of_batch(batch: Any, path: tuple[str, ...], encoding: str, schema: Any) -> Rows:
    """Rows out of a batch of the input: the texts at the end of `path`, and the columns of `schema`."""
    pa, _ = import_pyarrow()
    column, problems = column_at(batch, path), {}
    if not any(getattr(pa.types, f"is_{kind}")(column.type) for kind in ("string", "large_string", "string_view")):
        values = texts_of(column, encoding)
        problems = {k: str(value) for k, value in enumerate(values) if isinstance(value, Unreadable)}
        column = pa.array([None if k in problems else value for k, value in enumerate(values)], pa.large_string())
    kept = [batch.column(name).cast(schema.field(name).type) for name in schema.names]
    return Rows(pa.RecordBatch.from_arrays([column, *kept], names=[TEXT, *schema.names]), problems)


def batch_rows(num_bytes: int, rows: int) -> int:
    """Rows to decode at once, for about BATCH_BYTES."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, num_bytes)))


def _is_lance(place: str) -> bool:
    """Whether a place is a folder with versions of a Lance dataset in it."""
    if split_pattern(place)[1]:
        return False
    if not is_url(place):
        return Path(place, "_versions").is_dir()
    return not is_known(Path(place)) and next(store_at(place).files("_versions"), None) is not None
