"""One shard: read, embed, write, record. Runs in a worker of any engine."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embedrt.arrow import arrow_vectors
from embedrt.batch import BLOCK_TEXTS, EmbedBatch
from embedrt.commands.reading.parquet import import_pyarrow
from embedrt.datasets.inputs import read_shard
from embedrt.datasets.ledger import Ledger, Record
from embedrt.datasets.parts import Counts, adopt, publish, write_lance, write_parquet
from embedrt.datasets.plan import BYTES_PER_TOKEN, Shard
from embedrt.datasets.policy import Verdict, verdict, wait_s
from embedrt.datasets.seen import Embedded, VectorStore, embed_once
from embedrt.datasets.sources import Source
from embedrt.datasets.stores import Store, store_at

_BLOCK_BYTES = 16 << 20  # of text are held at once for embedding, twice


@dataclass(frozen=True)
class Job:
    """What is done with every shard. Picklable."""

    embed: EmbedBatch
    source: Source  # with its schema
    out: str
    output_format: str = "parquet"  # or "lance"
    has_id: bool = False  # without one, file and row say where a vector comes from
    dedup_store: str | None = None

    @property
    def schema(self) -> Any:
        """Of the output."""
        pa, _ = import_pyarrow()
        place = [] if self.has_id else [pa.field("file", pa.string()), pa.field("row", pa.int64())]
        return pa.schema([*place, *self.source.schema, *self.embed.added.remove(1)])


@dataclass(frozen=True)
class Report:
    """What became of a shard."""

    shard: Shard
    record: Record | None = None  # None: it is not done
    problem: str | None = None
    ends_run: bool = False
    seconds: float = 0.0


def do_shard(job: Job, shard: Shard, sleep: Callable[[float], None] = time.sleep) -> Report:
    """Do a shard, or find it done. Never raises for what may befall a shard: the report says it."""
    begin = time.monotonic()
    draw = random.Random(shard.key)
    tries = 0
    while True:
        tries += 1
        try:
            return Report(shard, _done(job, shard), seconds=time.monotonic() - begin)
        except Exception as exc:
            ends = verdict(exc, tries)
            if ends is not Verdict.RETRY:
                problem = f"{shard.path}, rows {shard.first:,} to {shard.first + shard.rows:,}: {_told(exc)}"
                return Report(shard, None, problem, ends is Verdict.RUN, time.monotonic() - begin)
        sleep(wait_s(tries, draw))


def _done(job: Job, shard: Shard) -> Record:
    store = store_at(job.out)
    ledger = Ledger(store)
    key = shard.key
    found = ledger.record(key) or (adopt(ledger, store, key) if job.output_format == "parquet" else None)
    return found or _make(job, shard, store, ledger)


def _make(job: Job, shard: Shard, store: Store, ledger: Ledger) -> Record:
    counts, aside = Counts(), list[dict[str, Any]]()
    known = None if job.dedup_store is None else VectorStore(job.dedup_store, job.embed.identity, job.embed.shape)
    note = {"key": shard.key, "path": shard.path, "first": shard.first, "identity": job.embed.identity, "aside": 0}
    local = store.scratch()
    try:
        batches = _output(job, shard, counts, aside, known)
        if job.output_format == "lance":
            fragments = write_lance(job.out, job.schema, batches)
            lines = _aside(ledger, shard.key, aside)
            record = Record(**{**note, **asdict(counts), **lines}, fragments=fragments)
            return ledger.save_record(record)
        write_parquet(
            local, job.schema, _then(batches, lambda: note.update(_aside(ledger, shard.key, aside))), note, counts
        )
        return publish(ledger, store, local, Record(**{**note, **asdict(counts)}))
    finally:
        local.unlink(missing_ok=True)
        if known is not None:
            known.close()


def _then(batches: Iterator[Any], last: Callable[[], None]) -> Iterator[Any]:
    yield from batches
    last()


def _output(
    job: Job, shard: Shard, counts: Counts, aside: list[dict[str, Any]], known: VectorStore | None
) -> Iterator[Any]:
    """Batches of the output; `counts` and `aside` are told of what goes by."""
    rows = read_shard(job.source, shard)
    for done in embed_once(job.embed, rows, _block_texts(shard), known):
        yield _output_batch(job, shard, counts, aside, done)
    if counts.rows != shard.rows:
        raise ValueError(f"{counts.rows:,} rows were read where {shard.rows:,} were planned")


def _output_batch(job: Job, shard: Shard, counts: Counts, aside: list[dict[str, Any]], done: Embedded) -> Any:
    pa, _ = import_pyarrow()
    made, batch = done.vectors, done.rows.batch
    first, failed = shard.first + counts.rows, made.failed
    for k, reason in sorted(made.reasons.items()):
        named = {"id": batch.column(1)[k].as_py()} if job.has_id else {}
        aside.append({"file": shard.path, "row": first + k, **named, "reason": reason})
    good = ~failed
    kept = [column.filter(pa.array(good)) if failed.any() else column for column in batch.columns[1:]]
    vectors = arrow_vectors(made.vectors[good], job.embed.shape.arrow_type)
    n = int(good.sum())
    place = [] if job.has_id else [pa.array([shard.path] * n, pa.string()), pa.array(first + np.flatnonzero(good))]
    counts.rows += batch.num_rows
    counts.written += n
    counts.cut += int(made.truncated.sum())
    counts.repeats += done.repeats
    counts.tokens += int(np.minimum(made.tokens, job.embed.max_tokens).sum())
    return pa.RecordBatch.from_arrays([*place, *kept, vectors], schema=job.schema)


def _aside(ledger: Ledger, key: str, aside: list[dict[str, Any]]) -> dict[str, Any]:
    if not aside:
        return {"aside": 0, "aside_sha256": ""}
    lines = "".join(json.dumps(row, ensure_ascii=True, default=str) + "\n" for row in aside).encode()
    ledger.save_aside(key, lines)
    return {"aside": len(aside), "aside_sha256": hashlib.sha256(lines).hexdigest()}


def _block_texts(shard: Shard) -> int:
    """Texts to hold at once, so that a shard of very long ones needs no more memory."""
    mean = max(1, shard.tokens * BYTES_PER_TOKEN // max(1, shard.rows))
    return max(16, min(BLOCK_TEXTS, _BLOCK_BYTES // mean))


def _told(exc: BaseException) -> str:
    text = " ".join(str(exc).split()) or type(exc).__name__
    return text if len(text) <= 300 else text[:297] + "..."
