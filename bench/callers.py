"""Callers side by side: the throughput of several threads with one core each, beside as many times one caller's.

    python -m bench.callers BUNDLE [--callers 2] [--rounds 40] [--texts 64]

Each round times one caller, then all of them at once, then one again, each for the same texts and with
`num_threads=1`; the share is of the medians. How much of the time callers waited stands beside it: where other programs
take the cores, one alone waits as well, and then the share says nothing.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bench.server_shares import short_texts
from embedrt import Embedder


@dataclass(frozen=True)
class Callers:
    """Medians over the rounds."""

    one: float  # texts per second of one caller
    several: float  # of all at once
    waited: float  # share of the callers' wall time, when all run, in which they did not compute
    waited_alone: float  # the same of one caller

    def share(self, callers: int) -> float:
        """Of `callers` times one."""
        return self.several / (callers * self.one)


def run_at_once(embedder: Embedder, texts: list[str], callers: int) -> tuple[float, float]:
    """Texts per second of so many threads that each embed all texts one by one, and the share of time they waited."""
    computed = [0.0] * callers
    barrier = threading.Barrier(callers + 1)

    def call(k: int) -> None:
        barrier.wait()
        begin = time.thread_time()
        for text in texts:
            embedder.encode(text)
        computed[k] = time.thread_time() - begin

    threads = [threading.Thread(target=call, args=(k,)) for k in range(callers)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - begin
    return callers * len(texts) / wall, 1 - sum(computed) / (callers * wall)


def measure(embedder: Embedder, callers: int, rounds: int, num_texts: int) -> Callers:
    """Interleaved rounds."""
    texts = short_texts()[:num_texts]
    one, several = [], []
    run_at_once(embedder, texts, callers)
    for _ in range(rounds):
        one.append(run_at_once(embedder, texts, 1))
        several.append(run_at_once(embedder, texts, callers))
        one.append(run_at_once(embedder, texts, 1))
    middle = [statistics.median(row[k] for row in rows) for rows in (one, several) for k in (0, 1)]
    return Callers(middle[0], middle[2], middle[3], middle[1])


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", default="auto")
    parser.add_argument("--callers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--texts", type=int, default=64)
    given = parser.parse_args()
    with Embedder(given.bundle, variant=given.variant, num_threads=1) as embedder:
        found = measure(embedder, given.callers, given.rounds, given.texts)
        print(
            f"{embedder.executor_description}: one caller {found.one:.0f} texts/s, {given.callers} at once "
            f"{found.several:.0f}, {found.share(given.callers):.0%} of {given.callers} times one; callers waited "
            f"{found.waited:.0%} of the time, one alone {found.waited_alone:.0%}"
        )


if __name__ == "__main__":
    main()
