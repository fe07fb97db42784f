from __future__ import annotations

import json
import shutil

import pytest

from embedrt.commands.info import head_rows, uses
from embedrt.embedder import Embedder
from embedrt.opening import open_bundle


@pytest.fixture
def copy(lookup_bundle, tmp_path):
    return shutil.copytree(lookup_bundle, tmp_path / "copy")


def test_everything_is_shown(cli, lookup_bundle):
    shown = " ".join(cli.ok("info", lookup_bundle).stdout.split())
    with Embedder(lookup_bundle) as embedder:
        wanted = [embedder.identity, embedder.identify(kind="query"), embedder.executor_description]
    wanted += ["tests/lookup", "0" * 40, "mean -> normalize", 'query: "in {task} : "', "default task: water"]
    wanted += ["max tokens 32", "fp32", "int8 *", "a lookup table, no model", "CPUExecutionProvider", "affinity"]
    wanted += ["sha256 of every file checked"]
    for text in wanted:
        assert text in shown, text


def test_json(cli, lookup_bundle):
    found = json.loads(cli.ok("info", lookup_bundle, "--json", "--fast", "--threads", "1").stdout)
    assert found["manifest"]["source"]["model"] == "tests/lookup"
    assert found["running"]["threads"] == 1
    assert found["hashes_checked"] is False
    assert found["machine"]["threads"] >= 1


def test_what_other_kinds_of_bundles_are_used_by(rerankers, export_outputs):
    made = [rerankers.bundle("bert"), rerankers.bundle("labels")]
    made += [export_outputs(kind, variants=("fp32",))[1] for kind in ("splade", "colbert", "m3")]
    reranker, labels, splade, colbert, m3 = (open_bundle(path).manifest for path in made)
    assert uses(reranker) == ["Reranker: embedrt rerank; serve: /rerank, /v1/rerank, /v2/rerank, /predict"]
    assert uses(labels) == ["Reranker: serve: /predict"]
    assert uses(splade) == ["SparseEncoder: embedrt embed; serve: /embed_sparse"]
    assert [line.partition(":")[0] for line in uses(m3)] == ["Embedder", "SparseEncoder", "MultiVectorEncoder", "Model"]
    assert head_rows(labels)[0][1].startswith("3 labels (contradiction, entailment, neutral), activation ")
    assert [name for name, _ in head_rows(m3)] == ["sparse", "tokens"]
    assert head_rows(colbert) == [("tokens", "16 dimensions each, similarity maxsim")]


def test_info_shows_a_rerankers_labels(cli, rerankers):
    shown = " ".join(cli.ok("info", rerankers.bundle("labels"), "--fast").stdout.split())
    assert "scores 3 labels (contradiction, entailment, neutral)" in shown
    assert "used by Reranker: serve: /predict" in shown
    assert "Kendall's tau" in shown
    assert "not measured" not in shown


def test_a_changed_byte_is_found_by_its_hash(cli, copy):
    path = copy / "fp32" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    error = cli.fails("info", copy)
    assert "fp32/model.onnx does not match its sha256" in error
    cli.ok("info", copy, "--fast")


def test_damaged_bundles_are_refused_with_the_reason(cli, copy):
    (copy / "tokenizer.json").rename(copy / "t")
    assert "tokenizer.json is missing" in cli.fails("info", copy, "--fast")
    (copy / "t").rename(copy / "tokenizer.json")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    assert "format 99" in cli.fails("info", copy)
    (copy / "manifest.json").write_text("{")
    assert "not JSON" in cli.fails("info", copy)


def test_an_unknown_variant(cli, lookup_bundle):
    assert "it has: fp32, int8" in cli.fails("info", lookup_bundle, "--variant", "fp16", code=2)
