"""`python -m bench.scale.throughput BUNDLE`: embed_dataset against the library's own call, in turn on the same cores.

Both have the same texts and threads. The dataset's side reads Parquet, writes Parquet with hashes and records, and
syncs. The vectors are compared bit by bit; resident memory is read after each round.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from embedrt import Embedder
from embedrt.datasets.check import check_dataset
from embedrt.datasets.run import DatasetJob, embed_dataset


def main() -> int:
    """Print a line per round, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    asked = parser.parse_args()
    texts = make_texts(asked.texts)
    ratios, cpu_ratios = [], []
    with tempfile.TemporaryDirectory() as folder, Embedder(asked.bundle, num_threads=asked.threads) as embedder:
        pq.write_table(
            pa.table({"id": range(len(texts)), "text": texts}), Path(folder, "in.parquet"), row_group_size=5000
        )
        tokens = sum(min(n, embedder.max_tokens) for n in embedder.count_tokens(texts))
        print(f"{len(texts):,} texts, {tokens:,} tokens, {embedder.executor_description}", flush=True)
        embedder.encode(texts[:512])
        for number in range(asked.rounds):
            begin, cpu = time.perf_counter(), time.process_time()
            own = embedder.encode(texts)
            library, library_cpu = time.perf_counter() - begin, time.process_time() - cpu
            output = str(Path(folder, "out"))
            shutil.rmtree(output, ignore_errors=True)
            begin, cpu = time.perf_counter(), time.process_time()
            job = DatasetJob(f"{folder}/in.parquet", output, asked.bundle, id="id", threads=asked.threads)
            outcome = embed_dataset(job)
            dataset, dataset_cpu = time.perf_counter() - begin, time.process_time() - cpu
            assert outcome.complete, outcome
            ratios.append(library / dataset)
            cpu_ratios.append(library_cpu / dataset_cpu)  # says more where others use the machine, too
            table = pq.read_table(output).sort_by("id")
            same = np.array_equal(np.array(table["vector"].to_pylist(), np.float32), own)
            assert same, "other bits"
            memory = psutil.Process().memory_info().rss >> 20
            print(
                f"round {number + 1}: library {len(texts) / library:,.0f} texts/s, embed-dataset "
                f"{len(texts) / dataset:,.0f} texts/s, ratio {ratios[-1]:.3f}, of CPU time {cpu_ratios[-1]:.3f}, "
                f"same bits, {memory:,} MiB resident",
                flush=True,
            )
        assert check_dataset(output).holds
    told = f"median ratio {statistics.median(ratios):.3f}, of CPU time {statistics.median(cpu_ratios):.3f}"
    print(f"{told}; check-dataset: every row once")
    return 0


WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend"
)


def make_texts(count: int) -> list[str]:
    """Different texts of 3 to 60 words, seeded."""
    draw, words = random.Random(0), WORDS.split()
    return [f"{k} " + " ".join(draw.choices(words, k=draw.randint(3, 60))) for k in range(count)]


if __name__ == "__main__":
    raise SystemExit(main())
