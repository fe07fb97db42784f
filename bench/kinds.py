"""Rerankers, SPLADE, ColBERT and BGE-M3's three outputs beside peers: `python -m bench.kinds KIND`.

    python -m bench.kinds rerank                  one query with 100 passages of 128 tokens, MiniLM-L6's shape
    python -m bench.kinds rerank --shape large    the same, bge-reranker-v2-m3's shape
    python -m bench.kinds splade                  64 English paragraphs of XQuAD, SPLADE-v3's shape
    python -m bench.kinds colbert                 the same, ColBERTv2's shape
    python -m bench.kinds m3                      64 paragraphs, BGE-M3's shape: three outputs beside the dense one

Every system is a process of its own, stopped while another one runs; in each round each has its turn, and a figure is
the median over rounds of the rounds' medians. Before anything is timed, answers are compared with those of
sentence-transformers in fp32; what is wrong is said and not timed. fastembed runs the fp32 graph on ONNX Runtime, as
"ort-fp32" does.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import artifacts
from bench.kind_models import SHAPES, seeded
from bench.machine import available_cpus, describe_machine
from bench.process import SystemFailed, SystemProcess
from bench.systems import KIND_SYSTEMS, SystemSpec
from bench.systems.base import load_tokenizer
from bench.texts import ragged_sets
from bench.worker import Effort

PASSAGES, TOKENS = 100, 128  # of each pair, the query's and special tokens included
_QUERY = "how long does it take until a parcel arrives"
_AGREES = 0.9  # least cosine of any answer with the reference's, of a reranker the scores' correlation
_EFFORT = Effort(min_seconds=2.0, min_calls=2, max_seconds=math.inf)


def main() -> None:
    """Measure one kind, and print a table."""
    given = _arguments()
    kind, cpus = given.kind, available_cpus()
    model = seeded(kind, given.shape or SHAPES[kind][0], given.layers)
    texts = passages(model) if kind == "rerank" else paragraphs(model, given.share, artifacts.is_english(model))
    print(f"{model.name}, {describe_machine(len(cpus)).cpu}, {len(cpus)} threads", flush=True)
    specs = [spec for name, spec in KIND_SYSTEMS.items() if name.startswith(f"{kind}-")]
    if given.systems:
        specs = [spec for spec in specs if spec.name.removeprefix(f"{kind}-") in given.systems.split(",")]
    running = _started(specs, model, cpus)
    try:
        times = rounds(_verified(running, texts), texts, given.rounds)
    finally:
        for process in running.values():
            process.close()
    _print(times)


def passages(model: Path) -> list[str]:
    """A query, and passages that make pairs of `TOKENS` tokens with it.

    Passages are pieces of XQuAD's English paragraphs where the data is there, and of built-in texts elsewhere.
    """
    tokenizer = load_tokenizer(model)
    tokenizer.no_truncation()
    words = " ".join(paragraphs(model, 1.0, english=True)).split()
    found, place = [_QUERY], 0
    while len(found) <= PASSAGES:
        words_of, length = [], 0
        while length < TOKENS and place < len(words):
            words_of.append(words[place])
            place += 1
            length = len(tokenizer.encode(_QUERY, " ".join(words_of)).ids)
        while length > TOKENS or length < TOKENS:  # "a" is one token, in either vocabulary
            words_of = words_of[:-1] if length > TOKENS else [*words_of, "a"]
            length = len(tokenizer.encode(_QUERY, " ".join(words_of)).ids)
        found.append(" ".join(words_of))
        place %= len(words) - TOKENS
    return found


def paragraphs(model: Path, share: float, english: bool) -> list[str]:
    """XQuAD's, as `bench.texts.ragged_sets` gives them."""
    tokenizer = load_tokenizer(model)
    tokenizer.no_truncation()
    sets = ragged_sets(
        lambda texts: [len(one.ids) for one in tokenizer.encode_batch(list(texts))],
        512, english=english, share=share,
    )  # fmt: skip
    return list(sets[0].texts)


def rounds(running: dict[str, SystemProcess], texts: Sequence[str], count: int) -> dict[str, list[float]]:
    """Median seconds of each round, by system."""
    times: dict[str, list[float]] = {name: [] for name in running}
    for process in running.values():
        process.pause()
    for number in range(count):
        for name, process in running.items():
            with process.running():
                seconds = process.time_texts(texts, "", 0 if number else 9, _EFFORT)
            times[name].append(statistics.median(seconds))
    return times


def agreement(kind: str, reference: Any, found: Any) -> float:
    """The least cosine of rows, over tokens of ColBERT's; of scores their correlation."""
    if kind == "rerank":
        return float(np.corrcoef(reference, found)[0, 1])
    if kind == "splade":
        lengths = [np.sqrt(one.multiply(one).sum(axis=1)).A1 for one in (reference, found)]
        return float((reference.multiply(found).sum(axis=1).A1 / lengths[0] / lengths[1]).min())
    return min(float((a * b).sum(axis=1).min()) for a, b in zip(reference, found, strict=True))


def _started(specs: Sequence[SystemSpec], model: Path, cpus: Sequence[int]) -> dict[str, SystemProcess]:
    running: dict[str, SystemProcess] = {}
    for spec in specs:
        try:
            artifact = artifacts.ensure(spec.artifact, model, lambda said: print(said, flush=True))
            process = SystemProcess(spec.name, cpus)
            running[spec.name] = process
            process.load(artifact, model, len(cpus))
        except (artifacts.BuildError, SystemFailed) as exc:
            print(f"{spec.title}: left out, {exc}", flush=True)
            if (failed := running.pop(spec.name, None)) is not None:
                failed.close()
    return running


def _verified(running: dict[str, SystemProcess], texts: Sequence[str]) -> dict[str, SystemProcess]:
    """Those whose answers are the reference's; the three outputs of BGE-M3 are verified by their export alone."""
    some, good = list(texts[:17]), dict[str, SystemProcess]()
    reference: Any = None
    for name, process in running.items():  # the reference comes first
        answer = process.encode_texts(some, "")
        kind = name.partition("-")[0]
        reference = answer if reference is None else reference
        value = agreement(kind, reference, answer) if kind != "m3" else float(np.abs(reference - answer).max() < 1e-6)
        if value < _AGREES:
            print(f"{KIND_SYSTEMS[name].title}: not timed, its answers are others ({value:.4f})", flush=True)
        else:
            print(f"{KIND_SYSTEMS[name].title}: agrees with the reference to {value:.6f}", flush=True)
            good[name] = process
    return good


def _print(times: dict[str, list[float]]) -> None:
    figures = {name: statistics.median(found) * 1e3 for name, found in times.items()}
    fastest = min((ms for name, ms in figures.items() if "-ours" not in name), default=math.nan)
    first = next(iter(figures.values()))
    print("\n| system | ms per call | rounds | of the fastest peer's speed | of the first one's time |")
    print("|---|---|---|---|---|")
    for name, ms in figures.items():
        every = " ".join(f"{1e3 * seconds:.0f}" for seconds in times[name])
        print(f"| {KIND_SYSTEMS[name].title} | {ms:.1f} | {every} | {fastest / ms:.2f} | {ms / first:.3f} |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=SHAPES)
    parser.add_argument(
        "--shape", help="size of the encoder: " + "; ".join(f"{k}: {', '.join(v)}" for k, v in SHAPES.items())
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--systems", help="names joined by commas, without the kind; the first is the reference")
    parser.add_argument("--share", type=float, default=1.0, help="of the 64 paragraphs")
    parser.add_argument("--layers", type=int, help="of the encoder, to try the benchmark out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
