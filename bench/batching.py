"""Which batching constants are fastest: real tokens per second over token budgets and overheads.

    python -m bench.batching BUNDLE [--variant int8] [--seconds 60] [--share 0.5]

The texts have the lengths of XQuAD's paragraphs and questions (see `bench.texts`), in arrival order, cut at the
model's limit. Every pair of constants runs once per round and the rounds are interleaved, so that what else the
machine does hits all of them alike; the median of each is printed, and its ratio to the constants in use.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from bench.texts import ragged_sets
from embedrt import Embedder
from embedrt.batching import BatchLimits

BUDGETS = (512, 1024, 2048)
OVERHEADS = (0, 12, 24, 48, 96)
Table = dict[tuple[int, int], float]  # (budget, overhead) -> real tokens/s


def measure(embedder: Embedder, texts: Sequence[str], num_tokens: int, seconds: float) -> Table:
    """Median speed of each pair of constants."""
    encoding = embedder._encoding
    runner = encoding.runner
    taken: dict[tuple[int, int], list[float]] = {pair: [] for pair in product(BUDGETS, OVERHEADS)}
    end = time.perf_counter() + seconds
    rounds = 0
    try:
        while time.perf_counter() < end or rounds < 3:
            for (budget, overhead), times in taken.items():
                limits = replace(runner.limits, budget_tokens=budget, overhead_tokens=overhead)
                embedder._encoding = replace(encoding, runner=replace(runner, limits=limits))
                start = time.perf_counter()
                embedder.encode_detailed(texts)
                times.append(time.perf_counter() - start)
            rounds += 1
    finally:
        embedder._encoding = encoding
    return {pair: num_tokens / statistics.median(times) for pair, times in taken.items()}


def render(table: Table) -> str:
    """A Markdown table: budgets down, overheads across, tokens/s and the ratio to the constants in use."""
    used = BatchLimits()
    base = table[used.budget_tokens, used.overhead_tokens]
    lines = [f"| budget | {' | '.join(f'overhead {o}' for o in OVERHEADS)} |", "|---" * (len(OVERHEADS) + 1) + "|"]
    for budget in BUDGETS:
        cells = (f"{table[budget, o]:,.0f} ({table[budget, o] / base:.2f})" for o in OVERHEADS)
        lines.append(f"| {budget} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print a table per set of texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--executor", default="onnxruntime", help="the one that pads, unless told otherwise")
    parser.add_argument("--seconds", type=float, default=60, help="per set of texts, about")
    parser.add_argument("--set", choices=("paragraphs", "questions"), action="append", help="[default: both]")
    parser.add_argument("--share", type=float, default=0.5, help="of the texts (64 paragraphs, 256 questions)")
    given = parser.parse_args()
    with Embedder(given.bundle, variant=given.variant, executor=given.executor) as embedder:
        sets = ragged_sets(
            lambda texts: embedder.count_tokens(list(texts)), embedder.max_tokens, english=True, share=given.share
        )
        for ragged in sets:
            if given.set and ragged.name.removeprefix("xquad-") not in given.set:
                continue
            print(f"\n{ragged.name} ({ragged.source}): {len(ragged.texts)} texts, {ragged.num_tokens:,} tokens, "
                  f"{embedder.executor_description}, {given.variant}\n")  # fmt: skip
            print(render(measure(embedder, ragged.texts, ragged.num_tokens, given.seconds)), flush=True)


if __name__ == "__main__":
    main()
