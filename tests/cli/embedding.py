"""Texts, files of them, and what `embedrt embed` should make of them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedrt.embedder import Embedder

TEXTS = ["the water", "", "a stone in the river", "light", "", "bread and paper"]


def expected(bundle: Path, texts: list[str], **options: object) -> np.ndarray:
    with Embedder(bundle, num_threads=1) as embedder:
        return embedder.encode(texts, **options)


def many_texts(count: int) -> list[str]:
    draw = random.Random(3)
    words = ["the", "water", "stone", "light", "river", "house", "of", "in"]
    return [" ".join(draw.choices(words, k=draw.randint(0, 12))) for _ in range(count)]


def write_input(folder: Path, suffix: str, texts: list[str]) -> Path:
    path = folder / f"in{suffix}"
    if suffix == ".txt":
        path.write_text("".join(f"{text}\n" for text in texts))
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)))
    elif suffix in (".csv", ".tsv"):
        start, end = (',"', '"\n') if suffix == ".csv" else ("\t", "\n")
        comma = start[0]
        path.write_text(f"id{comma}text\n" + "".join(f"{i}{start}{text}{end}" for i, text in enumerate(texts)))
    else:
        pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), path)
    return path
