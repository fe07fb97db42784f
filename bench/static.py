"""Static embeddings beside model2vec's own library: the same vectors, and texts per second.

    python -m bench.static [MODEL] [--rounds 5] [--variants int8,fp32]

MODEL is a directory of model2vec's. Without one, a table is made of all-MiniLM-L6-v2's trained token vectors: 30,522
rows of 256 principal components, weighted by rank as model2vec's distillation does. Vectors are compared first; then
the systems take turns, on the same texts: STS-B's English sentences, and XQuAD's English paragraphs. Whole calls,
tokenizing included; the best round counts, and beside it the CPU time of the whole process, which other programs on
the machine change less.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.models import minilm
from bench.paths import DATA
from bench.texts import BUILTIN_TEXTS, ragged_sets
from embedrt import Embedder
from embedrt_export import export

WIDTH = 256
SENTENCES, PARAGRAPHS, CALLS = 8_000, 1_000, 2_000
SIF = 1e-4  # weight of a word of probability p: SIF / (SIF + p) (Arora et al., 2017)
LEAST_COSINE = {"fp32": 0.999999, "fp16": 0.9999, "int8": 0.996}
Encode = Callable[[Any], NDArray[np.float32]]


def write_model(folder: Path) -> Path:
    """The table out of MiniLM's weights, as model2vec saves one."""
    from safetensors.numpy import load_file, save_file

    source = minilm()
    stored = load_file(source / "model.safetensors")
    words = next(value for name, value in stored.items() if name.endswith("word_embeddings.weight"))
    centred = words.astype(np.float32) - words.mean(axis=0, dtype=np.float32)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    ranks = np.arange(2, len(words) + 2)
    probability = 1 / (ranks * np.log(len(words)))  # Zipf's, by the place in the vocabulary
    table = (centred @ axes[:WIDTH].T) * (SIF / (SIF + probability))[:, None]
    save_file({"embeddings": np.ascontiguousarray(table, np.float32)}, folder / "model.safetensors")
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}), encoding="utf-8")
    return folder


def text_sets() -> dict[str, list[str]]:
    """Real texts where the data lies beside the checkout, else built-in ones."""
    sentences: list[str] = []
    for path in sorted((DATA / "stsb_multi_mt").glob("stsb-en-*.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            sentences += [cell for row in csv.reader(stream) for cell in row[:2]]
    paragraphs = ragged_sets(lambda texts: [1] * len(texts), 1 << 20, english=True, share=PARAGRAPHS / 64)[0].texts
    distinct = list(dict.fromkeys(sentences or BUILTIN_TEXTS))
    return {"sentences": distinct[:SENTENCES], "paragraphs": list(dict.fromkeys(paragraphs))}


def least_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The smallest between rows that are not zero."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    found = lengths > 0
    return float((np.einsum("nd,nd->n", one, other)[found] / lengths[found]).min())


def best_of(rounds: int, systems: dict[str, Encode], texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Seconds and CPU seconds of the best round of each system, which take turns."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, encode in systems.items():
            wall, own = time.perf_counter(), time.process_time()
            encode(texts)
            taken[name].append((time.perf_counter() - wall, time.process_time() - own))
    return {name: (min(w for w, _ in pairs), min(c for _, c in pairs)) for name, pairs in taken.items()}


def one_text(encode: Encode, text: str) -> float:
    """Microseconds of a call, the median."""
    taken = []
    for _ in range(CALLS):
        start = time.perf_counter()
        encode(text)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1e6


def run(model: Path, bundle: Path, variants: Sequence[str], rounds: int) -> None:
    """Export, verify, time and print."""
    import model2vec

    export(model, bundle, variants=variants)
    peer = model2vec.StaticModel.from_pretrained(model)
    sets = text_sets()
    systems: dict[str, Encode] = {"model2vec": peer.encode}
    for variant in variants:
        embedder = Embedder(bundle, variant=variant)  # type: ignore[arg-type]
        systems[f"embedrt {variant}"] = embedder.encode
        for name, texts in sets.items():
            cosine = least_cosine(peer.encode(texts), embedder.encode(texts))
            print(f"{variant}, {embedder.executor}: {len(texts):,} {name}, least cosine {cosine:.7f}")
            if cosine < LEAST_COSINE[variant]:
                raise SystemExit(f"{variant} is not verified, and not timed")
    for name, texts in sets.items():
        found = best_of(rounds, systems, texts)
        base_wall, base_own = found["model2vec"]
        for system, (wall, own) in found.items():
            print(
                f"{name:10} {system:13} {len(texts) / wall:9,.0f} texts/s ({base_wall / wall:.2f}), "
                f"{len(texts) / own:9,.0f} per CPU second ({base_own / own:.2f})"
            )
    for system, encode in systems.items():
        print(f"one text   {system:13} {one_text(encode, sets['sentences'][0]):6.0f} us")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.static", description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", default="int8,fp32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / "model"
        made.mkdir()
        model = options.model or write_model(made)
        run(model, Path(work) / "bundle", options.variants.split(","), options.rounds)


if __name__ == "__main__":
    main()
