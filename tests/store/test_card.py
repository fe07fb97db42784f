from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedrt.bundle import Bundle
from embedrt.opening import open_bundle
from embedrt.store.card import model_card
from tests.conftest import Rerankers
from tests.handmade import make_manifest, write_bundle


def test_a_card_shows_parity_and_how_to_load(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    card = model_card(make_manifest(tmp_path), "you/handmade")
    assert card.startswith("---\nlibrary_name: embedrt\n")
    assert 'base_model: "somebody/handmade"' in card
    assert 'Embedder("you/handmade").encode(' in card
    assert "| cosine, min | 0.9980000 | 0.9980000 |" in card
    assert '| query | `"query: "` |' in card
    assert "[somebody/handmade](https://huggingface.co/somebody/handmade) as ONNX, in fp32 and int8." in card


def test_a_local_model_has_no_link(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    manifest = make_manifest(tmp_path)
    card = model_card(replace(manifest, source=replace(manifest.source, model="mine"), variants={}), "you/x")
    assert "base_model" not in card
    assert "How near" not in card
    assert "huggingface.co" not in card


def run_example(bundle: Bundle) -> dict[str, Any]:
    """What the card's program makes, with the bundle's directory for the repository."""
    code = model_card(bundle.manifest, str(bundle.root)).partition("```python\n")[2].partition("```")[0]
    made: dict[str, Any] = {}
    exec(compile(code, "card", "exec"), made)
    return made


@pytest.mark.parametrize("name", ["bert", "labels"])
def test_a_rerankers_card(rerankers: Rerankers, name: str) -> None:
    bundle = open_bundle(rerankers.bundle(name))
    card = model_card(bundle.manifest, "you/ranker")
    assert "pipeline_tag: text-ranking\n" in card
    assert "tags: [embedrt, onnx, text-ranking, reranker]" in card
    assert "Gives scores of pairs of texts. Pairs of up to 64 tokens, labels " in card
    assert f"fp32, {bundle.variant('fp32').outputs['scores'].num_inputs} pairs:" in card
    assert "| Kendall's tau, of documents that are apart | 1.0000 |" in card
    assert len(run_example(bundle)["found"]) == (2 if name == "bert" else 1)


@pytest.mark.parametrize(
    ("kind", "tag", "says", "row"),
    [
        ("splade", "feature-extraction", "Gives sparse vectors. Texts of up to ", "| cosine, min |"),
        ("colbert", "feature-extraction", "Gives vectors of tokens. Texts of up to ", "| cosine, min |"),
        ("m3", "sentence-similarity", "Gives vectors, sparse vectors and vectors of tokens. Vectors of ", "| Spearman"),
    ],
)
def test_cards_of_other_outputs(export_outputs: Callable[..., Any], kind: str, tag: str, says: str, row: str) -> None:
    bundle = open_bundle(export_outputs(kind, variants=("fp32",))[1])
    card = model_card(bundle.manifest, "you/it")
    assert f"pipeline_tag: {tag}\n" in card
    assert says in card
    assert row in card
    assert card.count("in fp32, ") == (3 if kind == "m3" else 1)
    run_example(bundle)
