"""What lies in OUT/_embedrt: what the run is, its plan, and a record per finished shard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from embedrt._schema import SchemaError, decode
from embedrt.datasets.plan import InputFile, Shard
from embedrt.datasets.stores import Store, reading
from embedrt.errors import FileFormatError

FOLDER = "_embedrt"  # readers of datasets skip what begins with "_"
_RUN, _PLAN = f"{FOLDER}/run.json", f"{FOLDER}/plan.jsonl"
FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What must be the same for two runs to give the same output."""

    identity: str
    model: str
    variant: str
    dimension: int
    precision: str
    input: str
    pattern: str
    options: dict[str, Any]
    schema: str  # of the columns that go along, Arrow's bytes in base64
    output_format: str = "parquet"
    format: int = FORMAT


@dataclass(frozen=True)
class Record:
    """A finished shard."""

    key: str
    path: str  # of its input file
    first: int
    rows: int  # of the input
    written: int  # rows with a vector
    aside: int  # rows without one; aside/KEY.jsonl says why
    tokens: int  # that the model has read, repeats left out
    cut: int  # texts over the limit
    repeats: int  # rows whose text came before
    identity: str
    aside_sha256: str = ""
    file: str = ""  # the output's name; "" for Lance
    bytes: int = 0
    sha256: str = ""
    fragments: tuple[str, ...] = ()  # Lance's, JSON


@dataclass(frozen=True)
class Totals:
    """Of a plan."""

    files: int = 0
    shards: int = 0
    rows: int = 0
    tokens: int = 0

    def plus(self, shard: Shard) -> Totals:
        """With one shard more."""
        return replace(self, shards=self.shards + 1, rows=self.rows + shard.rows, tokens=self.tokens + shard.tokens)


@dataclass(frozen=True)
class Planned:
    """A file of the plan with its shards; `problem` says why it has none."""

    file: InputFile
    shards: tuple[Shard, ...]
    problem: str | None = None

    @property
    def path(self) -> str:
        """Of the file."""
        return self.file.path


class Ledger:
    """The record of one output."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def run(self) -> Run | None:
        """What the output was made for; None for a new one."""
        if self._store.stat(_RUN) is None:
            return None
        with reading(self._store, _RUN) as stream:
            return self._decoded(Run, stream.read(), _RUN)

    def save_run(self, run: Run) -> None:
        """Say what the output is made for."""
        self._store.write(_RUN, json.dumps(asdict(run), indent=1).encode())

    def save_plan(self, planned: Iterable[Planned]) -> Totals:
        """Write a plan, file by file: no more than one file's shards are held. It replaces the earlier one whole."""
        totals = Totals()
        scratch = self._store.scratch()
        with scratch.open("w", encoding="utf-8") as stream:
            for entry in planned:
                shards = [[s.first, s.rows, s.tokens, s.start, s.stop] for s in entry.shards]
                line = {**asdict(entry.file), "shards": shards, "problem": entry.problem}
                stream.write(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n")
                totals = replace(totals, files=totals.files + 1)
                for shard in entry.shards:
                    totals = totals.plus(shard)
        self._store.put(scratch, _PLAN)
        return totals

    def has_plan(self) -> bool:
        """Whether a plan was written to its end."""
        return self._store.stat(_PLAN) is not None

    def plan(self) -> Iterator[Planned]:
        """The plan, file by file."""
        with reading(self._store, _PLAN) as stream:
            for line in stream:
                try:
                    entry = json.loads(line)
                    file = InputFile(entry["path"], entry["tag"], entry["bytes"])
                    shards = tuple(Shard(file.path, file.tag, *numbers) for numbers in entry["shards"])
                    yield Planned(file, shards, entry["problem"])
                except (ValueError, KeyError, TypeError) as exc:
                    raise FileFormatError(f"{self._store.root}/{_PLAN} is no plan of this embedrt ({exc})") from exc

    def shards(self) -> Iterator[Shard]:
        """All shards, in the plan's order."""
        for entry in self.plan():
            yield from entry.shards

    def done(self) -> set[str]:
        """Keys of the shards that are recorded."""
        found = self._store.files(f"{FOLDER}/done")
        return {stat.path.rpartition("/")[2].removesuffix(".json") for stat in found if stat.path.endswith(".json")}

    def record(self, key: str) -> Record | None:
        """A shard's record; None if it is not done."""
        path = self._record_path(key)
        if self._store.stat(path) is None:
            return None
        with reading(self._store, path) as stream:
            return self._decoded(Record, stream.read(), path)

    def save_record(self, record: Record) -> Record:
        """Record a shard as done; the record that holds: the first one, if another has come before."""
        scratch = self._store.scratch()
        scratch.write_text(json.dumps(asdict(record)), encoding="utf-8")
        if self._store.put_new(scratch, self._record_path(record.key)):
            return record
        return self.record(record.key) or record

    def save_aside(self, key: str, lines: bytes) -> None:
        """Rows that were set aside, with their reasons."""
        self._store.write(self.aside_path(key), lines)

    def forget(self, key: str) -> None:
        """Remove a shard's record and output, in an order that never leaves a record without its file."""
        self._store.remove(self._record_path(key))
        self._store.remove(part_path(key))
        self._store.remove(self.aside_path(key))

    @staticmethod
    def aside_path(key: str) -> str:
        """Where the rows that were set aside are listed."""
        return f"{FOLDER}/aside/{key}.jsonl"

    @staticmethod
    def _record_path(key: str) -> str:
        return f"{FOLDER}/done/{key[:2]}/{key}.json"  # 256 folders: no one of them grows large

    def _decoded(self, kind: type[T], data: bytes, path: str) -> T:
        try:
            return decode(kind, json.loads(data))
        except (ValueError, SchemaError) as exc:
            raise FileFormatError(f"{self._store.root}/{path} is of another embedrt, or damaged ({exc})") from exc


def part_path(key: str) -> str:
    """A shard's output."""
    return f"part-{key}.parquet"


def differences(before: Run, now: Run) -> list[str]:
    """What differs between two runs, for a message."""
    found = []
    for name in ("input", "pattern", "output_format", "precision", "variant"):
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            found.append(f"{name.replace('_', ' ')} was {old!r}, now {new!r}")
    for name in sorted({*before.options, *now.options}):
        if before.options.get(name) != now.options.get(name):
            found.append(f"--{name.replace('_', '-')} was {before.options.get(name)!r}, now {now.options.get(name)!r}")
    if not found and before.identity != now.identity:
        found.append(f"the bundle is another one: identity {before.identity} then, {now.identity} now")
    return found
