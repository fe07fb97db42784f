"""int8 graphs of tiny seeded encoders, and of a Gemm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from embedrt.errors import ExportError
from embedrt.parity.texts import builtin_texts
from embedrt_export.graph import EncoderGraph, finish
from embedrt_export.int8 import Int8Recipe, to_int8
from embedrt_export.int8.calibration import Session, batches, pooled
from embedrt_export.int8.generic import product_values
from embedrt_export.texts import calibration_texts
from tests.export.encoders import (
    CONFIGS,
    QUICK,
    VOCAB,
    cosine,
    run,
    session,
)


@pytest.mark.parametrize("kind", CONFIGS)
def test_int8_is_near_fp32_and_alone_equals_in_a_batch(
    graphs: Any, calibration: Any, kind: str, tmp_path: Path
) -> None:
    graph = graphs[kind][1]
    model, report = to_int8(graph, calibration, recipe=QUICK)
    (tmp_path / "a").mkdir()
    texts = [[7], [8, 9, 10], *([int(i) for i in np.arange(n) % 280 + 10] for n in (5, 17, 40))]
    expected = run(session(graph.model, tmp_path / "a"), texts)
    s = session(model, tmp_path)
    together = run(s, texts)
    for text, got, want in zip(texts, together, expected, strict=True):
        assert cosine(got, want) > 0.999
        assert cosine(run(s, [text])[0], got) > 0.999999
    assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in model.graph.initializer)
    assert report["kept_float32"] == []
    assert report["measured"][0]["cosine_min"] > 0.999


@pytest.mark.parametrize("token", [None, 0, -1])
@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
def test_int8_has_the_mean_error_of_its_vectors_taken_off(
    graphs: Any, calibration: Any, kind: str, token: int | None
) -> None:
    graph = graphs[kind][1]
    seen = [ids for index, ids in enumerate(calibration) if index % 5]
    exact = pooled(Session(graph.model), seen, token=token)
    shifts = []
    for correct in (False, True):
        recipe = replace(QUICK, output_correction=correct)
        model, _report = to_int8(graph, calibration, token=token, recipe=recipe)
        errors = pooled(Session(model), seen, token=token) - exact
        shifts.append(np.linalg.norm(errors.mean(axis=0)))
    assert shifts[0] > 1e-4
    assert shifts[1] < shifts[0] / 100


def test_int8_keeps_products_float32_while_a_gate_would_be_missed(graphs: Any, calibration: Any) -> None:
    recipe = Int8Recipe(ffn_outliers=0, gptq=False, optimize=False, reserve=1.0, max_wide=3)
    model, report = to_int8(graphs["roberta"][1], calibration, recipe=recipe)
    assert [entry["kept"] for entry in report["measured"]] == [0, 1, 2, 3]
    worst = sorted(report["local_error"], key=lambda name: -report["local_error"][name])
    assert report["kept_float32"] == worst[:3]
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    names = [f"{name.replace('qkv', 'query')}.weight" for name in worst[:3]]
    assert all(types[name] == onnx.TensorProto.FLOAT for name in names)


def test_int8_keeps_a_share_of_the_products_float32(graphs: Any, calibration: Any) -> None:
    recipe = replace(QUICK, float32_share=0.25, reserve=0.0, max_wide=4)
    _model, report = to_int8(graphs["bert"][1], calibration, recipe=recipe)
    worst = sorted(report["local_error"], key=lambda name: -report["local_error"][name])
    assert report["kept_float32"] == worst[: len(worst) // 4]
    assert len(report["measured"]) == 1


def test_int8_keeps_named_products_float32_beside_its_share(graphs: Any, calibration: Any) -> None:
    recipe = replace(QUICK, kept_float32=("ffn_up", "layers.0.qkv"), float32_share=0.2, reserve=0.0)
    _model, report = to_int8(graphs["bert"][1], calibration, recipe=recipe)
    named = {name for name in report["local_error"] if name.endswith(".ffn_up")} | {"layers.0.qkv"}
    kept = report["kept_float32"]
    assert set(kept[: len(named)]) == named
    others = sorted(report["local_error"].keys() - named, key=lambda name: -report["local_error"][name])
    assert kept[len(named) :] == others[: round(0.2 * len(others))]
    assert report["measured"][0]["kept"] == len(kept)


def gemm_encoder(loud: float = 1, **attributes: Any) -> tuple[EncoderGraph, np.ndarray, np.ndarray]:
    """A table and one Gemm (none of the encoders above exports one): the graph, table @ weight (V, 96) and the bias.

    Every third token has a channel that is `loud` times as large: no fixed scale evens that out.
    """
    rng = np.random.default_rng(5)
    table, weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((VOCAB, 64), (96, 64), (96,)))
    table[::3, 7] *= loud
    stored = weight if attributes.get("transB") else np.ascontiguousarray(weight.T)
    constants = {"table": table, "weight": stored, "bias": bias,
                 "flat": np.array([-1, 64]), "width": np.array([96])}  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"], "look_up"),
        helper.make_node("Reshape", ["x", "flat"], ["rows"], "flatten"),
        helper.make_node("Gemm", ["rows", "weight", "bias"], ["y"], "product", **attributes),
        helper.make_node("Shape", ["input_ids"], ["batch"], "shape"),
        helper.make_node("Concat", ["batch", "width"], ["full"], "join", axis=0),
        helper.make_node("Reshape", ["y", "full"], ["hidden"], "restore"),
    ]
    ids = helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["b", "s"])
    hidden = helper.make_tensor_value_info("hidden", onnx.TensorProto.FLOAT, ["b", "s", 96])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(helper.make_graph(nodes, "encoder", [ids], [hidden], tensors))
    finish(model)
    return EncoderGraph(model, None, {}, ()), table @ weight.T, bias


@pytest.mark.parametrize("attributes", [{}, {"transB": 1, "alpha": 0.5, "beta": 2.0}], ids=["plain", "transposed"])
def test_gemm_is_quantized_with_its_bias(calibration: Any, tmp_path: Path, attributes: dict[str, Any]) -> None:
    graph, products, bias = gemm_encoder(**attributes)
    expected = products * attributes.get("alpha", 1) + bias * attributes.get("beta", 1)  # (V, 96), by token
    model, report = to_int8(graph, calibration, recipe=QUICK)
    assert list(report["local_error"]) == ["product"]
    assert not any(node.op_type == "Gemm" for node in model.graph.node)
    (hidden,) = run(session(model, tmp_path), [list(range(5, 45))])
    # 8 bits of each: 64 products with errors of up to 1/254 of the largest of a row and of a column
    assert np.abs(hidden - expected[5:45]).max() < 0.02 * np.abs(expected).max()


def test_channels_that_stretch_the_rows_stay_float32_in_unfused_graphs(calibration: Any, tmp_path: Path) -> None:
    graph, products, bias = gemm_encoder(loud=60)
    errors = []
    for count in (0, 4):
        model, _report = to_int8(graph, calibration, recipe=Int8Recipe(ffn_outliers=count, max_wide=0))
        folder = tmp_path / str(count)
        folder.mkdir()
        (hidden,) = run(session(model, folder), [list(range(5, 45))])
        errors.append(np.linalg.norm(hidden - (products + bias)[5:45]))
        channels = [numpy_helper.to_array(t).tolist() for t in model.graph.initializer if "outlier_channels" in t.name]
        assert len(channels) == bool(count)
    assert 7 in channels[0]
    assert errors[1] < errors[0] / 2  # 2.5 times less; the rounding of the weights stays


def test_gemm_with_a_bias_of_its_own_for_each_row_is_left_alone() -> None:
    graph, _products, _bias = gemm_encoder()
    assert product_values(graph.model) == {"product": "rows"}
    for tensor in graph.model.graph.initializer:
        if tensor.name == "bias":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((7, 96), np.float32), "bias"))
    assert product_values(graph.model) == {}


def test_int8_needs_calibration_texts(graphs: Any) -> None:
    with pytest.raises(ExportError, match="at least 10 calibration texts, got 1"):
        to_int8(graphs["bert"][1], [[1, 2]])


def test_calibration_batches_hold_equal_lengths_and_every_text() -> None:
    sequences = [[1] * length for length in (3, 1, 3, 2, 1)]
    groups = list(batches(sequences))
    assert [len({len(sequence) for sequence in group}) for group in groups] == [1] * len(groups)
    assert sorted(len(sequence) for group in groups for sequence in group) == [1, 1, 2, 3, 3]


def test_calibration_texts_are_many_and_varied() -> None:
    texts = calibration_texts()
    assert len(texts) > 2_000
    assert not set(texts) & set(builtin_texts())  # what parity is measured on
    assert min(map(len, texts)) == 1
    assert max(map(len, texts)) > 1000
    assert not any(text.startswith("# ") for text in texts)
