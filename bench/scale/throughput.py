"""`python -m bench.scale.throughput BUNDLE`: embed_dataset against the library's own call, in turn on the same cores.

One run over all texts. After each shard the library encodes the same texts in the same process and with the same
threads, so that what else the machine does meets both alike. The shard's vectors are compared with the library's bit
by bit, and resident memory is read. The dataset's side plans, reads Parquet, embeds, writes Parquet with hashes and
records, and syncs; all of that is in its time.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from embedrt import Embedder
from embedrt.datasets.check import check_dataset
from embedrt.datasets.ledger import part_path
from embedrt.datasets.run import DatasetJob, Heard, embed_dataset

ROW_GROUP = 5000
TOLD_EVERY = 0.05  # of the shards
T = TypeVar("T")


def main() -> int:
    """Print a line for every twentieth of the shards, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--texts", type=int, default=30_000)
    parser.add_argument("--words", type=int, default=60, help="of the longest text; the shortest has 3")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--shard-tokens", type=int, default=400_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Embedder(asked.bundle, num_threads=asked.threads) as embedder:
        source, output = Path(folder, "in.parquet"), Path(folder, "out")
        write_texts(source, asked.texts, asked.words)
        print(f"{asked.texts:,} texts, {embedder.executor_description}", flush=True)
        embedder.encode(list(make_texts(512, asked.words)))
        sides = Sides(embedder, source, output)
        job = DatasetJob(
            str(source), str(output), asked.bundle, id="id", threads=asked.threads, shard_tokens=asked.shard_tokens
        )
        outcome = embed_dataset(job, sides.heard)
        assert outcome.complete, outcome
        print(sides.told(asked.texts))
        assert check_dataset(str(output)).holds
    print("same bits; check-dataset: every row once")
    return 0


@dataclass
class Sides:
    """The library's side, told of each shard that the dataset's side has done."""

    embedder: Embedder
    source: Path
    output: Path
    wall: float = 0.0  # seconds of the library's calls
    cpu: float = 0.0
    checking: float = 0.0  # seconds of what is neither side's: reading texts and vectors, comparing
    checking_cpu: float = 0.0
    resident: list[float] = field(default_factory=list)  # MiB after each shard
    begin: float = field(default_factory=time.perf_counter)
    cpu_begin: float = field(default_factory=time.process_time)
    said: int = 0

    def heard(self, heard: Heard) -> None:
        """Encode the shard's texts, compare, note the memory."""
        if heard.report is None:
            return
        shard = heard.report.shard
        texts = self._other(lambda: texts_at(self.source, shard.first, shard.rows))
        begin, cpu = time.perf_counter(), time.process_time()
        own = self.embedder.encode(texts)
        self.wall, self.cpu = self.wall + time.perf_counter() - begin, self.cpu + time.process_time() - cpu
        same = self._other(lambda: np.array_equal(vectors_of(self.output / part_path(shard.key)), own))
        assert same, f"other bits in rows {shard.first:,} to {shard.first + shard.rows:,}"
        self.resident.append(resident_mib())
        share = heard.done.shards / heard.totals.shards
        if share >= TOLD_EVERY * (self.said + 1):
            self.said = int(share / TOLD_EVERY)
            print(
                f"{heard.done.rows:,} texts, {self.resident[-1]:,.0f} MiB resident, {self.rates(heard.done.rows)}",
                flush=True,
            )

    def rates(self, texts: int) -> str:
        """Both sides and their ratios, so far."""
        wall = time.perf_counter() - self.begin - self.wall - self.checking
        used = time.process_time() - self.cpu_begin - self.cpu - self.checking_cpu
        return (
            f"library {texts / self.wall:,.0f} texts/s, embed-dataset {texts / wall:,.0f}: "
            f"ratio {self.wall / wall:.3f}; CPU seconds {self.cpu:,.0f} and {used:,.0f}: ratio {self.cpu / used:.3f}"
        )

    def told(self, texts: int) -> str:
        """The whole run, and what memory did."""
        quarter = max(1, len(self.resident) // 4)
        early, late = self.resident[quarter : 2 * quarter] or self.resident, self.resident[-quarter:]
        return (
            f"{self.rates(texts)}\n"
            f"resident: {max(early):,.0f} MiB at most in the second quarter of {len(self.resident)} shards, "
            f"{max(late):,.0f} in the last, {max(self.resident):,.0f} over all"
        )

    def _other(self, act: Callable[[], T]) -> T:
        begin, cpu = time.perf_counter(), time.process_time()
        done = act()
        self.checking += time.perf_counter() - begin
        self.checking_cpu += time.process_time() - cpu
        return done


def texts_at(source: Path, first: int, rows: int) -> list[str]:
    """Rows of the input."""
    file = pq.ParquetFile(source)
    a, b = first // ROW_GROUP, (first + rows - 1) // ROW_GROUP
    found: list[str] = file.read_row_groups(list(range(a, b + 1)), ["text"])["text"].to_pylist()
    return found[first - a * ROW_GROUP : first - a * ROW_GROUP + rows]


def vectors_of(part: Path) -> np.ndarray:
    """A shard's vectors (rows, D), by id."""
    table = pq.read_table(part).sort_by("id").combine_chunks()
    column = table["vector"].chunk(0)
    return column.flatten().to_numpy().reshape(len(column), -1)


WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend"
)


def make_texts(count: int, longest: int) -> Iterator[str]:
    """Different texts of 3 to `longest` words, seeded."""
    draw, words = random.Random(0), WORDS.split()
    return (f"{k} " + " ".join(draw.choices(words, k=draw.randint(3, longest))) for k in range(count))


def write_texts(path: Path, count: int, longest: int) -> None:
    """A Parquet file of them, with ids from 0."""
    texts, first = make_texts(count, longest), 0
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        while some := list(islice(texts, ROW_GROUP)):
            writer.write_table(pa.table({"id": range(first, first + len(some)), "text": some}, schema=schema))
            first += len(some)


def resident_mib() -> float:
    """Of this process."""
    return psutil.Process().memory_info().rss / (1 << 20)


if __name__ == "__main__":
    raise SystemExit(main())
