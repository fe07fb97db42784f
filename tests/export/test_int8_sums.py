"""Sums over more terms than ONNX Runtime adds up in one go: heads wider than 128."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import to_int8
from embedrt_export.int8.sums import BLOCK, long_sums
from embedrt_export.tracing import trace_encoder
from tests.export.encoders import QUICK, VOCAB, run, session

pytestmark = pytest.mark.skipif(
    not hasattr(transformers, "Gemma3TextConfig"), reason="this transformers has no Gemma 3"
)


def gemma(folder: Any, head: int) -> EncoderGraph:
    torch.manual_seed(7)
    config = transformers.Gemma3TextConfig(
        vocab_size=VOCAB, hidden_size=64, num_hidden_layers=2, intermediate_size=128, num_attention_heads=2,
        num_key_value_heads=1, head_dim=head, max_position_embeddings=256, query_pre_attn_scalar=head,
    )  # fmt: skip
    return trace_encoder(transformers.Gemma3TextModel(config).eval(), folder)


@pytest.mark.parametrize(("head", "expected"), [(BLOCK, {}), (320, {320: 2})])
def test_only_wide_heads_have_long_sums(tmp_path: Any, head: int, expected: dict[int, int]) -> None:
    graph = gemma(tmp_path, head)
    found = long_sums(graph.model, graph.model.graph.node, token=5)
    assert {terms: list(found.values()).count(terms) for terms in found.values()} == expected
    assert all(name.endswith("/self_attn/MatMul") for name in found)  # Q K^T; the other one sums over tokens


@pytest.mark.parametrize("head", [256, 320])
def test_wide_heads_give_a_text_alone_the_states_it_has_beside_a_longer_one(
    tmp_path: Any, calibration: Any, head: int
) -> None:
    """Without blocks 2 in 3 of these texts differ, the worst by 0.04: 8-bit roundings fall the other way."""
    model, report = to_int8(gemma(tmp_path, head), calibration, recipe=replace(QUICK, optimize=False, gptq=False))
    assert report["measured"][0]["cosine_min"] > 0.999
    s = session(model, tmp_path)
    rng = np.random.default_rng(4)
    long = rng.integers(5, VOCAB, 150).tolist()
    for length in range(3, 64, 3):
        text = rng.integers(5, VOCAB, length).tolist()
        alone, beside = run(s, [text])[0], run(s, [text, long])[0]
        assert np.abs(alone - beside).max() < 1e-5
