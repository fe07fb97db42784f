"""`python -m bench.scale.memory BUNDLE`: what a worker holds while it does shards of one huge row group.

A Parquet file with a single row group (2 GiB by default, uncompressed) and a text of 10 MB in its middle. After the
model has been opened and has run, the first shard, the one with the long text and the last, for which all others are
decoded, are read, embedded and written; the most that the process holds is told beside what it held before.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.scale.throughput import make_texts, resident_mib
from embedrt.batch import EmbedBatch
from embedrt.commands.reading.records import How
from embedrt.datasets.inputs import groups_of, input_files, sampled
from embedrt.datasets.plan import Shard, cut
from embedrt.datasets.sources import TEXT, source_at
from embedrt.datasets.work import Job, do_shard

CHUNK_TEXTS = 20_000
LONG_CHARS = 10_000_000


def main() -> int:
    """Print a line per shard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--mib", type=int, default=2048, help="of the row group")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--shard-tokens", type=int, default=200_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "in", "in.parquet")
        path.parent.mkdir()
        long_row = write_row_group(path, asked.mib << 20)
        print(f"a row group of {path.stat().st_size / (1 << 20):,.0f} MiB")
        source = source_at(str(path.parent), How("text", keep=("id",)))
        file = next(input_files(source))
        source = sampled(source, file)
        embed = EmbedBatch(asked.bundle, TEXT, error="error", keep=(), num_threads=asked.threads)
        embed(pa.table({TEXT: list(make_texts(4096, 60))}))
        job = Job(embed, source, str(Path(folder, "out")), has_id=True)
        shards = list(cut(file, groups_of(source, file), embed.max_tokens, asked.shard_tokens))
        middle = next(shard for shard in shards if shard.first <= long_row < shard.first + shard.rows)
        print(f"{len(shards):,} shards; {resident_mib():,.0f} MiB with the model, before the first of them")
        for name, shard in (("first", shards[0]), ("with the text of 10 MB", middle), ("last", shards[-1])):
            print(f"{name}: {shard.rows:,} rows, {most_mib(job, shard):,.0f} MiB at most", flush=True)
    return 0


def write_row_group(path: Path, num_bytes: int) -> int:
    """A file of ids and texts in one row group of about so many bytes; the row of a text of 10 MB.

    The same chunk of texts stands in it again and again: writing holds one.
    """
    chunk = pa.array(make_texts(CHUNK_TEXTS, 60))
    copies = max(2, (num_bytes - LONG_CHARS) // chunk.nbytes)
    before = copies // 2
    long = pa.array(["stone " * (LONG_CHARS // 6)])
    texts = pa.chunked_array([*[chunk] * before, long, *[chunk] * (copies - before)])
    table = pa.table({"id": pa.array(range(len(texts))), "text": texts})
    pq.write_table(table, path, row_group_size=len(table), compression="none", use_dictionary=False)
    assert pq.read_metadata(path).num_row_groups == 1
    return before * CHUNK_TEXTS


def most_mib(job: Job, shard: Shard) -> float:
    """What this process holds at most while it does a shard, looked at every 10 ms."""
    most, done = resident_mib(), threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, resident_mib())

    looker = threading.Thread(target=look)
    looker.start()
    try:
        report = do_shard(job, shard)
    finally:
        done.set()
        looker.join()
    assert report.record is not None, report.problem
    return most


if __name__ == "__main__":
    raise SystemExit(main())
