"""What a call with one short text costs besides the encoder's kernels.

    python -m bench.overhead BUNDLE [--variant int8] [--threads 1]

Each call is timed as a whole, and the encoder within it: natively by its own clocks (`NativeExecutor.profile`), which
leave out what a run needs before and after its kernels; else by timing the executor's `run`. The difference is the
rest: options, tokenizing, planning, pooling, normalizing. Tokenizing is also timed by itself, between calls. Medians
over some thousand calls, texts in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedrt import Embedder
from embedrt.executors.native import NativeExecutor

TEXTS = ("weather in Seoul", "how much protein should a female eat", "서울은 대한민국의 수도이다.", "fox")
CALLS = 4_000
_WARM_UP = 200


@dataclass(frozen=True)
class Overhead:
    """Medians, in microseconds."""

    whole: float  # Embedder.encode(text)
    executor: float  # of that, in the encoder
    rest: float  # whole - executor, of the same call
    tokenizer: float  # of the rest, about: the same text tokenized once more


def measure(embedder: Embedder, calls: int = CALLS) -> Overhead:
    """Time `calls` calls, after some that are not counted."""
    rounds: list[tuple[float, float, float]] = []
    with _clock(embedder) as spent:
        for i in range(_WARM_UP + calls):
            text = TEXTS[i % len(TEXTS)]
            before = spent()
            start = time.perf_counter()
            embedder.encode(text)
            between = time.perf_counter()
            embedder.tokenizer.short_ids(text)
            end = time.perf_counter()
            rounds.append((between - start, spent() - before, end - between))
    counted = rounds[_WARM_UP:]
    whole, executor, tokenizer = (1e6 * statistics.median(row[k] for row in counted) for k in range(3))
    return Overhead(whole, executor, 1e6 * statistics.median(row[0] - row[1] for row in counted), tokenizer)


@contextmanager
def _clock(embedder: Embedder) -> Iterator[Callable[[], float]]:
    """What says how many seconds the encoder has run so far."""
    executor = embedder._executor
    if isinstance(executor, NativeExecutor):
        yield lambda: sum(executor.profile().values())
        return
    run, inside = executor.run, 0.0

    def timed(*given: Any, **named: Any) -> Any:
        nonlocal inside
        start = time.perf_counter()
        result = run(*given, **named)
        inside += time.perf_counter() - start
        return result

    executor.run = timed  # type: ignore[method-assign]
    try:
        yield lambda: inside
    finally:
        executor.run = run  # type: ignore[method-assign]


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with Embedder(given.bundle, variant=given.variant, num_threads=given.threads) as embedder:
        found = measure(embedder)
        print(
            f"{embedder.executor_description}: whole {found.whole:.0f} us, executor {found.executor:.0f} us, "
            f"rest {found.rest:.1f} us, of which the tokenizer about {found.tokenizer:.1f} us"
        )


if __name__ == "__main__":
    main()
