"""The proof: every row of the input is in the output once, or listed with the reason why it has no vector."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.arrow import VectorShape
from embedrt.commands.reading.parquet import import_pyarrow
from embedrt.commands.reading.records import How
from embedrt.datasets.inputs import input_files, read_shard
from embedrt.datasets.lance_input import pinned
from embedrt.datasets.ledger import FOLDER, Ledger, Record, Run
from embedrt.datasets.parts import import_lance, note_of, sha256_of
from embedrt.datasets.plan import Shard, changes
from embedrt.datasets.sources import LANCE, Source
from embedrt.datasets.stores import Store, reading, store_at
from embedrt.errors import FileFormatError

_BATCH_ROWS = 8192
_MOST = 20  # findings that are kept


@dataclass
class Proof:
    """What was found. Nothing is wrong where `findings` is empty."""

    shards: int = 0
    rows: int = 0  # of the input, as planned
    written: int = 0
    aside: int = 0
    bytes: int = 0
    identity: str = ""
    found: int = 0
    findings: tuple[str, ...] = ()

    def wrong(self, what: str) -> None:
        """Note a finding."""
        self.found += 1
        if len(self.findings) < _MOST:
            self.findings = (*self.findings, what)

    @property
    def holds(self) -> bool:
        """Whether nothing is missing, double or wrong."""
        return not self.found


def check_dataset(output: str, *, with_input: bool = True) -> Proof:
    """Check an output of `embed_dataset`, in memory that does not grow with it.

    For each shard: one record; the output's hash and number of rows; each row's place in the input, in order and
    without a gap but for rows that are listed as set aside; vectors of one identity, type and width, without NaN or
    infinity. Over all: no file that belongs to no shard.

    Args:
        output: folder or URL.
        with_input: compare ids with those of the input, and the input with the plan. It is read for that.

    Raises:
        FileFormatError: there is no run.
    """
    store = store_at(output)
    ledger = Ledger(store)
    run = ledger.run()
    if run is None or not ledger.has_plan():
        raise FileFormatError(f"{output} holds no planned run of embed-dataset")
    return _Check(store, ledger, run, with_input).go()


class _Check:
    def __init__(self, store: Store, ledger: Ledger, run: Run, with_input: bool) -> None:
        self._store, self._ledger, self._run, self._with_input = store, ledger, run, with_input
        self._shape = VectorShape(run.dimension, run.precision)
        self._source = _source_of(run)
        self._proof = Proof(identity=run.identity)

    def go(self) -> Proof:
        """Everything."""
        proof, keys = self._proof, set[str]()
        if self._with_input:
            self._compare_input()
        fragments: list[str] = []
        for entry in self._ledger.plan():
            if entry.problem:
                proof.wrong(f"{entry.file.path} could not be planned: {entry.problem}")
            for shard in entry.shards:
                if shard.key in keys:
                    proof.wrong(f"{_place(shard)}: planned twice")
                keys.add(shard.key)
                self._shard(shard, fragments)
        self._leftovers(keys)
        if self._run.output_format == "lance":
            self._lance(fragments)
        return proof

    def _compare_input(self) -> None:
        found = changes((entry.file for entry in self._ledger.plan()), input_files(self._source))
        for line in found.told():
            self._proof.wrong(f"the input is not what was planned: {line}")

    def _shard(self, shard: Shard, fragments: list[str]) -> None:
        proof = self._proof
        proof.shards += 1
        proof.rows += shard.rows
        record = self._ledger.record(shard.key)
        if record is None:
            proof.wrong(f"{_place(shard)}: not done")
            return
        proof.written += record.written
        proof.aside += record.aside
        proof.bytes += record.bytes
        fragments.extend(record.fragments)
        if record.identity != self._run.identity:
            proof.wrong(f"{_place(shard)}: identity {record.identity}, where the run has {self._run.identity}")
        if record.written + record.aside != shard.rows or record.rows != shard.rows:
            proof.wrong(f"{_place(shard)}: {record.written} written and {record.aside} set aside of {shard.rows} rows")
        aside = self._aside(shard, record)
        batches = self._batches(shard, record)
        if batches is not None:
            try:
                self._rows(shard, batches, aside)
            except Exception as exc:  # whatever a damaged file makes of its reader is a finding
                proof.wrong(f"{_place(shard)}: {' '.join(str(exc).split())[:200]}")

    def _aside(self, shard: Shard, record: Record) -> dict[int, Any]:
        """The rows set aside, by their place in the file."""
        if not record.aside:
            return {}
        path = self._ledger.aside_path(shard.key)
        if self._store.stat(path) is None:
            self._proof.wrong(f"{_place(shard)}: {path} is not there")
            return {}
        if sha256_of(self._store, path)[0] != record.aside_sha256:
            self._proof.wrong(f"{_place(shard)}: {path} has another hash than its record")
        with reading(self._store, path) as stream:
            rows = [json.loads(line) for line in stream]
        if len({row["row"] for row in rows}) != record.aside:
            self._proof.wrong(f"{_place(shard)}: {path} does not list {record.aside} rows")
        return {row["row"]: row.get("id") for row in rows}

    def _batches(self, shard: Shard, record: Record) -> Iterator[Any] | None:
        """The shard's output; None, with a finding, if it is not what was recorded."""
        proof = self._proof
        if self._run.output_format == "lance":
            return _lance_batches(self._store.root, record)
        if self._store.stat(record.file) is None:
            proof.wrong(f"{_place(shard)}: {record.file} is not there")
            return None
        if sha256_of(self._store, record.file) != (record.sha256, record.bytes):
            proof.wrong(f"{_place(shard)}: {record.file} has another hash than its record")
            return None
        return self._parquet_batches(shard, record)

    def _parquet_batches(self, shard: Shard, record: Record) -> Iterator[Any]:
        _, pq = import_pyarrow()
        with reading(self._store, record.file) as stream:
            file = pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
            note = note_of(file.metadata.metadata)
            if (note.get("key"), note.get("identity")) != (shard.key, self._run.identity):
                self._proof.wrong(f"{_place(shard)}: {record.file} says that it is of another shard or model")
            yield from file.iter_batches(batch_size=_BATCH_ROWS)

    def _rows(self, shard: Shard, batches: Iterator[Any], aside: dict[int, Any]) -> None:
        expected = self._places(shard, aside)
        count = 0
        for batch in batches:
            self._vectors(shard, batch.column(batch.schema.get_field_index("vector")))
            count += batch.num_rows
            if expected is not None:
                found = _place_columns(batch, self._run)
                wanted = [next(expected, None) for _ in range(batch.num_rows)]
                if found != wanted:
                    k = next(k for k in range(len(found)) if found[k] != wanted[k])
                    self._proof.wrong(
                        f"{_place(shard)}: row {count - batch.num_rows + k} is {found[k]}, not {wanted[k]}"
                    )
                    return
        if count != shard.rows - len(aside) or (expected is not None and next(expected, None) is not None):
            self._proof.wrong(f"{_place(shard)}: {count} rows where {shard.rows - len(aside)} should be")

    def _vectors(self, shard: Shard, column: Any) -> None:
        if column.type != self._shape.arrow_type:
            raise ValueError(f"vectors are {column.type}, not {self._shape.arrow_type}")
        if column.null_count:
            raise ValueError(f"{column.null_count} vectors are null")
        if self._run.precision.startswith("float"):
            numbers = column.flatten().to_numpy(zero_copy_only=False)
            if not np.isfinite(numbers).all():
                raise ValueError("a vector holds NaN or infinity")
        del shard

    def _places(self, shard: Shard, aside: dict[int, Any]) -> Iterator[Any] | None:
        """What says where each row comes from, in order: its id out of the input, or file and row."""
        rows = (row for row in range(shard.first, shard.first + shard.rows) if row not in aside)
        if self._run.options["id"] is None:
            return ((shard.path, row) for row in rows)
        return self._ids(shard, aside) if self._with_input else None

    def _ids(self, shard: Shard, aside: dict[int, Any]) -> Iterator[Any]:
        row = shard.first
        for some in read_shard(self._source, shard):
            for value in some.batch.column(1).to_pylist():
                if row not in aside:
                    yield value
                row += 1

    def _leftovers(self, keys: set[str]) -> None:
        for key in sorted(self._ledger.done() - keys):
            self._proof.wrong(f"a record of no shard of the plan: {key}")
        if self._run.output_format == "lance":
            return
        for stat in self._store.files():
            if stat.path.startswith(f"{FOLDER}/"):
                continue
            key = Path(stat.path).name.removeprefix("part-").removesuffix(".parquet")
            if key not in keys:
                self._proof.wrong(f"a file of no shard of the plan: {stat.path}")

    def _lance(self, fragments: list[str]) -> None:
        """The version that readers see has these fragments and no others."""
        lance = import_lance()
        wanted = [file.path for text in fragments for file in lance.FragmentMetadata.from_json(text).files]
        try:
            seen = lance.dataset(self._store.root).get_fragments()
        except (ValueError, OSError):
            seen = []
        if [file.path for fragment in seen for file in fragment.metadata.files] != wanted:
            self._proof.wrong(
                "the dataset's latest version does not hold the shards of the plan; run again with --resume"
            )


def _lance_batches(uri: str, record: Record) -> Iterator[Any]:
    lance = import_lance()
    data = lance.dataset(uri)
    wanted = [lance.FragmentMetadata.from_json(text).files[0].path for text in record.fragments]
    by_file = {fragment.metadata.files[0].path: fragment for fragment in data.get_fragments()}
    for path in wanted:
        yield from by_file[path].to_batches(batch_size=_BATCH_ROWS)


def _place_columns(batch: Any, run: Run) -> list[Any]:
    if run.options["id"] is not None:
        found: list[Any] = batch.column(batch.schema.get_field_index(run.options["id"])).to_pylist()
        return found
    file, row = (batch.column(batch.schema.get_field_index(name)).to_pylist() for name in ("file", "row"))
    return list(zip(file, row, strict=True))


def _source_of(run: Run) -> Source:
    pa, _ = import_pyarrow()
    options = run.options
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(run.schema)))
    how = How(options["text"], options["encoding"], options["delimiter"], options["quoting"], tuple(schema.names))
    source = Source(run.input, run.pattern, how, options["input_format"], schema)
    return pinned(source) if source.input_format == LANCE else source


def _place(shard: Shard) -> str:
    return f"{shard.path}, rows {shard.first:,} to {shard.first + shard.rows:,}"
