"""`python -m bench.isas BUNDLE`: how far int8's vectors of one text lie apart between this machine's instruction sets.

Each set, and ONNX Runtime, embeds the same texts: XQuAD's questions and paragraphs, else built-in ones. Sums of
integers are exact in all of them; float steps round differently, and where a value lies within such a rounding of a tie
between two 8-bit steps, it falls to the one side here and to the other there. Printed for each two: the cosine, least
and mean, and how many of the codes of `precision="int8"` are not the same, and are more than one step apart; below, how
far each is from fp32.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from datetime import date
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.machine import describe_machine
from bench.texts import ragged_sets
from embedrt import Embedder, TruncationWarning
from embedrt.executors.library import load_library
from embedrt.executors.native import available_isas
from embedrt.pooling import l2_normalize

ONNXRUNTIME = "onnxruntime"


def vectors_of(bundle: Path, texts: Sequence[str], isa: str) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Vectors (N, D) of length 1, and their codes, on an instruction set or ONNX Runtime."""
    on_native = isa != ONNXRUNTIME
    with Embedder(
        bundle, variant="int8", executor="native" if on_native else ONNXRUNTIME, isa=isa if on_native else "auto"
    ) as embedder:
        vectors = l2_normalize(np.asarray(embedder.encode(texts)))
        return vectors, np.asarray(embedder.encode(texts, precision="int8"))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--english", action="store_true", help="the model knows no other language")
    given = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    with Embedder(given.bundle, variant="fp32") as model:
        sets = ragged_sets(model.count_tokens, model.max_tokens, english=given.english)
        texts = [text for one in sets for text in one.texts]
        reference = l2_normalize(np.asarray(model.encode(texts)))
        threads = model.num_threads
    names = [*(name for name, here in available_isas(load_library()).items() if here), ONNXRUNTIME]
    found = {name: vectors_of(given.bundle, texts, name) for name in names}
    print(f"{given.bundle.name}, {len(texts)} texts; {describe_machine(threads).cpu}, {date.today()}\n")
    print("| | | cosine, least | mean | codes that differ | by more than 1 |\n|---|---|---|---|---|---|")
    for a, b in combinations(names, 2):
        cosine = (found[a][0] * found[b][0]).sum(axis=1)
        steps = np.abs(found[a][1].astype(int) - found[b][1])
        shares = f"{(steps > 0).mean():.1%} | {(steps > 1).mean():.2%}"
        print(f"| {a} | {b} | {cosine.min():.5f} | {cosine.mean():.5f} | {shares} |")
    print("\n| against fp32 | cosine, least | mean |\n|---|---|---|")
    for name in names:
        cosine = (found[name][0] * reference).sum(axis=1)
        print(f"| {name} | {cosine.min():.5f} | {cosine.mean():.5f} |")


if __name__ == "__main__":
    main()
