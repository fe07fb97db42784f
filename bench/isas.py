"""`python -m bench.isas BUNDLE`: how far int8's vectors of one text lie apart between this machine's instruction sets.

Each set, and ONNX Runtime, embeds the same texts: XQuAD's questions and paragraphs, and STS-B's English sentences where
they lie here, else built-in ones. Sums of integers are exact in all of them; float steps round differently, and where a
value lies within such a rounding of a tie between two 8-bit steps, it falls to the one side here and to the other
there.

Three tables: how far each is from fp32; for each two the cosine, least and mean, the share of each text's ten nearest
others that both have, by vectors and by the codes of `precision="int8"`, and how many of the codes are not the same,
and are more than one step apart; and over all pairs the same for other widths of the codes' ranges, beside what coding
itself costs: codes are as stable as vectors where both have the same neighbours on two sets.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.accuracy import STSB, read_stsb
from bench.machine import describe_machine
from bench.texts import ragged_sets
from embedrt import Embedder, TruncationWarning
from embedrt.bundle import PARITY_VECTORS
from embedrt.executors.library import load_library
from embedrt.executors.native import available_isas
from embedrt.parity import metrics
from embedrt.pooling import l2_normalize
from embedrt.precision import code_ranges, quantize

ONNXRUNTIME = "onnxruntime"
WIDTHS = (None, 3.0, 4.0, 5.0, 6.0, 8.0)  # of code ranges; None is from the least to the largest reference vector

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Coded:
    """Vectors as codes."""

    codes: NDArray[np.int16]  # (N, D)
    decoded: Floats  # (N, D), of length 1


def coded(vectors: Floats, reference: Floats, width: float | None) -> Coded:
    """Vectors (N, D) as codes over ranges of a width, and what those mean."""
    low, high = ranges = code_ranges(reference, width)
    codes = quantize(vectors, "uint8", ranges).astype(np.int16)
    return Coded(codes, l2_normalize((codes * ((high - low) / 255) + low).astype(np.float32)))


def vectors_of(bundle: Path, texts: Sequence[str], isa: str) -> Floats:
    """Vectors (N, D) of length 1, on an instruction set or ONNX Runtime."""
    on: dict[str, Any] = {"executor": ONNXRUNTIME} if isa == ONNXRUNTIME else {"executor": "native", "isa": isa}
    with Embedder(bundle, variant="int8", **on) as embedder:
        return l2_normalize(np.asarray(embedder.encode(texts)))


def same_ten(a: Floats, b: Floats) -> float:
    """Mean share of each text's ten nearest others by one that it has by the other."""
    return metrics.top_overlap(a.astype(np.float64), b.astype(np.float64))


def differing(one: Coded, other: Coded) -> tuple[float, float]:
    """Shares of the codes that are not the same, and that are more than one step apart."""
    steps = np.abs(one.codes - other.codes)
    return float((steps > 0).mean()), float((steps > 1).mean())


def pairs_table(found: Mapping[str, Floats], codes: Mapping[str, Coded]) -> Iterable[str]:
    """Each two sets."""
    yield "| | | cosine, least | mean | top 10 | top 10 by codes | codes that differ | by more than 1 |"
    yield "|---|---|---|---|---|---|---|---|"
    for a, b in combinations(found, 2):
        cosine = (found[a] * found[b]).sum(axis=1)
        near = same_ten(found[a], found[b]), same_ten(codes[a].decoded, codes[b].decoded)
        some, more = differing(codes[a], codes[b])
        yield (
            f"| {a} | {b} | {cosine.min():.5f} | {cosine.mean():.5f} | {near[0]:.3f} | {near[1]:.3f} "
            f"| {some:.1%} | {more:.2%} |"
        )


def widths_table(found: Mapping[str, Floats], exact: Floats, reference: Floats) -> Iterable[str]:
    """Each width, over all pairs of sets, and what codes of the exact vectors lose."""
    yield (
        "| ranges | clipped | cosine to the vector | top 10 of it "
        "| codes that differ | by more than 1 | top 10 on two sets |"
    )
    yield "|---|---|---|---|---|---|---|"
    pairs = list(combinations(found, 2))
    plain = np.mean([same_ten(found[a], found[b]) for a, b in pairs])
    yield f"| vectors | | | | | | {plain:.4f} |"
    for width in WIDTHS:
        codes = {name: coded(vectors, reference, width) for name, vectors in found.items()}
        some, more = np.mean([differing(codes[a], codes[b]) for a, b in pairs], axis=0)
        near = np.mean([same_ten(codes[a].decoded, codes[b].decoded) for a, b in pairs])
        low, high = code_ranges(reference, width)
        clipped = ((exact < low) | (exact > high)).mean()
        own = coded(exact, reference, width).decoded
        name = "least to largest" if width is None else f"{width:g} deviations"
        yield (
            f"| {name} | {clipped:.3%} | {(own * exact).sum(axis=1).mean():.6f} | {same_ten(own, exact):.4f} "
            f"| {some:.1%} | {more:.2%} | {near:.4f} |"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--english", action="store_true", help="the model knows no other language")
    given = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    with Embedder(given.bundle, variant="fp32") as model:
        sets = ragged_sets(model.count_tokens, model.max_tokens, english=given.english)
        sentences = [one for side in read_stsb()[:2] for one in side] if STSB.is_file() else []
        texts = list(dict.fromkeys([text for one in sets for text in one.texts] + sentences))
        exact = l2_normalize(np.asarray(model.encode(texts)))
        threads, width = model.num_threads, model.bundle.manifest.code_width
        reference = np.load(model.bundle.path(PARITY_VECTORS), allow_pickle=False)
    names = [*(name for name, here in available_isas(load_library()).items() if here), ONNXRUNTIME]
    found = {name: vectors_of(given.bundle, texts, name) for name in names}
    codes = {name: coded(vectors, reference, width) for name, vectors in found.items()}
    print(f"{given.bundle.name}, {len(texts)} texts; {describe_machine(threads).cpu}, {date.today()}\n")
    print("| against fp32 | cosine, least | mean | top 10 |\n|---|---|---|---|")
    for name in names:
        cosine = (found[name] * exact).sum(axis=1)
        print(f"| {name} | {cosine.min():.5f} | {cosine.mean():.5f} | {same_ten(found[name], exact):.3f} |")
    print("\n".join(("", *pairs_table(found, codes), "", *widths_table(found, exact, reference))))


if __name__ == "__main__":
    main()
