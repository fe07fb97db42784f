"""Emitted graphs against the numpy interpreter of the spec: each feature, in one padded batch of all lengths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from embedrt.encoder import EncoderSpec
from embedrt.executors import TokenBatch
from embedrt.executors.onnxruntime import pad, token_types
from embedrt_export.emit import emit
from embedrt_export.fp16 import to_fp16
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8.calibration import Session
from tests.encoders import LAYER, RMS, VOCAB, make_spec, make_tensors
from tests.export.encoders import run, session
from tests.interpreter import run as interpret

_PLAIN = {"distance_bias": "none"}
_QWEN: dict[str, Any] = {
    "attention": {"num_kv_heads": 2, "causal": True, "rotary": "all", "head_norm": RMS, "distance_bias": "none"},
    "feed_forward": {"gated": True, "activation": "silu"},
    "block": {"norms": "pre", "norm": RMS},
    "embeddings": {"num_positions": 0, "norm": None},
    "final_norm": RMS,
    "max_tokens": None,
}
FEATURES: dict[str, dict[str, Any]] = {
    "distance table": {},
    "no bias of distances": {"attention": _PLAIN},
    "slopes": {"attention": {"distance_bias": "slopes"}},
    "positions behind padding": {"embeddings": {"pad_position": 1}, "max_tokens": 62},
    "no positions": {"embeddings": {"num_positions": 0}},
    "token types": {"embeddings": {"has_token_types": True}},
    "scaled embeddings": {"embeddings": {"scale": 5.5, "norm": None}},
    "projection": {"embeddings": {"size": 16}},
    "rms norms": {"block": {"norm": RMS}, "embeddings": {"norm": RMS}},
    "pre": {"block": {"norms": "pre"}, "final_norm": LAYER},
    "sandwich": {"block": {"norms": "sandwich", "norm": RMS}, "final_norm": RMS},
    "causal": {"attention": {**_PLAIN, "causal": True}},
    "causal with a table": {"attention": {"causal": True}},
    "window": {"attention": {**_PLAIN, "window": 3}},
    "window of the token alone": {"attention": {**_PLAIN, "window": 0}},
    "causal window": {"attention": {**_PLAIN, "window": 4, "causal": True}},
    "window with a table": {"attention": {"window": 3}},
    "grouped heads": {"attention": {"num_kv_heads": 2}},
    "one key head": {"attention": {"num_kv_heads": 1}},
    "heads that are not the width": {"attention": {"head_size": 12, "num_heads": 2, "num_kv_heads": 1}},
    "head norm": {"attention": {"head_norm": LAYER}},
    "rotary": {"attention": {**_PLAIN, "rotary": "all"}},
    "rotary in pairs": {"attention": {**_PLAIN, "rotary": "all", "rotary_interleaved": True}},
    "gated": {"feed_forward": {"gated": True}},
    **{name: {"feed_forward": {"activation": name}} for name in ("gelu_tanh", "relu", "silu", "quick_gelu")},
    "Qwen3's": _QWEN,
}
LENGTHS = (7, 1, 4, 5, 23, 2, 40)  # 4, 5: a window's edge


def texts(vocab: int = VOCAB) -> list[list[int]]:
    rng = np.random.default_rng(11)
    return [rng.integers(2, vocab, length).tolist() for length in LENGTHS]


def check(spec: EncoderSpec, tensors: dict[str, Any], folder: Path, model: onnx.ModelProto | None = None) -> None:
    """The graph gives what the spec says, for each text of a padded batch."""
    found = run(session(model or emit(spec, tensors), folder), texts())
    for ids, states in zip(texts(), found, strict=True):
        expected = interpret(spec, tensors, ids)
        # float32 rounds by 6e-8 of a number, some hundred times in a row
        assert np.abs(states - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", FEATURES)
def test_the_graph_computes_what_the_spec_says(name: str, tmp_path: Path) -> None:
    spec = make_spec(**FEATURES[name])
    check(spec, make_tensors(spec), tmp_path)


def test_biases_may_be_missing(tmp_path: Path) -> None:
    spec = make_spec()
    tensors = {name: value for name, value in make_tensors(spec).items() if not name.endswith((".bias", ".beta"))}
    check(spec, tensors, tmp_path)


def test_a_part_of_each_head_may_be_rotated(tmp_path: Path) -> None:
    spec = make_spec(attention={**_PLAIN, "rotary": "some"})
    tensors = make_tensors(spec)
    tensors["rotary.some.frequencies"] = tensors["rotary.some.frequencies"][:3]
    check(spec, tensors, tmp_path)


def test_attention_may_read_what_is_not_normed(tmp_path: Path) -> None:
    spec = make_spec(block={"norms": "pre"}, final_norm=LAYER)
    first = replace(spec.blocks[0], attention_is_normed=False)
    spec = replace(spec, blocks=(first, spec.blocks[1]))
    check(spec, make_tensors(spec), tmp_path)


def test_blocks_may_differ_and_masks_are_made_once(tmp_path: Path) -> None:
    spec = make_spec(attention={**_PLAIN, "rotary": "far"}, blocks=4)
    near = replace(spec.blocks[0].attention, window=2, rotary="near")
    blocks = [replace(b, attention=near) if i % 2 else b for i, b in enumerate(spec.blocks)]
    spec = replace(spec, blocks=tuple(blocks))
    tensors = make_tensors(spec)
    tensors["rotary.near.frequencies"] = tensors["rotary.near.frequencies"] * np.float32(3)
    model = emit(spec, tensors)
    check(spec, tensors, tmp_path, model)
    assert sum(node.op_type == "Where" for node in model.graph.node) == 1
    assert sum(node.op_type == "Cos" for node in model.graph.node) == 2


def test_a_repeated_block_has_its_weights_once(tmp_path: Path) -> None:
    spec = make_spec(embeddings={"size": 16}, blocks=3)
    spec = replace(spec, blocks=tuple(replace(block, weights=0) for block in spec.blocks))
    tensors = make_tensors(spec)
    model = emit(spec, tensors)
    check(spec, tensors, tmp_path, model)
    assert sum(tensor.name.endswith("ffn_up.weight") for tensor in model.graph.initializer) == 1


def test_every_tensor_of_the_spec_has_its_name_in_the_graph() -> None:
    for options in FEATURES.values():
        spec = make_spec(**options)
        tensors = make_tensors(spec)
        there = {tensor.name for tensor in emit(spec, tensors).graph.initializer}
        assert set(tensors) <= there


@pytest.mark.parametrize("name", ["token types", "Qwen3's", "sandwich", "projection"])
def test_half_graphs_are_near_the_whole_ones(name: str, tmp_path: Path) -> None:
    """The CUDA graph too, whose halves ONNX Runtime widens on a CPU."""
    spec = make_spec(**FEATURES[name])
    graph = EncoderGraph(emit(spec, make_tensors(spec)), None, {}, (), spec)
    folders = [tmp_path / name for name in ("whole", "cpu", "cuda")]
    for folder in folders:
        folder.mkdir()
    on_cpu, on_cuda, report = to_fp16(graph, texts())
    whole, *halves = (
        np.concatenate(run(session(model, folder), texts()))
        for model, folder in zip((graph.model, on_cpu, on_cuda), folders, strict=True)
    )
    assert report["products_kept_float32_on_cuda"] == []
    for half in halves:
        assert 0 < np.abs(half - whole).max() < 0.02 * np.abs(whole).max()  # half rounds by 5e-4 of a number


def test_second_parts_of_pairs_have_the_second_type(tmp_path: Path) -> None:
    spec = make_spec(embeddings={"has_token_types": True})
    tensors = make_tensors(spec)
    pairs, seconds = [[3, 9, 4, 7, 5], [8, 2], [6]], [2, 0, 1]
    batch = TokenBatch(np.concatenate(pairs).astype(np.int32), np.array([0, 5, 7, 8]), seconds=np.array(seconds))
    padded = pad(batch, pad_id=0)
    types = token_types(batch, padded)
    assert types.tolist() == [[0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    feeds = {"input_ids": padded.ids, "attention_mask": padded.mask, "token_type_ids": types}
    (hidden,) = session(emit(spec, tensors), tmp_path).run(None, feeds)
    for ids, second, states in zip(pairs, seconds, hidden, strict=True):
        expected = interpret(spec, tensors, ids, second=second)
        assert np.abs(states[: len(ids)] - expected).max() < 2e-5 * np.abs(expected).max()


def test_a_row_that_is_padding_alone_has_no_nan(tmp_path: Path) -> None:
    """Its window and the padding leave it nothing to look at; a NaN there would spread by 0 * NaN."""
    spec = make_spec(attention={**_PLAIN, "window": 1})
    s = session(emit(spec, make_tensors(spec)), tmp_path)
    ids = np.full((2, 12), 5)
    mask = np.ones_like(ids)
    mask[0, 2:] = 0
    (hidden,) = s.run(None, {"input_ids": ids, "attention_mask": mask})
    assert np.isfinite(hidden).all()


def test_the_calibration_runs_the_graph() -> None:
    spec = make_spec(embeddings={"has_token_types": True})
    outputs, _mask = Session(emit(spec, make_tensors(spec))).run([[3, 4], [5]])
    assert outputs["last_hidden_state"].shape == (2, 2, spec.hidden_size)
