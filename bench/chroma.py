"""Chroma's default embedding function beside ours, both as a collection calls them.

    python -m bench.chroma BUNDLE [--rounds 3]

BUNDLE is all-MiniLM-L6-v2 with fp32 and int8. Chroma's default is the same model in fp32 on ONNX Runtime, every text
padded to 256 tokens; its file comes from a server of theirs, so it gets the bundle's fp32 graph here, which computes
the same and is no slower. Vectors are compared before anything is timed; then each takes its turn in every round.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

from bench.machine import describe_machine
from bench.texts import ragged_sets
from embedrt import Embedder, open_bundle
from embedrt.integrations.chroma import EmbedrtEmbeddingFunction

_UNUSED = ("config.json", "special_tokens_map.json", "tokenizer_config.json", "vocab.txt")  # only looked for
_LEAST_COSINE = {"fp32": 0.9999, "int8": 0.99}


def default_function(bundle: Path, folder: Path) -> ONNXMiniLM_L6_V2:
    """Chroma's function over the bundle's fp32 graph, which lies in `folder` as its download would."""
    opened = open_bundle(bundle)
    files = folder / ONNXMiniLM_L6_V2.EXTRACTED_FOLDER_NAME
    files.mkdir()
    for entry in opened.variant("fp32").files:
        shutil.copy(opened.path(entry.path), files)
    shutil.copy(opened.path(opened.manifest.tokenizer), files / "tokenizer.json")
    for name in _UNUSED:
        (files / name).touch()
    function = ONNXMiniLM_L6_V2(preferred_providers=["CPUExecutionProvider"])
    function.DOWNLOAD_PATH = folder
    return function


def cut_to(function: ONNXMiniLM_L6_V2, texts: tuple[str, ...]) -> list[str]:
    """The texts that it takes without cutting, at 256 tokens."""
    free = type(function.tokenizer).from_str(function.tokenizer.to_str())
    free.no_truncation()
    free.no_padding()
    return [text for text, found in zip(texts, free.encode_batch(list(texts)), strict=True) if len(found.ids) <= 256]


def main() -> None:
    """Print a row per set of texts and variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        theirs = default_function(given.bundle, Path(folder))
        counter = Embedder(given.bundle)
        sets = ragged_sets(counter.count_tokens, counter.max_tokens, english=True)

        threads = counter.num_threads
        print(f"{describe_machine(threads).cpu}, {threads} threads, {date.today()}\n")
        print("| texts | variant | ours, texts/s | Chroma's default | times as fast | least cosine |")
        print("|---|---|---|---|---|---|")
        for texts in sets:
            kept = cut_to(theirs, texts.texts)
            wanted = np.asarray(theirs(kept))
            for variant, least in _LEAST_COSINE.items():
                ours = EmbedrtEmbeddingFunction(str(given.bundle), {"variant": variant})
                cosine = float((np.asarray(ours(kept)) * wanted).sum(axis=1).min())
                if cosine < least:
                    raise SystemExit(f"{texts.name}, {variant}: cosine {cosine:.6f} to Chroma's, nothing is timed")
                times: dict[str, list[float]] = {"ours": [], "theirs": []}
                for _ in range(given.rounds):
                    for name, function in (("ours", ours), ("theirs", theirs)):
                        start = time.perf_counter()
                        function(kept)
                        times[name].append(time.perf_counter() - start)
                a, b = (statistics.median(times[name]) for name in ("ours", "theirs"))
                speeds = f"{len(kept) / a:,.0f} | {len(kept) / b:,.0f} | {b / a:.1f}"
                print(f"| {len(kept)} {texts.name} | {variant} | {speeds} | {cosine:.5f} |", flush=True)


if __name__ == "__main__":
    main()
