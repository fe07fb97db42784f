"""A dataset of several files with everything that happens in them, and jobs over it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt.datasets.check import check_dataset
from embedrt.datasets.run import DatasetJob, Outcome, embed_dataset
from tests.cli.conftest import Cli, cli, lookup_bundle

__all__ = ["Cli", "cli", "lookup_bundle"]

Make = Callable[..., DatasetJob]

WORDS = ["the", "water", "stone", "light", "river", "house", "of", "in", "bread", "paper"]


def texts_of(count: int, seed: int) -> list[str | None]:
    """Texts of 1 to 12 words, a third of them repeated, some null."""
    draw = random.Random(seed)
    texts: list[str | None] = []
    for _ in range(count):
        if texts and draw.random() < 0.3:
            texts.append(draw.choice(texts))
        else:
            texts.append(None if draw.random() < 0.02 else " ".join(draw.choices(WORDS, k=draw.randint(1, 12))))
    return texts


def write_parquet(path: Path, count: int, seed: int, row_group_size: int = 100) -> list[str | None]:
    """A file of `count` rows whose ids begin with its name."""
    texts = texts_of(count, seed)
    table = pa.table({"id": [f"{path.stem}-{k}" for k in range(count)], "body": pa.array(texts, pa.string())})
    pq.write_table(table, path, row_group_size=row_group_size)
    return texts


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three files: 350 rows in row groups of 100, 40 rows, and one row."""
    folder = tmp_path / "corpus"
    (folder / "b").mkdir(parents=True)
    write_parquet(folder / "a.parquet", 350, 1)
    write_parquet(folder / "b" / "b.parquet", 40, 2)
    write_parquet(folder / "b" / "c.parquet", 1, 5)
    return folder


@pytest.fixture
def job(corpus: Path, lookup_bundle: Path, tmp_path: Path) -> Callable[..., DatasetJob]:
    """A job over the corpus in shards of about 60 rows."""

    def make(**more: object) -> DatasetJob:
        known = {
            "input": str(corpus), "output": str(tmp_path / "out"), "bundle": str(lookup_bundle), "text": "body",
            "id": "id", "threads": 1, "shard_tokens": 600, "model": {"packed_cache": False},
        }  # fmt: skip
        return DatasetJob(**{**known, **more})  # type: ignore[arg-type]

    return make


def whole(job: DatasetJob) -> Outcome:
    """Run to the end, with the proof."""
    outcome = embed_dataset(job)
    assert outcome.complete, outcome
    proof = check_dataset(job.output)
    assert proof.holds, proof.findings
    assert proof.rows == outcome.totals.rows
    return outcome
