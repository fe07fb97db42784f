"""`python -m bench.accuracy`: all-MiniLM-L6-v2 against numbers that others published.

STS-B English test (Spearman 82.03 published), every variant and, with --peers, every system that is timed; cosine to
PyTorch fp32 over all its sentences; and the vector of "why is the sky blue?" that Ollama gives for all-minilm.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import artifacts, models
from bench.machine import available_cpus
from bench.paths import DATA, REPO
from bench.process import SystemFailed, SystemProcess
from bench.systems import REFERENCE, SYSTEMS
from bench.systems.base import Vectors
from embedrt.parity.metrics import correlation, ranks

PUBLISHED_STSB = 82.03
OLLAMA_TEXT = "why is the sky blue?"
STSB = DATA / "stsb_multi_mt" / "stsb-en-test.csv"
OLLAMA = DATA / "reference_vectors" / "ollama_embed.json"


@dataclass(frozen=True)
class Accuracy:
    """One system on STS-B English test."""

    system: str
    spearman: float  # x 100
    cosine_mean: float  # to PyTorch fp32, all sentences
    cosine_p01: float
    cosine_min: float
    centered_min: float
    ollama_cosine: float | None


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation, ties at their mean rank."""
    return correlation(ranks(a), ranks(b))


def read_stsb() -> tuple[list[str], list[str], NDArray[np.float64]]:
    """First sentences, second sentences, scores 0..5 of STS-B English test."""
    with STSB.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    return [r[0] for r in rows], [r[1] for r in rows], np.array([float(r[2]) for r in rows])


def read_ollama() -> NDArray[np.float64] | None:
    """Ollama's vector of OLLAMA_TEXT; None without the data."""
    if not OLLAMA.is_file():
        return None
    vectors = json.loads(OLLAMA.read_text())
    return np.array(vectors["all-minilm:latest"], dtype=np.float64)


def measure(name: str, bundle: Path | None, reference: Vectors | None) -> tuple[Accuracy, Vectors]:
    """Embed everything with one system; `reference` is PyTorch fp32's answer, None for that system itself."""
    model = models.minilm()
    spec = SYSTEMS[name]
    path = bundle if bundle and spec.takes_given_bundle else artifacts.ensure(spec.artifact, model, print)
    first, second, gold = read_stsb()
    cpus = available_cpus()
    process = SystemProcess(name, cpus)
    try:
        process.load(path, model, len(cpus))
        vectors = process.encode_texts([*first, *second], spec.batchings[-1]).astype(np.float64)
        sky = process.encode_texts([OLLAMA_TEXT], spec.batchings[0])[0]
    finally:
        process.close()
    half = len(first)
    scores = (vectors[:half] * vectors[half:]).sum(axis=1)
    target = (vectors if reference is None else reference).astype(np.float64)
    cosines, mean = (vectors * target).sum(axis=1), target.mean(axis=0)
    a, b = vectors - mean, target - mean
    centered = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    ollama = read_ollama()
    near = None if ollama is None else float(sky @ ollama / (np.linalg.norm(sky) * np.linalg.norm(ollama)))
    found = Accuracy(
        system=name,
        spearman=100 * spearman(scores, gold),
        cosine_mean=float(cosines.mean()),
        cosine_p01=float(np.quantile(cosines, 0.01)),
        cosine_min=float(cosines.min()),
        centered_min=float(centered.min()),
        ollama_cosine=near,
    )
    return found, vectors.astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when something was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="an exported bundle of all-MiniLM-L6-v2, instead of building one")
    parser.add_argument("--peers", action="store_true", help="every system, not only embedrt's variants")
    parser.add_argument("--out", type=Path, default=REPO / "bench" / "results" / "local", help="folder of the results")
    given = parser.parse_args(arguments)
    if not STSB.is_file():
        print(f"skipped: {STSB} is not there (stsb_multi_mt's English test set)")
        return 0
    names = [n for n in SYSTEMS if given.peers or n.startswith("ours")]
    found, reference = measure(REFERENCE, None, None)
    results = [found]
    for name in names:
        if name == REFERENCE:
            continue
        try:
            results.append(measure(name, given.bundle, reference)[0])
        except (SystemFailed, artifacts.BuildError) as exc:
            print(f"{name}: not measured: {exc}")
    given.out.mkdir(parents=True, exist_ok=True)
    data = {"published_spearman": PUBLISHED_STSB, "results": [asdict(one) for one in results]}
    (given.out / "accuracy.json").write_text(json.dumps(data, indent=1) + "\n")
    table = _table(results)
    (given.out / "accuracy.md").write_text(table)
    print(table)
    return 0


def _table(results: Sequence[Accuracy]) -> str:
    lines = [
        f"# all-MiniLM-L6-v2 on STS-B English test (published Spearman {PUBLISHED_STSB})",
        "",
        "| system | Spearman | cosine mean | 1st percentile | min | centered min | to Ollama's vector |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        ollama = "" if one.ollama_cosine is None else f"{one.ollama_cosine:.6f}"
        cosines = f"{one.cosine_mean:.5f} | {one.cosine_p01:.5f} | {one.cosine_min:.5f} | {one.centered_min:.5f}"
        lines.append(f"| {SYSTEMS[one.system].title} | {one.spearman:.2f} | {cosines} | {ollama} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
