"""A shard's output: a Parquet file that is there whole or not at all, or fragments of a Lance dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedrt.commands.reading.parquet import import_pyarrow
from embedrt.datasets.ledger import Ledger, Record, part_path
from embedrt.datasets.stores import Store, reading
from embedrt.errors import DependencyError, FileFormatError

_GROUP_BYTES = 32 << 20
_NOTE = b"embedrt"  # the key of our note in a file's own metadata


@dataclass
class Counts:
    """What is known of a shard once its rows have gone by."""

    rows: int = 0
    written: int = 0
    tokens: int = 0
    cut: int = 0
    repeats: int = 0


def write_parquet(path: Path, schema: Any, batches: Iterator[Any], note: Mapping[str, Any], counts: Counts) -> None:
    """Write a file of batches, and what it is into its footer.

    `note` and `counts`, which stand once the batches are through, are the shard's record: whoever finds the file
    knows all of it.
    """
    _, pq = import_pyarrow()
    plain = schema.names[:-1]  # the vector is the last: its numbers do not repeat
    writer = pq.ParquetWriter(path, schema, compression=dict.fromkeys(plain, "zstd"), use_dictionary=plain)
    try:
        for table in _grouped(batches, schema):
            writer.write_table(table, row_group_size=max(1, table.num_rows))
        writer.add_key_value_metadata({_NOTE.decode(): json.dumps({**note, **asdict(counts)})})
    finally:
        writer.close()


def publish(ledger: Ledger, store: Store, local: Path, record: Record) -> Record:
    """Give a written file its name and record it. Where the name is taken, the file that has it is recorded."""
    record = _with_file(record, local)
    if store.put_new(local, record.file):
        return ledger.save_record(record)
    found = adopt(ledger, store, record.key)
    if found is None:
        raise FileFormatError(f"{store.root}/{record.file} is there, and is no output of this shard; remove it")
    return found


def adopt(ledger: Ledger, store: Store, key: str) -> Record | None:
    """Record a shard whose file is there without a record, which a kill between the two leaves; None without a file."""
    path = part_path(key)
    if store.stat(path) is None:
        return None
    _, pq = import_pyarrow()
    with reading(store, path) as stream:
        note = json.loads((pq.read_metadata(stream).metadata or {}).get(_NOTE, b"{}"))
    if note.get("key") != key:
        return None
    with reading(store, path) as stream:
        digest, size = _hash(stream)
    return ledger.save_record(Record(**{**note, "file": path, "bytes": size, "sha256": digest}))


def write_lance(uri: str, schema: Any, batches: Iterator[Any]) -> tuple[str, ...]:
    """Write fragments that belong to no version of the dataset yet."""
    pa, _ = import_pyarrow()
    lance = import_lance()
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    made = lance.fragment.write_fragments(reader, uri, schema=schema, mode="append", max_rows_per_file=1 << 30)
    return tuple(json.dumps(fragment.to_json()) for fragment in made)


def commit_lance(uri: str, schema: Any, fragments: Iterator[str]) -> None:
    """Make a version of the dataset of these fragments alone; nothing, if the latest one has them already."""
    lance = import_lance()
    found = [lance.FragmentMetadata.from_json(text) for text in fragments]
    wanted = [file.path for fragment in found for file in fragment.files]
    try:
        latest = lance.dataset(uri)
        if [file.path for fragment in latest.get_fragments() for file in fragment.metadata.files] == wanted:
            return
    except (ValueError, OSError):  # no version yet
        pass
    lance.LanceDataset.commit(uri, lance.LanceOperation.Overwrite(schema, found))


def import_lance() -> Any:
    """lance; DependencyError says how to install it."""
    try:
        import lance
        import lance.fragment
    except ImportError as exc:
        raise DependencyError("Lance datasets need pylance: pip install pylance") from exc
    return lance


def sha256_of(store: Store, path: str) -> tuple[str, int]:
    """Hash and size of a file."""
    with reading(store, path) as stream:
        return _hash(stream)


def note_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """Our note in a file's metadata."""
    found: dict[str, Any] = json.loads((metadata or {}).get(_NOTE, b"{}"))
    return found


def _with_file(record: Record, local: Path) -> Record:
    with local.open("rb") as stream:
        digest, size = _hash(stream)
    return Record(**{**asdict(record), "file": part_path(record.key), "bytes": size, "sha256": digest})


def _hash(stream: Any) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while data := stream.read(1 << 20):
        digest.update(data)
        size += len(data)
    return digest.hexdigest(), size


def _grouped(batches: Iterator[Any], schema: Any) -> Iterator[Any]:
    """Tables of about _GROUP_BYTES; one without rows if there are none."""
    pa, _ = import_pyarrow()
    held: list[Any] = []
    size, any_ = 0, False
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= _GROUP_BYTES:
            yield pa.Table.from_batches(held, schema)
            held, size, any_ = [], 0, True
    if held or not any_:
        yield pa.Table.from_batches(held, schema)
