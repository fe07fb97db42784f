"""A Lance dataset as input: its fragments are planned as files are, at one version.

A fragment never changes in place: what is written makes another one, or gives it a list of deleted rows. Its tag says
which of the files with our columns it has, and which rows are deleted, so that a version with nothing but other
columns or other fragments leaves its shards as they are.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from embedrt.commands.reading.parquet import column_at, import_pyarrow, text_encoding, text_path, type_at
from embedrt.commands.reading.records import kept_columns
from embedrt.datasets.parts import import_lance
from embedrt.datasets.plan import Group, InputFile, Shard
from embedrt.datasets.sources import Rows, Source, batch_rows, of_batch
from embedrt.errors import FileFormatError, OptionError

_NAME = "fragment-"
_SAMPLE_ROWS = 1000  # spread over a fragment, of which the mean length of its texts is taken
_AHEAD_BYTES = 32 << 20  # that Lance reads before they are asked for


def pinned(source: Source) -> Source:
    """The source at the dataset's latest version.

    Raises:
        DependencyError: pylance is missing.
        FileFormatError: the dataset cannot be opened.
    """
    return replace(source, version=_opened(source.place, None).version)


def fragments(source: Source) -> Iterator[InputFile]:
    """The fragments that have rows, in the dataset's order, as files.

    Raises:
        OptionError: an option is given that means nothing here.
    """
    for option in ("delimiter", "quoting"):
        if getattr(source.how, option) is not None:
            raise OptionError(f"--{option} does not go with {source.place}: it is a Lance dataset")
    data = _dataset(source)
    wanted = _field_ids(source, data)
    for fragment in data.get_fragments():
        if fragment.count_rows():
            yield InputFile(f"{_NAME}{fragment.fragment_id}", _tag(fragment, wanted), _bytes(fragment))


def fragment_group(source: Source, file: InputFile) -> Group:
    """A fragment's rows. What their texts weigh is estimated from rows that are spread over it."""
    import pyarrow.compute as pc

    fragment = _fragment(source, file.path)
    rows = fragment.count_rows()
    path = text_path(source.how, fragment.schema, file.path)
    places = sorted({k * rows // _SAMPLE_ROWS for k in range(_SAMPLE_ROWS)})
    some = fragment.take(places, columns=[path[0]]).combine_chunks()
    lengths = [pc.sum(pc.binary_length(column_at(batch, path))).as_py() or 0 for batch in some.to_batches()]
    return Group(rows, sum(lengths) * rows // len(places))


def lance_sampled(source: Source) -> Source:
    """The source with the types of the columns that go along."""
    pa, _ = import_pyarrow()
    schema = _dataset(source).schema
    path = text_path(source.how, schema, source.place)
    text_encoding(type_at(schema, path), source.how, source.place, ".".join(path), schema)
    names = kept_columns(source.how, path[0], schema.names, source.place)
    return replace(source, schema=pa.schema([schema.field(name).remove_metadata() for name in names]))


def lance_rows(source: Source, shard: Shard) -> Iterator[Rows]:
    """A shard's rows; Lance finds the first of them without reading those before.

    Raises:
        FileFormatError: the fragment is another than when it was planned, or damaged.
    """
    data = _dataset(source)
    fragment = _fragment(source, shard.path)
    if _tag(fragment, _field_ids(source, data)) != shard.tag:
        raise FileFormatError(f"{shard.path} has changed since it was planned; run again with --resume")
    path = text_path(source.how, data.schema, shard.path)
    encoding = text_encoding(type_at(data.schema, path), source.how, shard.path, ".".join(path), data.schema)
    names = list(dict.fromkeys([path[0], *source.schema.names]))
    rows = batch_rows(_bytes(fragment), fragment.count_rows())
    try:
        for batch in fragment.to_batches(
            columns=names, offset=shard.first, limit=shard.rows, batch_size=rows, batch_readahead=1,
            io_buffer_size=_AHEAD_BYTES,
        ):  # fmt: skip
            yield of_batch(batch, path, encoding, source.schema)
    except (ValueError, OSError, RuntimeError) as exc:
        raise FileFormatError(f"{shard.path} cannot be read: {exc}") from exc


def _dataset(source: Source) -> Any:
    assert source.version is not None
    return _at_version(source.place, source.version)


@functools.lru_cache(maxsize=4)
def _at_version(place: str, version: int) -> Any:
    return _opened(place, version)


def _opened(place: str, version: int | None) -> Any:
    lance = import_lance()
    try:
        return lance.dataset(place, version=version)
    except (ValueError, OSError) as exc:
        what = "" if version is None else f" at version {version}"
        raise FileFormatError(f"{place} cannot be opened as a Lance dataset{what}: {exc}") from exc


def _fragment(source: Source, path: str) -> Any:
    found = _dataset(source).get_fragment(int(path.removeprefix(_NAME)))
    if found is None:
        raise FileFormatError(f"{path} is gone since it was planned; run again with --resume")
    return found


def _field_ids(source: Source, data: Any) -> set[int]:
    """Of the columns that are read, with what is inside them."""
    path = text_path(source.how, data.schema, source.place)
    names = {path[0], *(source.how.keep if source.how.keep != "all" else data.schema.names)}

    def ids(field: Any) -> Iterator[int]:
        yield field.id()
        for child in field.children():
            yield from ids(child)

    return {number for field in data.lance_schema.fields() if field.name() in names for number in ids(field)}


def _tag(fragment: Any, wanted: set[int]) -> str:
    """What changes when rows or our columns do."""
    metadata = fragment.metadata
    files = [file.path for file in metadata.files if wanted.intersection(file.fields)]
    deleted = fragment.deletion_file() if metadata.deletion_file is not None else None
    laid_over = [repr(one) for one in getattr(metadata, "overlays", None) or ()]
    parts = "\0".join([*files, str(metadata.physical_rows), str(deleted), *laid_over])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def _bytes(fragment: Any) -> int:
    return sum(file.file_size_bytes or 0 for file in fragment.metadata.files)
