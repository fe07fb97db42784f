"""Callers side by side: the throughput of several threads with one core each, beside as many times one caller's.

    python -m bench.callers BUNDLE [--callers 2] [--rounds 40] [--texts 64]

Each round times one caller, then all of them at once, then one again, each for the same texts and with
`num_threads=1`; the share is of the medians. Time in which a caller could have run and another program had the core is
left out of it, as the kernel counts it (/proc/PID/task/TID/schedstat): the wall's share, which has it in, stands beside
it and says something on an idle machine only. What is left besides computing is waiting for each other: for the GIL,
and in the executor.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path

from bench.server_shares import short_texts
from embedrt import Embedder


@dataclass(frozen=True)
class Run:
    """Some callers' texts."""

    wall: float  # texts per second
    given: float  # texts per second of the time in which the callers had a core or waited for each other
    waited: float  # share of that time in which they did not compute


@dataclass(frozen=True)
class Callers:
    """Medians over the rounds."""

    one: Run
    several: Run

    def share(self, callers: int) -> float:
        """What several do, of so many times one, in the time that they were given."""
        return self.several.given / (callers * self.one.given)

    def wall_share(self, callers: int) -> float:
        """The same by the clock on the wall."""
        return self.several.wall / (callers * self.one.wall)


def scheduled() -> tuple[float, float]:
    """Seconds that this thread has run, and that it waited for a core."""
    ran, waited, _ = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


def run_at_once(embedder: Embedder, texts: list[str], callers: int) -> Run:
    """So many threads that each embed all texts one by one."""
    given, computed = [0.0] * callers, [0.0] * callers
    barrier = threading.Barrier(callers + 1)

    def call(k: int) -> None:
        barrier.wait()
        begin, (ran, waited) = time.perf_counter(), scheduled()
        for text in texts:
            embedder.encode(text)
        end, (ran_then, waited_then) = time.perf_counter(), scheduled()
        given[k] = end - begin - (waited_then - waited)
        computed[k] = ran_then - ran

    threads = [threading.Thread(target=call, args=(k,)) for k in range(callers)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - begin
    rate = sum(len(texts) / seconds for seconds in given)
    return Run(callers * len(texts) / wall, rate, 1 - sum(computed) / sum(given))


def middle(runs: list[Run]) -> Run:
    """Medians."""
    return Run(*(statistics.median(getattr(run, field.name) for run in runs) for field in fields(Run)))


def measure(embedder: Embedder, callers: int, rounds: int, num_texts: int) -> Callers:
    """Interleaved rounds."""
    texts = short_texts()[:num_texts]
    one, several = [], []
    run_at_once(embedder, texts, callers)
    for _ in range(rounds):
        one.append(run_at_once(embedder, texts, 1))
        several.append(run_at_once(embedder, texts, callers))
        one.append(run_at_once(embedder, texts, 1))
    return Callers(middle(one), middle(several))


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
            f"{embedder.executor_description}: one caller {found.one.given:.0f} texts/s, {given.callers} at once "
            f"{found.several.given:.0f}, {found.share(given.callers):.0%} of {given.callers} times one; they waited "
            f"for each other {found.several.waited:.1%} of the time, one alone {found.one.waited:.1%}; by the wall "
            f"{found.one.wall:.0f} and {found.several.wall:.0f} texts/s, {found.wall_share(given.callers):.0%}"
        )


if __name__ == "__main__":
    main()
