"""One quantized product: the graph against its numpy twin, and what rounding weights must keep."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from embedrt.errors import ExportError
from embedrt_export.graph import set_opset
from embedrt_export.int8.builder import Builder
from embedrt_export.int8.linear import CENTRE, Linear, quantize_rows8, run_linear
from embedrt_export.int8.smoothing import stretching_channels
from embedrt_export.int8.weights import quantize_rows, quantize_weight
from tests.sessions import open_session

T, K, N = 9, 96, 40


def product_session(linear: Linear, zero: int) -> ort.InferenceSession:
    empty = onnx.ModelProto()
    out = Builder(empty)
    rows = out.rows8("x", K, "p") if zero == CENTRE else out.rows8_activation("x", K, "p", zero)
    y = out.product(*rows, linear.quantized, zero, "p")
    out.add("Add", [y, out.tensor("p.bias", linear.bias)], "y")
    graph = helper.make_graph(
        out.nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, K])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(out.tensors.values()),
    )
    model = helper.make_model(graph)
    set_opset(model)
    return open_session(model.SerializeToString())


@pytest.fixture
def linear() -> Linear:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((K, N)).astype(np.float32)
    bias = rng.standard_normal(N).astype(np.float32)
    return Linear(weight, bias, quantize_weight(weight), bias)


@pytest.mark.parametrize("zero", [CENTRE, 16, 24])
def test_graph_equals_the_numpy_twin_on_edge_rows(linear: Linear, zero: int) -> None:
    x = np.random.default_rng(2).standard_normal((T, K)).astype(np.float32)
    if zero != CENTRE:
        x = np.maximum(x, -0.17)
    x[0] = 0
    x[1] *= 1e30
    x[2] *= 1e-30
    x[3, 5] = 1e4
    got = product_session(linear, zero).run(None, {"x": x})[0]
    want = run_linear(x, linear, zero)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got[0], linear.bias)
    # float32 sums in another order: a few units in the last place of each row's largest number
    largest = np.abs(want).max(axis=1, keepdims=True)
    np.testing.assert_allclose(got / largest, want / largest, rtol=0, atol=1e-5)
    np.testing.assert_allclose(got[4:], want[4:], atol=1e-4)


def test_rows_use_the_whole_range_and_dequantize_within_half_a_step() -> None:
    x = np.random.default_rng(3).standard_normal((T, K)).astype(np.float32)
    rows, scale = quantize_rows8(x)
    assert (np.abs(rows.astype(int) - 128).max(axis=1) == 127).all()
    assert (np.abs((rows.astype(np.float32) - 128) * scale - x) <= scale * 0.501).all()


def test_weights_round_per_column_and_zero_columns_stay_zero() -> None:
    weight = np.random.default_rng(4).standard_normal((K, N)).astype(np.float32) * np.logspace(-3, 3, N)
    weight = weight.astype(np.float32)
    weight[:, 7] = 0
    q = quantize_weight(weight)
    assert q.scale.shape == (N,)
    assert (q.dequantized()[:, 7] == 0).all()
    assert (np.abs(q.dequantized() - weight) <= 0.501 * q.scale).all()


def test_gptq_halves_the_output_error_of_correlated_inputs() -> None:
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((2000, 12)) @ rng.standard_normal((12, K))).astype(np.float32)
    x += rng.standard_normal(x.shape).astype(np.float32) * 0.1
    weight = rng.standard_normal((K, N)).astype(np.float32)
    covariance = np.cov(x.T).astype(np.float32)

    def error(q: np.ndarray) -> float:
        return float(np.linalg.norm(x @ (q - weight)))

    assert error(quantize_weight(weight, covariance).dequantized()) < 0.5 * error(quantize_weight(weight).dequantized())


def test_table_rows_have_scales_of_their_own() -> None:
    table = np.random.default_rng(6).standard_normal((50, 16)).astype(np.float32)
    table[3] *= 1000
    table[4] = 0
    rows, scale = quantize_rows(table, block=7)
    assert (np.abs(rows * scale - table) <= 0.501 * scale).all()
    assert scale[3] > 100 * np.delete(scale, [3, 4]).max()
    assert (rows[4] == 0).all()


def test_the_channel_that_stretches_the_rows_is_found() -> None:
    x = np.random.default_rng(7).standard_normal((100, K)).astype(np.float32)
    x[:, [11, 60]] *= 30
    assert stretching_channels(x, 2).tolist() == [11, 60]


def test_gptq_damps_more_where_the_covariance_is_indefinite_and_refuses_what_is_not_finite() -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((K, N)).astype(np.float32)
    covariance = np.eye(K, dtype=np.float32)
    covariance[0, 0] = -0.3
    found = quantize_weight(weight, covariance).dequantized()
    assert np.abs(found - weight).max() < 0.1
    covariance[1, 2] = covariance[2, 1] = np.nan
    with pytest.raises(ExportError, match="not finite"):
        quantize_weight(weight, covariance)
