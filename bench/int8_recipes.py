"""`python -m bench.int8_recipes`: what each int8 recipe gives and costs, on all-MiniLM-L6-v2.

Each recipe is exported to a bundle of its own. Accuracy is that of STS-B English test: cosine to the fp32 variant,
which export has proven equal to PyTorch, and Spearman x 100. Speeds are interleaved in one run: medians of rounds, for
texts that are tokenized already.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import models
from bench.accuracy import PUBLISHED_STSB, STSB, read_stsb, spearman
from embedrt import Embedder
from embedrt.parity.metrics import Spread, compare
from embedrt_export import export
from embedrt_export.int8 import RECIPES

SHAPES = ((1, 16), (1, 128), (8, 128), (32, 128))
_FIRST_ID, _LAST_ID = 1000, 30000  # ordinary words of the model's vocabulary


@dataclass(frozen=True)
class Row:
    """One recipe."""

    name: str
    megabytes: float  # of weights
    kept_float32: int  # products
    spearman: float  # x 100
    cosine: Spread
    tokens_per_second: tuple[float, ...]  # by shape


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when something was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.int8_recipes", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="time per shape and recipe")
    given = parser.parse_args(arguments)
    if not STSB.is_file():
        print(f"skipped: {STSB} is not there (stsb_multi_mt's English test set)")
        return 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bundles = _export_all(Path(folder))
        embedders = {name: stack.enter_context(Embedder(path, variant="int8")) for name, path in bundles.items()}
        exact = stack.enter_context(Embedder(bundles["default"], variant="fp32"))
        print("\n".join(_table(_measure(embedders, exact, given.seconds), next(iter(embedders.values())))))
    return 0


def _export_all(folder: Path) -> dict[str, Path]:
    for name in RECIPES:
        variants = ("fp32", "int8") if name == "default" else ("int8",)
        report = export(models.minilm(), folder / name, variants=variants, int8_recipe=name)
        print(f"exported {name}: worst cosine of the parity texts {report.summary('int8').cosine_min:.5f}", flush=True)
    return {name: folder / name for name in RECIPES}


def _measure(embedders: dict[str, Embedder], exact: Embedder, seconds: float) -> list[Row]:
    first, second, gold = read_stsb()
    texts, half = [*first, *second], len(first)
    reference = exact.encode(texts)
    speeds = [_speeds(embedders, batch, length, seconds) for batch, length in SHAPES]
    rows = []
    for name, embedder in embedders.items():
        vectors = embedder.encode(texts).astype(np.float64)
        variant = embedder.bundle.manifest.variants["int8"]
        rows.append(
            Row(
                name=name,
                megabytes=sum(file.size for file in variant.files) / 1e6,
                kept_float32=len(variant.recipe["kept_float32"]),
                spearman=100 * spearman((vectors[:half] * vectors[half:]).sum(axis=1), gold),
                cosine=compare(reference, vectors).cosine,
                tokens_per_second=tuple(of[name] for of in speeds),
            )
        )
    return rows


def _speeds(embedders: dict[str, Embedder], batch: int, length: int, seconds: float) -> dict[str, float]:
    """Tokens/s of each, in turns."""
    ids = np.random.default_rng(0).integers(_FIRST_ID, _LAST_ID, (batch, length), dtype=np.int32)
    options = {name: embedder.resolve() for name, embedder in embedders.items()}
    taken: dict[str, list[float]] = {name: [] for name in embedders}
    end = time.perf_counter() + seconds * len(embedders)
    while time.perf_counter() < end:
        for name, embedder in embedders.items():
            start = time.perf_counter()
            embedder.embed_tokens(list(ids), options[name])
            taken[name].append(time.perf_counter() - start)
    return {name: ids.size / statistics.median(times) for name, times in taken.items()}


def _table(rows: Sequence[Row], embedder: Embedder) -> list[str]:
    shapes = " | ".join(f"{batch}x{length}" for batch, length in SHAPES)
    lines = [
        f"{embedder.executor_description}; tokens/s, and the ratio to the first row; STS-B published {PUBLISHED_STSB}",
        "",
        f"| recipe | MB | float32 products | Spearman | cosine mean | 1st percentile | min | {shapes} |",
        "|" + "---|" * (7 + len(SHAPES)),
    ]
    for row in rows:
        cosines = " | ".join(f"{c:.5f}" for c in (row.cosine.mean, row.cosine.p01, row.cosine.min))
        pairs = zip(row.tokens_per_second, rows[0].tokens_per_second, strict=True)
        speeds = " | ".join(f"{speed:,.0f} ({speed / base:.2f})" for speed, base in pairs)
        lines.append(
            f"| {row.name} | {row.megabytes:.0f} | {row.kept_float32} | {row.spearman:.2f} | {cosines} | {speeds} |"
        )
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
