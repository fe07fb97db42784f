"""Weights and values that several products share, and token tables, in unfused graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import numpy_helper

from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import to_int8
from embedrt_export.int8.generic import groups_of, product_values, table_errors
from embedrt_export.int8.sharing import tied, without_aliases
from embedrt_export.tracing import trace_encoder
from tests.export.encoders import QUICK, VOCAB, cosine, run, session

LAYERS = 3
TEXTS = [[7], [8, 9, 10], *([int(i) for i in np.arange(n) % 280 + 10] for n in (5, 17, 40))]

TABLES = replace(QUICK, unfused_embeddings_int8=True)


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> EncoderGraph:
    """Three layers that share their weights, whose norms and biases are not trivial."""
    torch.manual_seed(7)
    config = transformers.AlbertConfig(
        vocab_size=VOCAB, embedding_size=32, hidden_size=192, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=768, max_position_embeddings=66, initializer_range=0.1,
    )  # fmt: skip
    encoder = transformers.AlbertModel(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return trace_encoder(encoder, tmp_path_factory.mktemp("albert"))


def sizes(model: onnx.ModelProto, kind: int) -> list[int]:
    """Numbers in each matrix of a type."""
    return [
        int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if tensor.data_type == kind and len(tensor.dims) == 2
    ]


def test_products_are_tied_by_values_and_by_weights() -> None:
    pairs = {"q": ("x", "Q"), "k": ("x", "K"), "o": ("c", "O"), "q2": ("y", "Q"), "o2": ("d", "O"), "z": ("e", "Z")}
    assert tied(pairs) == [["q", "k", "q2"], ["o", "o2"], ["z"]]
    assert tied({"a": ("x", "A"), "b": ("y", "B"), "c": ("y", "A")}) == [["a", "b", "c"]]
    assert tied({"a": ("same", "w"), "b": ("other", "same")}) == [["a"], ["b"]]  # a value and a weight of one name
    assert tied({}) == []


def test_a_weight_that_layers_share_is_kept_once(albert: EncoderGraph, calibration: Any, tmp_path: Path) -> None:
    model, report = to_int8(albert, calibration, recipe=TABLES)
    assert len(product_values(albert.model)) == 1 + 6 * LAYERS
    assert len(report["local_error"]) == 8  # mapping, query, key, value, output, both of the FFN, and the token table
    assert not [size for size in sizes(model, onnx.TensorProto.FLOAT) if size >= 1 << 14]
    (tmp_path / "fp32").mkdir()
    expected = run(session(albert.model, tmp_path / "fp32"), TEXTS)
    s = session(model, tmp_path)
    fp32, int8 = ((folder / "weights.bin").stat().st_size for folder in (tmp_path / "fp32", tmp_path))
    assert int8 < fp32 / 2  # a quarter, and what is page-aligned or small
    for text, got, want in zip(TEXTS, run(s, TEXTS), expected, strict=True):
        assert cosine(got, want) > 0.999
        assert cosine(run(s, [text])[0], got) > 0.999999


def test_a_shared_weight_stays_float32_in_all_its_uses(albert: EncoderGraph, calibration: Any) -> None:
    up = [name for name in product_values(albert.model) if "/ffn/" in name or "/ffn_1/" in name or "/ffn_2/" in name]
    assert len(up) == LAYERS
    model, report = to_int8(albert, calibration, recipe=replace(QUICK, kept_float32=(up[0],)))
    assert report["kept_float32"] == [up[0]]
    assert sizes(model, onnx.TensorProto.INT8).count(192 * 768) == LAYERS  # the other one of the FFN
    kept = [node for node in model.graph.node if node.name in up]
    assert len(kept) == LAYERS
    assert len({node.input[1] for node in kept}) == 1


def test_the_mean_error_is_taken_off_a_norm_that_layers_share(albert: EncoderGraph, calibration: Any) -> None:
    plain, _report = to_int8(albert, calibration, recipe=replace(QUICK, output_correction=False))
    corrected, _report = to_int8(albert, calibration, recipe=TABLES)
    last = [next(node for node in model.graph.node if model.graph.output[0].name in node.output)
            for model in (plain, corrected)]  # fmt: skip
    arrays = [{tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
              for model in (plain, corrected)]  # fmt: skip
    before, after = arrays[0][last[0].input[2]], arrays[1][last[1].input[2]]
    assert 0 < np.abs(before - after).max() < 0.1
    np.testing.assert_array_equal(arrays[1][last[0].input[2]], before)  # the other layers' norm is what it was


def test_aliases_of_weights_are_read_by_their_own_names(albert: EncoderGraph) -> None:
    weights = {tensor.name for tensor in albert.model.graph.initializer}
    assert any(node.op_type == "Identity" and node.input[0] in weights for node in albert.model.graph.node)
    nodes = without_aliases(albert.model)
    assert not any(node.op_type == "Identity" and node.input[0] in weights for node in nodes)
    made = {name for node in nodes for name in node.output} | {value.name for value in albert.model.graph.input}
    assert {name for node in nodes for name in node.input if name} <= made | weights


def test_products_that_share_nothing_have_groups_of_their_own(graphs: Any) -> None:
    groups = groups_of(graphs["mpnet"][1].model)
    assert sorted(map(len, groups)) == [1] * 6 + [3] * 2  # query, key and value read one value


def test_the_token_table_is_int8_and_may_stay_float32(graphs: Any, calibration: Any, tmp_path: Path) -> None:
    graph = graphs["mpnet"][1]
    (name,) = table_errors(graph.model)
    width = VOCAB * 64
    model, report = to_int8(graph, calibration, recipe=TABLES)
    assert width in sizes(model, onnx.TensorProto.INT8)
    assert width not in sizes(model, onnx.TensorProto.FLOAT)
    assert 0 < report["local_error"][name] < 0.02
    for recipe in (QUICK, replace(TABLES, kept_float32=(name,))):
        model, _report = to_int8(graph, calibration, recipe=recipe)
        assert width in sizes(model, onnx.TensorProto.FLOAT)


def test_a_token_table_that_something_else_reads_stays_float32(graphs: Any) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(graphs["mpnet"][1].model)
    (name,) = table_errors(model)
    table = next(node.input[0] for node in model.graph.node if node.name == name)
    model.graph.node.append(onnx.helper.make_node("Shape", [table], ["size"], "size"))
    assert table_errors(model) == {}
