"""`python -m bench.isa_speed`: the speed of this machine's instruction sets beside each other, by shape.

    python -m bench.isa_speed [--isa amx,avx512vnni] [--shapes large,mini] [--threads 2] [--rounds 9]

Encoders with seeded weights, loaded once for each set; their calls take turns, so that whatever else runs disturbs all
of them alike. Printed are the medians in tokens/s; their share of the set's own peak of exact int8 products, measured
in the same run, attention not counted; and the median of the ratios of the calls of a turn to those of the last set.
`--own-time` takes the processor time of the calling thread instead of the clock's, for machines that others load.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import date
from pathlib import Path

from tests.native import made

from bench.machine import available_cpus, describe_machine
from bench.native import BATCHES, SHAPES
from bench.peaks import Peak, measure_peaks
from embedrt.executors import TokenBatch
from embedrt.executors.library import available_isas, load_library
from embedrt.executors.native import NativeExecutor


def main() -> None:
    """Print a table for each shape."""
    here = [name for name, available in available_isas(load_library()).items() if available and name != "portable"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", default=",".join(here), help="sets, separated by commas; the others are to the last")
    parser.add_argument("--shapes", default="large,mini")
    parser.add_argument("--threads", type=int, default=len(available_cpus()))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--own-time", action="store_true", help="the calling thread's processor time; one thread")
    given = parser.parse_args()
    if given.own_time and given.threads != 1:
        parser.error("--own-time is of the calling thread: give --threads 1 with it")
    clock = time.thread_time if given.own_time else time.perf_counter
    isas = given.isa.split(",")
    timed = "own" if given.own_time else "wall"
    print(f"{describe_machine(given.threads).cpu}, {given.threads} threads, {timed} time, {date.today()}")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    peaks = {isa: measure_peaks(available_cpus()[: given.threads], isa).int8 for isa in isas}
    print(", ".join(f"{isa}: {peak.value:.0f} GOPS" for isa, peak in peaks.items() if peak))
    for name in given.shapes.split(","):
        shape = SHAPES[name]
        print(f"\n{name}: {shape.layers} layers of {shape.hidden}, FFN {shape.ffn}; tokens/s (share of peak), ratio")
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            bundle = made.write_bundle(Path(folder) / "bundle", shape)
            executors = {
                isa: stack.enter_context(closing(NativeExecutor(bundle, "int8", num_threads=given.threads, isa=isa)))
                for isa in isas
            }
            for texts, tokens in BATCHES[name]:
                batch = made.random_batch([tokens] * texts, shape.vocabulary)
                seconds = _interleaved(executors, batch, given.rounds, clock)
                print(f"  {f'{texts}x{tokens}':7} {_row(shape, seconds, len(batch.token_ids), peaks)}", flush=True)


def _interleaved(
    executors: Mapping[str, NativeExecutor], batch: TokenBatch, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each call. A turn has at least 30 ms of calls, so that short ones find their weights in the caches."""
    seconds: dict[str, list[float]] = {isa: [] for isa in executors}
    for turn in range(rounds + 1):
        for isa, executor in executors.items():
            calls = [_seconds(executor, batch, clock)]
            while sum(calls) < 0.03:
                calls.append(_seconds(executor, batch, clock))
            if turn > 0:
                seconds[isa].append(statistics.median(calls))
    return seconds


def _row(
    shape: made.Shape, seconds: Mapping[str, Sequence[float]], tokens: int, peaks: Mapping[str, Peak | None]
) -> str:
    operations = 2 * shape.layers * (4 * shape.hidden**2 + 2 * shape.hidden * shape.ffn) * tokens
    last = list(seconds.values())[-1]
    cells = []
    for isa, own in seconds.items():
        median, peak = statistics.median(own), peaks[isa]
        share = f" ({operations / median / 1e7 / peak.value:3.0f}%)" if peak else ""
        ratio = statistics.median(theirs / ours for ours, theirs in zip(own, last, strict=True))
        cells.append(f"{isa} {tokens / median:7.0f}{share} {ratio:5.2f}")
    return "   ".join(cells)


def _seconds(executor: NativeExecutor, batch: TokenBatch, clock: Callable[[], float]) -> float:
    start = clock()
    executor.run(batch)
    return clock() - start


if __name__ == "__main__":
    main()
