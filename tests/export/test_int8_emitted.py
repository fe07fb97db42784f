"""int8 graphs of emitted encoders: near fp32, alone as in a batch, and with the tensors that the executors read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from embedrt.encoder import EncoderSpec
from embedrt_export.emit import emit
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import Int8Recipe, to_int8
from embedrt_export.int8.emitted import makers
from embedrt_export.int8.table import quantize_table
from tests.encoders import LAYER, RMS, VOCAB, make_spec, make_tensors
from tests.export.encoders import cosine, run, session
from tests.export.test_emit import FEATURES, texts

QUICK = Int8Recipe(ffn_outliers=4, max_wide=0, optimize=False, gptq=False)
IN_INT8 = (
    "distance table", "slopes", "positions behind padding", "token types", "projection", "rms norms", "pre", "sandwich",
    "causal window", "heads that are not the width", "head norm", "rotary", "gated", "silu", "quick_gelu", "Qwen3's",
)  # fmt: skip
"""Features that change what is quantized, or what stands between that."""


@pytest.fixture(scope="module")
def calibration() -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(2, VOCAB, length).tolist() for length in rng.integers(2, 24, 60)]


def make(spec: EncoderSpec, seed: int = 0) -> EncoderGraph:
    return EncoderGraph(emit(spec, make_tensors(spec, seed)), None, {}, (), spec)


def tensors_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def check(graph: EncoderGraph, model: onnx.ModelProto, folder: Path, least: float = 0.997) -> None:
    (folder / "a").mkdir()
    expected = run(session(graph.model, folder / "a"), texts())
    s = session(model, folder)
    together = run(s, texts())
    for ids, got, want in zip(texts(), together, expected, strict=True):
        assert cosine(got, want) > least
        assert cosine(run(s, [ids])[0], got) > 0.999999


@pytest.mark.parametrize("name", IN_INT8)
def test_int8_is_near_fp32_and_alone_equals_in_a_batch(calibration: Any, name: str, tmp_path: Path) -> None:
    graph = make(make_spec(**FEATURES[name]))
    model, report = to_int8(graph, calibration, recipe=QUICK)
    check(graph, model, tmp_path)
    assert report["kept_float32"] == []
    there = tensors_of(model)
    for block in (0, 1):
        for role in ("query", "key", "value", "attention_output", "ffn_up", "ffn_down", "ffn_up_outlier"):
            assert there[f"layers.{block}.{role}.weight"].dtype == np.int8
            assert {f"layers.{block}.{role}.scale"} <= set(there)
        assert there[f"layers.{block}.ffn_down_outlier.weight"].dtype == np.float32


def test_wide_heads_are_added_up_in_blocks(calibration: Any, tmp_path: Path) -> None:
    spec = make_spec(
        attention={"num_heads": 1, "num_kv_heads": 1, "head_size": 160, "causal": True, "scale": 160**-0.5}
    )
    graph = make(spec)
    model, _report = to_int8(graph, calibration, recipe=QUICK)
    assert not any(node.op_type == "MultiHeadAttention" for node in model.graph.node)
    check(graph, model, tmp_path)


def test_all_of_one_kind_may_stay_float32(calibration: Any, tmp_path: Path) -> None:
    """Folds and restored residuals then stand alone: nothing is rounded but the token table."""
    for number, name in enumerate(("distance table", "Qwen3's", "projection")):
        graph = make(make_spec(**FEATURES[name]))
        recipe = replace(QUICK, kept_float32=("qkv", "attention_output", "ffn_up", "ffn_down", "word"))
        model, _report = to_int8(graph, calibration, recipe=recipe)
        assert not any(t.data_type == onnx.TensorProto.INT8 for t in model.graph.initializer)
        folder = tmp_path / str(number)
        folder.mkdir()
        check(graph, model, folder, least=0.999999)


def test_repeated_blocks_have_one_fold_and_a_last_norm_of_their_own(calibration: Any, tmp_path: Path) -> None:
    spec = make_spec(embeddings={"size": 16}, blocks=3)
    spec = replace(spec, blocks=tuple(replace(block, weights=0) for block in spec.blocks))
    graph = make(spec)
    model, _report = to_int8(graph, calibration, recipe=QUICK)
    check(graph, model, tmp_path)
    there = tensors_of(model)
    assert {
        "output_norm.gamma",
        "output_norm.beta",
        "layers.0.ffn_norm.restore",
        "embeddings.projection.restore",
    } <= set(there)
    np.testing.assert_array_equal(there["layers.0.ffn_norm.restore"], there["embeddings.projection.restore"])


@pytest.mark.parametrize(("norms", "folded"), [("pre", ["embeddings.norm"]), ("sandwich", [])])
def test_attention_that_reads_what_is_not_normed(
    calibration: Any, tmp_path: Path, norms: str, folded: list[str]
) -> None:
    spec = make_spec(block={"norms": norms}, final_norm=LAYER)
    spec = replace(spec, blocks=(replace(spec.blocks[0], attention_is_normed=False), spec.blocks[1]))
    assert makers(spec) == {**dict.fromkeys(folded, 0), "layers.1.attention_norm": 1}
    graph = make(spec)
    model, _report = to_int8(graph, calibration, recipe=QUICK)
    check(graph, model, tmp_path)
    assert [name for name in tensors_of(model) if name.endswith(".restore")] == [f"{name}.restore" for name in folded]


def test_nothing_is_folded_into_sums_or_for_readers_that_differ() -> None:
    spec = make_spec(embeddings={"norm": None})
    assert makers(spec) == {"layers.0.ffn_norm": 1}
    pairs = tuple(replace(spec.blocks[0], weights=weights) for weights in (0, 0, 1))
    assert makers(replace(spec, blocks=pairs)) == {}  # layers.0.ffn_norm makes what both read


def test_the_last_norms_error_is_taken_off_in_a_beta_that_rms_norms_have_not(calibration: Any) -> None:
    spec = make_spec(block={"norms": "pre", "norm": RMS}, final_norm=RMS)
    assert "final_norm.beta" not in make_tensors(spec)
    model, _report = to_int8(make(spec), calibration, recipe=QUICK)
    there = tensors_of(model)
    assert np.abs(there["final_norm.beta"]).max() > 1e-5
    assert np.abs(there["layers.0.attention_norm.beta"]).max() > 1e-2  # and their folds have a shift as layer norms' do


def test_a_second_row_makes_the_worst_rows_of_a_table_the_best() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((64, 32)).astype(np.float32)
    table[::8, 3] = 90  # their other numbers are lost in steps of a large one
    one, two = quantize_table(table, 0), quantize_table(table, 1 / 8)
    assert two.rest.shape == (9, 32)
    assert np.flatnonzero(two.rest_row).tolist() == list(range(0, 64, 8))
    assert not two.rest[0].any()
    assert two.error < one.error / 5


def test_the_tables_second_rows_are_looked_up(calibration: Any, tmp_path: Path) -> None:
    spec = make_spec()
    tensors = make_tensors(spec)
    tensors["embeddings.word"][::9, 5] *= 40
    graph = EncoderGraph(emit(spec, tensors), None, {}, (), spec)
    model, _report = to_int8(graph, calibration, recipe=replace(QUICK, table_rest_share=1 / 8))
    there = tensors_of(model)
    table = there["embeddings.word"] * there["embeddings.word.scale"]
    rest = there["embeddings.word_rest"] * there["embeddings.word_rest.scale"]
    whole = table + rest[there["embeddings.word_rest.row"][:, 0]]
    assert np.abs(whole - tensors["embeddings.word"]).max() < np.abs(table - tensors["embeddings.word"]).max() / 10
    check(graph, model, tmp_path)
