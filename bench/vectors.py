"""`embedrt.util` beside sentence-transformers' `util` on the same seeded arrays, one after the other in each round."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers import util as theirs

from embedrt import util as ours
from embedrt.machine import available_threads


@dataclass(frozen=True)
class Case:
    """One piece of work for both, and whether their results are the same."""

    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    equal: Callable[[Any, Any], bool]


def cases(width: int, rows: int, rng: np.random.Generator) -> list[Case]:
    """Searches, pairs and communities of `rows` vectors; theirs gets tensors, as its model gives them."""
    corpus = rng.standard_normal((rows, width), dtype=np.float32)
    queries = rng.standard_normal((1000, width), dtype=np.float32)
    some = corpus[: rows // 10]
    centres = rng.standard_normal((rows // 500, width), dtype=np.float32)
    clumps = np.repeat(centres, 50, axis=0)
    clumps += 0.3 * rng.standard_normal(clumps.shape, dtype=np.float32)
    tensor = torch.from_numpy

    def alike(a: Any, b: Any) -> bool:
        """Equal but for rounding, which lets rows of all but equal scores change places."""
        return len(a) == len(b) and np.allclose(a, b, atol=1e-5)

    def same_hits(a: Any, b: Any) -> bool:
        return all(alike([x["score"] for x in p], [y["score"] for y in q]) for p, q in zip(a, b, strict=True))

    return [
        Case(
            f"semantic_search, {n:,} of {rows:,}, top {k}",
            lambda n=n, k=k: ours.semantic_search(queries[:n], corpus, top_k=k),
            lambda n=n, k=k: theirs.semantic_search(tensor(queries[:n]), tensor(corpus), top_k=k),
            same_hits,
        )
        for n, k in ((1, 10), (1000, 10), (100, 100))
    ] + [
        Case(
            f"paraphrase_mining_embeddings, {len(some):,}, top 10",
            lambda: ours.paraphrase_mining_embeddings(some, top_k=10),
            lambda: theirs.paraphrase_mining_embeddings(tensor(some), top_k=10),
            lambda a, b: alike([pair[0] for pair in a], [pair[0] for pair in b]),
        ),
        Case(
            f"community_detection, {len(clumps):,}",
            lambda: ours.community_detection(clumps, threshold=0.8),
            lambda: theirs.community_detection(tensor(clumps), threshold=0.8),
            lambda a, b: {frozenset(group) for group in a} == {frozenset(group) for group in b},
        ),
    ]


def seconds(work: Callable[[], Any]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print a row per case: both medians, and how many times as fast ours is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(available_threads())
    print("| | ours, s | sentence-transformers, s | times as fast |\n|---|---|---|---|")
    for case in cases(given.width, given.rows, np.random.default_rng(0)):
        if not case.equal(case.ours(), case.theirs()):
            raise SystemExit(f"{case.name}: the results differ, nothing is timed")
        both = [(seconds(case.ours), seconds(case.theirs)) for _ in range(given.rounds)]
        a, b = (statistics.median(column) for column in zip(*both, strict=True))
        print(f"| {case.name} | {a:.3f} | {b:.3f} | {b / a:.2f} |", flush=True)


if __name__ == "__main__":
    main()
