from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from embedrt.store.card import model_card
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
