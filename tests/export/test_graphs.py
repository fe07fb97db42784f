"""Graphs of tiny seeded encoders: fusion, fp16, int8, and the weights file."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import transformers
from onnx import helper, numpy_helper

from embedrt.errors import ExportError, UnsupportedModelError
from embedrt_export.cpu import for_cpu, rewritten
from embedrt_export.fp16 import survives_half, to_fp16
from embedrt_export.graph import EncoderGraph, build_fp32, check_fused, count_operators, finish
from embedrt_export.int8 import Int8Recipe, to_int8
from embedrt_export.int8.calibration import Session, batches, pooled
from embedrt_export.int8.generic import product_values
from embedrt_export.texts import calibration_texts
from embedrt_export.weights import ALIGNMENT, read_tensor, save_graph
from tests.sessions import open_session

LAYERS, WIDTH, HEADS, FFN, VOCAB = 2, 64, 4, 128, 300

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FFN,
    "max_position_embeddings": 66,
}
CONFIGS: dict[str, tuple[str, Any]] = {
    "bert": ("BertModel", transformers.BertConfig(**_COMMON, type_vocab_size=2)),
    "roberta": ("XLMRobertaModel", transformers.XLMRobertaConfig(**_COMMON, type_vocab_size=1, pad_token_id=1)),
    "distilbert": (
        "DistilBertModel",
        transformers.DistilBertConfig(
            vocab_size=VOCAB, dim=WIDTH, n_layers=LAYERS, n_heads=HEADS, hidden_dim=FFN, max_position_embeddings=66
        ),
    ),
    "mpnet": ("MPNetModel", transformers.MPNetConfig(**_COMMON)),
}
QUICK = Int8Recipe(ffn_outliers=16, max_wide=0)


def make_encoder(kind: str, **changes: Any) -> Any:
    """A seeded encoder whose weights, biases and gains are all exact in fp16 and none is trivial."""
    torch.manual_seed(7)
    name, config = CONFIGS[kind]
    config = copy.deepcopy(config)
    config.update(changes)
    encoder = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return encoder.half().float()


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, EncoderGraph]]:
    out = {}
    for kind in CONFIGS:
        encoder = make_encoder(kind)
        out[kind] = encoder, build_fp32(encoder, tmp_path_factory.mktemp(kind))
    return out


@pytest.fixture(scope="module")
def calibration() -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(5, VOCAB, length).tolist() for length in rng.integers(2, 24, 60)]


def session(model: onnx.ModelProto, folder: Path, nodes: Any = None) -> ort.InferenceSession:
    save_graph(model, folder / "model.onnx", folder / "weights.bin", nodes=nodes)
    return open_session(str(folder / "model.onnx"))


def run(s: ort.InferenceSession, sequences: list[list[int]], pad: int = 1) -> list[np.ndarray]:
    """The hidden states (S, H) of each text, all in one padded batch."""
    ids = np.full((len(sequences), max(map(len, sequences))), pad, np.int64)
    mask = np.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    hidden = s.run(None, {value.name: every[value.name] for value in s.get_inputs()})[0]
    return [hidden[row, : len(sequence)] for row, sequence in enumerate(sequences)]


def run_pytorch(encoder: Any, sequences: list[list[int]]) -> list[np.ndarray]:
    """The hidden states (S, H) of each text by itself."""
    with torch.no_grad():
        return [encoder(torch.tensor([sequence])).last_hidden_state[0].numpy() for sequence in sequences]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.mean(axis=0).astype(np.float64), b.mean(axis=0).astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


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
    graph = build_fp32(encoder, tmp_path)
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


def test_a_family_that_did_not_fuse_is_refused_with_counts(graphs: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=r"Attention: expected 3, found 2"):
        check_fused(graphs["bert"][1].model, LAYERS + 1, "gelu", "bert")
    with pytest.raises(UnsupportedModelError, match="FastGelu: expected 2, found 0"):
        check_fused(graphs["bert"][1].model, LAYERS, "gelu_new", "bert")
    with pytest.raises(UnsupportedModelError, match="mish"):
        check_fused(graphs["bert"][1].model, LAYERS, "mish", "bert")


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


def test_weights_that_half_cannot_hold_are_found() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((32, 32)).astype(np.float32)
    assert survives_half(weight)
    assert not survives_half(weight * 1e5)
    assert not survives_half(weight * 1e-7)


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


@pytest.mark.parametrize("first_token", [False, True])
@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
def test_int8_has_the_mean_error_of_its_vectors_taken_off(
    graphs: Any, calibration: Any, kind: str, first_token: bool
) -> None:
    graph = graphs[kind][1]
    seen = [ids for index, ids in enumerate(calibration) if index % 5]
    exact = pooled(Session(graph.model), seen, first_token=first_token)
    shifts = []
    for correct in (False, True):
        recipe = replace(QUICK, output_correction=correct)
        model, _report = to_int8(graph, calibration, first_token=first_token, recipe=recipe)
        errors = pooled(Session(model), seen, first_token=first_token) - exact
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
    assert len(texts) > 200
    assert min(map(len, texts)) == 1
    assert max(map(len, texts)) > 1000
    assert not any(text.startswith("# ") for text in texts)
