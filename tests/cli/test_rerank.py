"""`embedrt rerank`."""

from __future__ import annotations

import json
from pathlib import Path

from embedrt import Reranker
from tests import tiny
from tests.conftest import Rerankers


def test_the_best_texts_of_a_file(cli, rerankers: Rerankers, tmp_path: Path) -> None:
    bundle, file = rerankers.bundle("bert"), tmp_path / "texts.txt"
    file.write_text("\n".join(tiny.CORPUS))
    with Reranker(bundle, num_threads=1) as reranker:
        wanted = reranker.rank("fox", tiny.CORPUS, top_k=3, return_documents=True)
    arguments = ("rerank", bundle, "fox", file, "-k", 3, "--threads", 1)
    assert json.loads(cli.ok(*arguments, "--json").stdout) == wanted
    shown = cli.ok(*arguments).stdout
    assert shown.index(f"{wanted[0]['score']:.4f}") < shown.index(f"{wanted[2]['score']:.4f}")


def test_what_is_wrong_is_said_in_a_line(cli, rerankers: Rerankers, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "one.txt").write_text("a\n")
    assert "holds no texts" in cli.fails("rerank", rerankers.bundle("bert"), "fox", tmp_path / "empty.txt", code=2)
    assert "open it with embedrt.Embedder" in cli.fails("rerank", tiny_bundle, "fox", tmp_path / "one.txt", code=2)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    assert "holds pictures" in cli.fails("rerank", rerankers.bundle("bert"), "fox", tmp_path / "photos", code=2)
    embedding = ("embed", rerankers.bundle("bert"), tmp_path / "one.txt", "-o", tmp_path / "out.npy")
    assert "open it with embedrt.Reranker" in cli.fails(*embedding, code=2)


def test_info_and_verify(cli, rerankers: Rerankers) -> None:
    assert "scores of pairs of texts (Reranker)" in cli.ok("info", rerankers.bundle("labels")).stdout
    assert "kendall apart" in cli.ok("verify", rerankers.bundle("labels")).stdout


def test_verify_runs_on_the_executor_that_is_asked_for(cli, rerankers: Rerankers) -> None:
    told = json.loads(cli.ok("verify", rerankers.bundle("bert"), "--executor", "onnxruntime", "--json", "-").stdout)
    assert {one["executor"].partition(" ")[0] for one in told["outputs"]} == {"onnxruntime"}
    assert "isa must be one of" in cli.fails("verify", rerankers.bundle("bert"), "--isa", "mmx", code=2)
