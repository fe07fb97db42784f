"""`embedrt embed` of bundles that give other outputs than one vector: columns, resuming, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedrt import Model, SparseEncoder
from embedrt.commands import embed as embedding
from tests import tiny
from tests.cli.embedding import write_input

TEXTS = [*tiny.CORPUS, "fox", "", "dog fox dog", tiny.CORPUS[0]]


@pytest.fixture(scope="module")
def m3(export_outputs: Callable[..., tuple[Path, Path]]) -> Path:
    return export_outputs("m3", variants=("fp32", "int8"))[1]


@pytest.fixture(scope="module")
def splade(export_outputs: Callable[..., tuple[Path, Path]]) -> Path:
    return export_outputs("splade", variants=("fp32", "int8"))[1]


@pytest.fixture(scope="module")
def table(export_outputs: Callable[..., tuple[Path, Path]]) -> Path:
    return export_outputs("splade", variants=("fp32",), activation="log1p_relu", table=True)[1]


def same(rows: list[dict[str, Any]], wanted: Any) -> None:
    """Rows of a file against `Outputs`, bit for bit."""
    assert [row["row"] for row in rows] == list(range(len(TEXTS)))
    for k, row in enumerate(rows):
        assert np.array_equal(np.array(row["embedding"], np.float32), wanted.dense[k])
        assert row["sparse"]["indices"] == wanted.sparse[k].indices.tolist()
        assert np.array_equal(np.array(row["sparse"]["values"], np.float32), wanted.sparse[k].values)
        assert np.array_equal(np.array(row["tokens"], np.float32), wanted.tokens[k])


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_all_outputs_of_one_run(cli: Any, m3: Path, tmp_path: Path, suffix: str) -> None:
    source, out = write_input(tmp_path, ".jsonl", TEXTS), tmp_path / f"out{suffix}"
    shown = cli.ok("embed", m3, source, "-o", out, "--outputs", "tokens,dense,sparse", "--with-text", "--keep", "id")
    with Model(m3) as model:
        wanted = model.encode(TEXTS)
    table = pq.read_table(out) if suffix == ".parquet" else None
    rows = [json.loads(line) for line in out.read_text().splitlines()] if table is None else table.to_pylist()
    same(rows, wanted)
    assert list(rows[0]) == ["row", "text", "id", "embedding", "sparse", "tokens"]
    assert f"{len(TEXTS)} x 64 float32 + sparse + tokens of 64 float32, identity {wanted.identity}" in shown.stderr
    meta = json.loads((tmp_path / f"out{suffix}.meta.json").read_text())
    assert (meta["identity"], meta["outputs"]) == (wanted.identity, ["dense", "sparse", "tokens"])
    if table is not None:
        assert (
            str(table.schema.field("sparse").type)
            == "struct<indices: list<element: int32>, values: list<element: float>>"
        )
        assert str(table.schema.field("tokens").type.value_type) == "fixed_size_list<element: float>[64]"


def test_a_model_without_dense_vectors_writes_what_it_gives(cli: Any, splade: Path, tmp_path: Path) -> None:
    source = write_input(tmp_path, ".txt", TEXTS)
    cli.ok("embed", splade, source, "-o", tmp_path / "out.jsonl", "--max-active-dims", "3")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    with SparseEncoder(splade) as encoder:
        wanted = encoder.encode(TEXTS, max_active_dims=3)
    assert [row["sparse"]["indices"] for row in rows] == [row.indices.tolist() for row in wanted]
    assert set(rows[0]) == {"row", "sparse"}
    assert max(len(row["sparse"]["values"]) for row in rows) == 3
    piped = cli.ok("embed", splade, source, "-o", "-", "--max-active-dims", "3").stdout
    assert piped == (tmp_path / "out.jsonl").read_text()


def test_queries_of_a_table_and_texts_that_are_left_out(cli: Any, table: Path, tmp_path: Path) -> None:
    source = write_input(tmp_path, ".txt", ["fox", "dog " * 300, "stone"])
    out = tmp_path / "out.parquet"
    cli.ok("embed", table, source, "-o", out, "--query", "--on-overflow", "error", "--on-error", "skip")
    rows = pq.read_table(out).to_pylist()
    assert [row["row"] for row in rows] == [0, 2]
    assert "tokens, the model's queries have" in (tmp_path / "out.parquet.skipped.jsonl").read_text()
    with SparseEncoder(table) as encoder:
        wanted = encoder.encode_query(["fox", "stone"])
    assert [row["sparse"]["indices"] for row in rows] == [row.indices.tolist() for row in wanted]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    cli: Any, m3: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_input(tmp_path, ".txt", [f"{text} {k}" for k in range(4) for text in TEXTS])
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    asked = ("--outputs", "dense,sparse,tokens", "--block-size", "8", "--variant", "int8")
    cli.ok("embed", m3, source, "-o", whole, *asked)
    stream = Model.encode_stream

    def killed(self: Model, *given: Any, **named: Any) -> Any:
        for k, block in enumerate(stream(self, *given, **named)):
            if k == 3:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(embedding, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(Model, "encode_stream", killed)
    cli("embed", m3, source, "-o", out, *asked)
    assert not out.exists()
    monkeypatch.setattr(Model, "encode_stream", stream)
    error = cli.fails(
        "embed",
        m3,
        source,
        "-o",
        out,
        "--resume",
        "--block-size",
        "8",
        "--outputs",
        "dense,sparse",
        "--variant",
        "int8",
    )
    assert "--outputs was" in error
    cli.ok("embed", m3, source, "-o", out, *asked, "--resume")
    assert out.read_bytes() == whole.read_bytes()
    assert "complete already" in cli.ok("embed", m3, source, "-o", out, *asked, "--resume").stderr


@pytest.mark.parametrize(
    ("bundle", "arguments", "code", "said"),
    [
        ("m3", ["-o", "out.npy", "--outputs", "dense,sparse"], 2, "a .npy holds as many numbers of every text"),
        ("splade", ["-o", "out.npy"], 2, "which sparse have not; write .parquet or .jsonl"),
        ("splade", ["-o", "out.jsonl", "--outputs", "dense,sparse"], 2, "splade gives sparse, not dense"),
        ("m3", ["-o", "out.jsonl", "--max-active-dims", "4"], 2, "--max-active-dims goes with sparse vectors"),
        ("m3", ["-o", "out.jsonl", "--outputs", "tokens", "--truncate-dim", "4"], 2, "--truncate-dim goes with dense"),
        ("m3", ["-o", "out.jsonl", "--outputs", "tokens", "--precision", "int8"], 2, "--precision goes with dense"),
        ("m3", ["-o", "out.jsonl", "--outputs", "sparse", "--long", "windows"], 2, "--long goes with dense"),
        ("m3", ["-o", "out.jsonl", "--outputs", "words"], 2, "choose from: dense, sparse, tokens"),
    ],
)
def test_what_does_not_go_together(
    cli: Any, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    bundle: str, arguments: list[str], code: int, said: str,
) -> None:  # fmt: skip
    source = write_input(tmp_path, ".txt", TEXTS)
    path = request.getfixturevalue(bundle)
    monkeypatch.chdir(tmp_path)
    error = cli.fails("embed", path, source, *arguments, code=code)
    assert said in " ".join(error.replace("│", " ").split())
