"""The native executor by itself: each kernel verified and timed, whole calls and where their time goes, calls at once.

    python -m bench.native [--threads 2] [--isa auto] [--shapes large,mini] [--rounds 9] [--families all]

Weights are seeded (only their sizes matter for speed). Kernels are compared with their numpy twins before they are
timed. Shares are of the peak of the instruction set itself for exact int8 products on as many threads, measured in the
same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tests.native import door, made, specs, twin

from bench.families import FAMILIES, operations
from bench.peaks import Peaks, higher, measure_peaks
from embedrt.executors import TokenBatch
from embedrt.executors.library import NativeEncoder
from embedrt.executors.native import NativeExecutor, available_isas, load_library

SHAPES = {
    "large": made.Shape(
        hidden=1024, layers=24, heads=16, ffn=4096, outliers=32, vocabulary=1000, positions=514,
        model_type="xlm-roberta", token_types=False,
    ),
    "base": made.Shape(
        hidden=768, layers=12, heads=12, ffn=3072, outliers=32, vocabulary=1000, positions=514,
        model_type="xlm-roberta", token_types=False,
    ),
    "mini": made.Shape(hidden=384, layers=6, heads=12, ffn=1536, outliers=32, vocabulary=1000, positions=512),
}  # fmt: skip
BATCHES = {
    "large": ((1, 16), (1, 64), (1, 128), (8, 128), (1, 512), (4, 512)),
    "base": ((1, 16), (1, 128), (8, 128)),
    "mini": ((1, 16), (1, 128), (32, 32), (32, 128), (8, 256)),
}
PRODUCTS = ("qkv", "attention output", "ffn up", "ffn down")
ROWS = 48
_TURN_S = 0.1  # of each of two callers: their start is not what is measured


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--shapes", default="large,mini")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--families", default="", help="of bench.families, separated by commas, or 'all': these alone")
    given = parser.parse_args()
    isa = given.isa
    if isa == "auto":
        isa = next(name for name, available in available_isas(load_library()).items() if available)
    cpus = sorted(os.sched_getaffinity(0))
    # twice, because whatever else runs makes a peak too low and a share too high
    one, all_threads = (
        higher(measure_peaks(some, isa), measure_peaks(some, isa)) for some in (cpus[:1], cpus[: given.threads])
    )
    if given.families:
        print(f"{isa}, {given.threads} threads; share of time per part")
        for name in FAMILIES if given.families == "all" else given.families.split(","):
            _family(name, isa, given.threads, given.rounds, all_threads)
        return
    for name in given.shapes.split(","):
        shape = SHAPES[name]
        print(f"\n{name}: {shape.layers} layers of {shape.hidden}, FFN {shape.ffn}, {isa}, one thread, {ROWS} rows")
        _kernels(shape, isa, one)
        print(f"\n{name}: whole calls, {given.threads} threads; share of time per step")
        _calls(name, isa, given.threads, given.rounds, all_threads)
        print(f"\n{name}: tokens/s with one thread, with {given.threads}, and of two callers at once on one executor")
        _at_once(name, isa, given.threads, given.rounds)


def _kernels(shape: made.Shape, isa: str, peaks: Peaks) -> None:
    rng = np.random.default_rng(0)
    hidden, ffn, main = shape.hidden, shape.ffn, shape.ffn - shape.outliers
    sizes = ((hidden, 3 * hidden), (hidden, hidden), (hidden, ffn), (main, hidden))
    for product, (k, n) in zip(PRODUCTS, sizes, strict=True):
        zero = shape.activation_zero if product == "ffn down" else 128
        x = rng.standard_normal((ROWS, k)).astype(np.float32)
        x = np.maximum(x, np.float32(-0.16)) if zero != 128 else x
        weight = rng.integers(-127, 128, (k, n)).astype(np.int8)
        scale, bias = np.full(n, 1e-3, np.float32), np.zeros(n, np.float32)
        epilogue = door.ACTIVATE if product == "ffn up" else door.STORE
        out, _, seconds = door.product(
            isa, x, weight, scale, bias, zero=zero, epilogue=epilogue, activation=door.GELU_ERF, repeat=30
        )
        wanted = twin.product(x, zero, weight, scale)
        if product == "ffn up":
            wanted = twin.gelu_erf(wanted)
        assert np.abs(out - wanted).max() < 1e-3 * np.abs(wanted).max(), f"{product} is wrong, so it is not timed"
        gops = 2 * ROWS * k * n / seconds / 1e9
        print(f"  {product:18} {k:5} x {n:5}  {gops:6.0f} GOPS {_share(gops, peaks)}")
    size = hidden // shape.heads
    for tokens in (128, 512):
        q, k_, v = (rng.standard_normal((tokens, size)).astype(np.float32) for _ in range(3))
        out, best = door.time_attention(isa, q, k_, v, 0, tokens, 30)
        error = np.abs(out - twin.attention(q.astype(np.float64), k_, v)).max()
        assert error < (1e-2 if isa in door.NARROW else 1e-4), f"attention is wrong by {error}, so it is not timed"
        print(f"  attention          {tokens:5} x {size:5}  {4 * tokens * tokens * size / best / 1e9:6.0f} GFLOPS")


def _calls(name: str, isa: str, threads: int, rounds: int, peaks: Peaks) -> None:
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory() as folder:
        bundle = made.write_bundle(Path(folder) / "bundle", shape)
        start = time.perf_counter()
        executor = NativeExecutor(bundle, "int8", num_threads=threads, isa=isa)
        print(f"  load {time.perf_counter() - start:.2f} s")
        for texts, tokens in BATCHES[name]:
            _call(
                executor,
                made.random_batch([tokens] * texts, shape.vocabulary),
                f"{texts}x{tokens}",
                2 * shape.layers * (4 * shape.hidden**2 + 2 * shape.hidden * shape.ffn),
                rounds,
                peaks,
            )
        executor.close()


def _family(name: str, isa: str, threads: int, rounds: int, peaks: Peaks) -> None:
    spec = FAMILIES[name]
    encoder = specs.load(spec, specs.int8_tensors(spec), isa=isa, threads=threads)
    for texts, tokens in ((1, 128), (8, 128), (2, 512)):
        batch = made.random_batch([tokens] * texts, spec.vocab_size)
        _call(encoder, batch, f"{name} {texts}x{tokens}", operations(spec), rounds, peaks)


def _call(
    executor: NativeExecutor | NativeEncoder, batch: TokenBatch, label: str, operations: int, rounds: int, peaks: Peaks
) -> None:
    """`operations`: of the products, per token."""
    executor.run(batch)
    before = executor.profile()
    times = [_seconds(lambda: executor.run(batch)) for _ in range(rounds)]
    spent = {step: seconds - before[step] for step, seconds in executor.profile().items()}
    total, median, tokens = sum(spent.values()), statistics.median(times), len(batch.token_ids)
    gops = tokens * operations / median / 1e9
    shares = ", ".join(
        f"{step} {100 * seconds / total:.0f}%" for step, seconds in spent.items() if seconds > total / 200
    )
    print(f"  {label:16} {tokens / median:8.0f} tokens/s {gops:6.0f} GOPS {_share(gops, peaks)}  {shares}", flush=True)


def _at_once(name: str, isa: str, threads: int, rounds: int) -> None:
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory() as folder:
        bundle = made.write_bundle(Path(folder) / "bundle", shape)
        one, several = (NativeExecutor(bundle, "int8", num_threads=n, isa=isa) for n in (1, threads))
        with ThreadPoolExecutor(2) as pool:
            for texts, tokens in BATCHES[name]:
                batch = made.random_batch([tokens] * texts, shape.vocabulary)
                run = partial(several.run, batch)
                count = max(1, round(_TURN_S / _seconds(run)))
                speeds: dict[str, list[float]] = {"one thread": [], "all threads": [], "two at once": []}
                for _ in range(rounds):
                    speeds["one thread"].append(_seconds(partial(one.run, batch)))
                    speeds["all threads"].append(_seconds(partial(_repeat, run, 2 * count)) / (2 * count))
                    both = partial(_wait_for, pool, partial(_repeat, run, count))
                    speeds["two at once"].append(_seconds(both) / (2 * count))
                cells = (f"{key} {texts * tokens / statistics.median(times):8.0f}" for key, times in speeds.items())
                print(f"  {f'{texts}x{tokens}':7} {', '.join(cells)}", flush=True)
        one.close()
        several.close()


def _wait_for(pool: Executor, run: Callable[[], object]) -> None:
    for call in [pool.submit(run) for _ in range(2)]:
        call.result()


def _repeat(run: Callable[[], object], count: int) -> None:
    for _ in range(count):
        run()


def _share(gops: float, peaks: Peaks) -> str:
    return f"({100 * gops / peaks.int8.value:3.0f}% of {peaks.int8.how})" if peaks.int8 else ""


def _seconds(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
