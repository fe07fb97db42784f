"""Which encoders are emitted, and what the bundle says where one that could be is traced."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedrt import UnsupportedModelError
from embedrt_export.emit.encoder import emit_encoder
from embedrt_export.graph import EncoderGraph
from embedrt_export.pipeline import encoder_of
from embedrt_export.reference import load_reference
from embedrt_export.source import resolve
from tests import tiny
from tests.export.encoders import make_encoder


def test_a_setting_that_a_family_does_not_know_is_named(tmp_path: Path) -> None:
    reference = load_reference(resolve(tiny.save_pipeline(tmp_path / "m", "modernbert")))
    config, encoder = dict(reference.source.config), encoder_of(reference.model)
    assert isinstance(emit_encoder(config, encoder, "m"), EncoderGraph)
    note = emit_encoder({**config, "attention_sinks": 4}, encoder, "m")
    assert isinstance(note, str)
    assert "is traced and runs on ONNX Runtime only" in note
    assert "attention_sinks 4" in note


def test_what_can_only_be_emitted_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"config\.json does not say"):
        emit_encoder({"model_type": "new", "auto_map": {"AutoModel": "modeling.NewModel"}}, None, "m")


def test_what_no_family_emits_is_traced_without_a_word() -> None:
    assert emit_encoder({"model_type": "deberta-v2"}, None, "m") == ""


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_fused_families_are_read_as_transformers_class_reads_them(kind: str) -> None:
    """With its defaults for what config.json leaves out, and without what it has beside."""
    encoder = make_encoder(kind)
    encoder.config.favourite_colour = "blue"
    graph = emit_encoder({"model_type": encoder.config.model_type, "favourite_colour": "blue"}, encoder, "m")
    assert isinstance(graph, EncoderGraph)
    assert (graph.family, graph.spec, graph.notes) == (kind, None, ())
