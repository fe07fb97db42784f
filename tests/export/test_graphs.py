"""Graphs of tiny seeded encoders: fusion, fp16, and the weights file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from embedrt_export.cpu import for_cpu, rewritten
from embedrt_export.fp16 import in_half, to_fp16
from embedrt_export.graph import EncoderGraph, count_operators
from embedrt_export.int8 import to_int8
from embedrt_export.weights import ALIGNMENT, read_tensor, save_graph
from tests.export.encoders import (
    CONFIGS,
    FFN,
    LAYERS,
    QUICK,
    VOCAB,
    cosine,
    make_encoder,
    make_graph,
    run,
    run_pytorch,
    session,
)
from tests.sessions import open_session


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_known_families_are_fully_fused_and_named_by_role(graphs: Any, kind: str) -> None:
    graph = graphs[kind][1]
    assert graph.family == kind
    assert graph.fused["Attention"] == graph.fused["BiasGelu"] == LAYERS
    assert graph.fused["SkipLayerNormalization"] == 2 * LAYERS
    assert graph.fused["LayerNormalization"] == 1
    assert "Softmax" not in graph.fused
    names = {tensor.name for tensor in graph.model.graph.initializer}
    for role in ("qkv", "attention_output", "ffn_up", "ffn_down"):
        assert {f"layers.1.{role}.weight", f"layers.1.{role}.bias"} <= names


@pytest.mark.parametrize(
    ("kind", "activation", "operator"),
    [("bert", "relu", "Relu"), ("roberta", "gelu_new", "FastGelu"), ("bert", "gelu_pytorch_tanh", "FastGelu")],
)
def test_other_activations_are_fused_to_the_same_function(
    calibration: Any, tmp_path: Path, kind: str, activation: str, operator: str
) -> None:
    encoder = make_encoder(kind, hidden_act=activation)
    graph = make_graph(encoder)
    assert graph.fused[operator] == graph.fused["Attention"] == LAYERS
    names = {tensor.name for tensor in graph.model.graph.initializer}
    assert {"layers.0.ffn_up.bias", "layers.1.ffn_up.bias"} <= names
    texts = [[5, 6, 7, 8, 9, 10], [11], [12, 13, 14]]
    expected = run_pytorch(encoder, texts)
    cpu, _cuda, _report = to_fp16(graph)
    # FastGelu's tanh and its polynomial in ONNX Runtime differ by a few units in the last place of values near 4
    tolerances = {"fp32": (graph.model, 2e-5), "fp16": (cpu, 2e-5)}
    for name, (model, tolerance) in tolerances.items():
        (tmp_path / name).mkdir()
        for got, want in zip(run(session(model, tmp_path / name), texts), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=tolerance)
    int8, _report = to_int8(graph, calibration, recipe=QUICK)
    for got, want in zip(run(session(int8, tmp_path), texts), expected, strict=True):
        assert cosine(got, want) > 0.999


def test_other_encoders_stay_unfused_with_a_note(graphs: Any) -> None:
    graph = graphs["mpnet"][1]
    assert graph.family is None
    assert "mpnet" in graph.notes[0]


@pytest.mark.parametrize("kind", CONFIGS)
def test_fp32_equals_pytorch_also_with_padding_on_the_left(graphs: Any, kind: str, tmp_path: Path) -> None:
    encoder, graph = graphs[kind]
    pad = encoder.config.pad_token_id
    ids = np.random.default_rng(0).integers(5, VOCAB, (2, 9))
    mask = np.ones_like(ids)
    mask[0, :3] = mask[1, 6:] = 0
    ids[mask == 0] = pad
    with torch.no_grad():
        expected = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).last_hidden_state.numpy()
    s = session(graph.model, tmp_path)
    every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    hidden = s.run(None, {value.name: every[value.name] for value in s.get_inputs()})[0]
    np.testing.assert_allclose(hidden[mask == 1], expected[mask == 1], atol=2e-5)


def test_weights_are_aligned_and_readable_without_protobuf(graphs: Any, tmp_path: Path) -> None:
    model = graphs["bert"][1].model
    entries = save_graph(model, tmp_path / "model.onnx", tmp_path / "weights.bin")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    roles = {name for name in tensors if name.startswith(("embeddings.", "layers."))}
    assert {"embeddings.word", "layers.0.qkv.weight", "layers.1.ffn_norm.beta"} <= roles
    assert {entry.name for entry in entries} >= roles
    for entry in entries:
        assert entry.offset % ALIGNMENT == 0
        assert entry.size == tensors[entry.name].nbytes
        np.testing.assert_array_equal(read_tensor(tmp_path, entry), tensors[entry.name])


def test_large_weights_that_are_equal_lie_in_the_file_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    large = rng.standard_normal((64, 64)).astype(np.float32)
    other = large + np.float32(1)
    arrays = {"a": large, "b": large.copy(), "c": large.reshape(32, 128), "d": other, "e": large[:8], "f": large[:8]}
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "weights", [], [], tensors))
    entries = {entry.name: entry for entry in save_graph(model, tmp_path / "model.onnx", tmp_path / "weights.bin")}
    assert set(entries) == set(arrays)
    assert entries["a"].offset == entries["b"].offset
    assert len({entry.offset for entry in entries.values()}) == 5  # another shape, other numbers, and small ones apart
    for name, entry in entries.items():
        np.testing.assert_array_equal(read_tensor(tmp_path, entry), arrays[name])


@pytest.mark.parametrize("kind", CONFIGS)
def test_fp16_from_an_fp16_checkpoint_is_exact(graphs: Any, kind: str, tmp_path: Path) -> None:
    graph = graphs[kind][1]
    cpu, cuda, report = to_fp16(graph)
    assert report["weights_kept_float32"] == []
    (tmp_path / "a").mkdir()
    texts = [[5, 6, 7, 8], [9, 10]]
    expected = run(session(graph.model, tmp_path / "a", for_cpu(graph.model.graph.node)), texts)
    entries = save_graph(cpu, tmp_path / "model.onnx", tmp_path / "weights.bin")
    size = (tmp_path / "weights.bin").stat().st_size
    shared = {entry.name: entry for entry in entries}
    save_graph(cuda, tmp_path / "model_cuda.onnx", tmp_path / "weights.bin", reuse=shared)
    assert (tmp_path / "weights.bin").stat().st_size == size
    for name, tolerance in (("model.onnx", 0.0), ("model_cuda.onnx", 2e-2)):
        s = open_session(str(tmp_path / name))
        for got, want in zip(run(s, texts), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_cpu_graphs_take_the_norms_apart_and_compute_the_same(graphs: Any, kind: str, tmp_path: Path) -> None:
    graph = graphs[kind][1]
    before = graph.model.SerializeToString()
    nodes = for_cpu(graph.model.graph.node)
    assert graph.model.SerializeToString() == before
    operators = Counter(node.op_type for node in nodes)
    assert (operators["SkipLayerNormalization"], operators["LayerNormalization"]) == (0, 2 * LAYERS + 1)
    assert rewritten(graph.model.graph.node) == {"SkipLayerNormalization": "Add, Add, LayerNormalization"}
    assert {f"layers.{i}.{norm}" for i in range(LAYERS) for norm in ("attention_norm", "ffn_norm")} < {
        node.name for node in nodes
    }
    (tmp_path / "fused").mkdir()
    texts = [[5, 6, 7, 8], [9, 10]]
    expected = run(session(graph.model, tmp_path / "fused"), texts)
    for got, want in zip(run(session(graph.model, tmp_path, nodes), texts), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=5e-6)  # sums in another order
    cpu, cuda, report = to_fp16(graph)
    assert count_operators(cuda)["SkipLayerNormalization"] == 2 * LAYERS
    assert "SkipLayerNormalization" not in count_operators(cpu)
    assert report["on_cpu"] == rewritten(graph.model.graph.node)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_onnxruntime_does_not_fuse_the_norms_again(graphs: Any, kind: str, tmp_path: Path) -> None:
    """It does where it knows all shapes, and runs what it makes several times slower."""
    model = graphs[kind][1].model
    save_graph(model, tmp_path / "model.onnx", tmp_path / "weights.bin", nodes=for_cpu(model.graph.node))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"])
    found = count_operators(onnx.load(str(tmp_path / "optimized.onnx"), load_external_data=False))
    assert (found["LayerNormalization"], found.get("SkipLayerNormalization", 0)) == (2 * LAYERS + 1, 0)


def test_weights_that_half_cannot_hold_are_found() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((32, 32)).astype(np.float32)
    half = in_half(weight)
    assert half is not None
    np.testing.assert_array_equal(half, weight.astype(np.float16))
    assert in_half(weight * 1e5) is None
    assert in_half(weight * 1e-7) is None
    assert in_half(np.full((2, 2), np.nan, np.float32)) is None


def test_products_near_the_end_of_halfs_range_stay_float32_on_cuda(graphs: Any, calibration: Any) -> None:
    graph = graphs["bert"][1]
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for tensor in model.graph.initializer:
        if tensor.name == "layers.0.ffn_up.bias":
            tensor.raw_data = np.full(FFN, 30000, np.float32).tobytes()
    _cpu, _cuda, report = to_fp16(EncoderGraph(model, "bert", {}, ()), calibration)
    assert "layers.0.ffn_down" in report["products_kept_float32_on_cuda"]
    assert "layers.1.attention" not in report["products_kept_float32_on_cuda"]
