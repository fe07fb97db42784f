"""Every kernel of every instruction set against its numpy twin.

Where a tolerance is relative to "the largest", it is a few float32 roundings (6e-8 each) of the sums behind it;
integers must be equal.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.native import door, twin

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 17, 32, 33, 50)  # tiles are 4, 6, 16 or twice 16 rows
COLUMNS = (16, 48, 64, 80, 144)  # panels are 16 or 64 columns
DEPTHS = (16, 48, 64, 96, 1504)


def some(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def int8_weight(k: int, n: int, seed: int) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, (k, n)).astype(np.int8)
    return weight, (rng.random(n).astype(np.float32) + 0.5) / 1000, some((n,), seed + 1)


def close(got: NDArray[np.float32], wanted: NDArray[np.floating], steps: float = 16) -> None:
    largest = max(1.0, float(np.abs(wanted).max(initial=0)))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=steps * 6e-8 * largest)


@pytest.mark.parametrize("zero", [128, 16, 24])
@pytest.mark.parametrize("width", [16, 48, 1024])
def test_quantized_rows_are_the_twins(isa: str, width: int, zero: int) -> None:
    x = some((7, width), seed=width, scale=3)
    x[1] = 0
    x[2, 5] = 1e30
    x[3] *= 1e-20
    if zero != 128:
        x = np.maximum(x, np.float32(-0.16997))
    rows, scale = door.quantize(isa, x, zero)
    wanted, wanted_scale = twin.quantize(x, zero)
    np.testing.assert_array_equal(scale, wanted_scale.astype(np.float32))
    # a quotient within one rounding of a tie may fall either way
    quotient = x.astype(np.float64) / scale
    tie = np.abs(np.abs(quotient - np.trunc(quotient)) - 0.5) < 2e-5
    np.testing.assert_array_equal(rows[~tie], wanted[~tie])
    assert not tie.any() or np.abs(rows - wanted)[tie].max() <= 1


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("zero", [128, 16, 24])
def test_a_row_with_nan_or_infinity_gets_such_a_scale(isa: str, bad: float, zero: int) -> None:
    x = some((3, 64), seed=1)
    x[1, 17] = bad
    _, scale = door.quantize(isa, x, zero)
    assert np.isfinite(scale).ravel().tolist() == [True, False, True]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("columns", COLUMNS)
def test_products_of_all_tiles_and_tails(isa: str, rows: int, columns: int) -> None:
    for k in DEPTHS:
        x = some((rows, k), seed=rows)
        weight, scale, bias = int8_weight(k, columns, seed=k)
        got, _, _ = door.product(isa, x, weight, scale, bias)
        close(got, twin.product(x, 128, weight, scale) + bias)


@pytest.mark.parametrize("zero", [128, 24])
@pytest.mark.parametrize("epilogue", [door.STORE, door.ACTIVATE, door.RESIDUAL])
@pytest.mark.parametrize(
    "sets", [("amx", "avx512bf16", "avx512vnni"), ("avxvnni", "avx2")], ids=["64 bytes", "32 bytes"]
)
def test_sets_with_the_same_vectors_give_the_same_bits(
    native_isas: dict[str, bool], sets: tuple[str, ...], zero: int, epilogue: int
) -> None:
    """Sums of int8 are exact, however they were made; what follows on them is the same code."""
    here = [name for name in sets if native_isas.get(name, False)]
    if len(here) < 2:
        pytest.skip(f"this machine or build has {' and '.join(here) or 'none'} of {', '.join(sets)}")
    for rows, k, n in ((1, 16, 16), (5, 1504, 144), (16, 64, 80), (37, 384, 208), (70, 1040, 64)):
        x, before, restore = np.maximum(some((rows, k), 1), np.float32(-0.16)), some((rows, n), 2), some((n,), 3)
        weight, scale, bias = int8_weight(k, n, 4)
        options = {"zero": zero, "epilogue": epilogue, "activation": door.GELU_ERF, "out": before, "restore": restore}
        got = [door.product(isa, x, weight, scale, bias, **options)[0] for isa in here]
        for one in got[1:]:
            np.testing.assert_array_equal(one, got[0])


@pytest.mark.parametrize("zero", [128, 16, 24])
def test_saturated_rows_and_weights_are_summed_exactly(isa: str, zero: int) -> None:
    """255 times -128 and 127, K = 4096: a kernel that saturates 16-bit sums fails here."""
    k, n = 4096, 16
    x = np.ones((2, k), np.float32)
    x[1, ::2] = -1
    if zero != 128:
        x = np.where(x > 0, np.float32(5), np.float32(-0.17))
    weight = np.full((k, n), -128, np.int8)
    weight[:, 1::2] = 127
    weight[::2, 2] = 127
    scale, bias = np.ones(n, np.float32), np.zeros(n, np.float32)
    got, _, _ = door.product(isa, x, weight, scale, bias, zero=zero)
    rows, row_scale = twin.quantize(x, zero)
    whole = (rows @ weight.astype(np.int64)).astype(np.float32)
    np.testing.assert_allclose(got, whole * row_scale, rtol=3e-7)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(zero=st.sampled_from([128, 1, 24, 61, 127]), share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_large_neighbours_are_quantized_and_summed_exactly(
    native_isas: dict[str, bool], zero: int, share: float, seed: int
) -> None:
    """Two of them saturate 16 bits for some weights; a share of the row, from none to all, is as far out as may be."""
    rng = np.random.default_rng(seed)
    high = 255 - zero
    low = max(-zero, -high)
    far = np.concatenate([rng.integers(low, high + 1, 4), [low, low + 1, high - 1, high, 63, 64, 65, -64, -65]])
    x = np.where(rng.random((7, 96)) < share, rng.choice(far, (7, 96)), rng.integers(-2, 3, (7, 96)))
    x = np.clip(x, low, high)
    x[:, 50] = high  # so that a step is 1
    weight = rng.choice(np.array([-128, -127, -1, 0, 1, 126, 127], np.int8), (96, 32))
    one, none = np.ones(32, np.float32), np.zeros(32, np.float32)
    for isa in [name for name, available in native_isas.items() if available]:
        rows, scale = door.quantize(isa, x.astype(np.float32), zero)
        np.testing.assert_array_equal(rows, x)
        got, _, _ = door.product(isa, x.astype(np.float32), weight, one, none, zero=zero)
        np.testing.assert_array_equal(got, (x @ weight.astype(np.int64)).astype(np.float32) * scale)


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_epilogues(isa: str, kind: str) -> None:
    rows, k, n = 7, 64, 80
    x, before, restore = some((rows, k), 1), some((rows, n), 2), some((n,), 3)
    weight: NDArray = some((k, n), 4)
    scale, bias = None, some((n,), 5)
    if kind == "int8":
        weight, scale, bias = int8_weight(k, n, 4)
    value = twin.product(x, 128, weight, scale)
    got, _, _ = door.product(isa, x, weight, scale, bias)
    close(got, value + bias, 64)
    got, _, _ = door.product(isa, x, weight, scale, bias, epilogue=door.RESIDUAL, out=before, restore=restore)
    close(got, value + bias + before * restore, 64)
    got, _, _ = door.product(isa, x, weight, scale, bias, epilogue=door.ACCUMULATE, out=before)
    close(got, value + before, 64)


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        (door.GELU_ERF, twin.gelu_erf),
        (door.GELU_TANH, twin.gelu_tanh),
        (door.RELU, twin.relu),
        (door.SILU, twin.silu),
        (door.QUICK_GELU, twin.quick_gelu),
    ],
)
def test_activations(isa: str, kind: int, function) -> None:
    """Over the whole range, through a float32 product with the identity; the last 16 columns go to the few."""
    x = np.concatenate([np.linspace(-9, 9, 16 * 500), np.linspace(-300, 300, 160), np.zeros(16)]).astype(np.float32)
    x = x.reshape(-1, 16)
    x = np.concatenate([x, x[::-1]], axis=1)
    got, few, _ = door.product(
        isa, x, np.eye(32, dtype=np.float32), None, np.zeros(32, np.float32),
        epilogue=door.ACTIVATE, activation=kind, main=16,
    )  # fmt: skip
    both = np.concatenate([got, few], axis=1)
    # 3e-7 of the argument: a few roundings of erf or tanh, times x
    error = np.abs(both - function(x.astype(np.float64))) / np.maximum(1, np.abs(x))
    assert error.max() < 3e-7, (error.max(), x.ravel()[error.argmax()])


def test_layer_norm(isa: str) -> None:
    for width in (16, 48, 384, 1024):
        x, gamma, beta = some((5, width), 1, 4), some((width,), 2), some((width,), 3)
        x[1] = 0
        x[2] += 100
        x[3, 7] = 1e4
        got = door.norm(isa, door.LAYER, x, gamma, beta, 1e-5)
        close(got, twin.layer_norm(x.astype(np.float64), gamma, beta, 1e-5), 400)  # row 2 loses 7 bits to its mean


def test_layer_norm_keeps_nan(isa: str) -> None:
    x = some((3, 64), 1)
    x[1, 3] = np.nan
    got = door.norm(isa, door.LAYER, x, np.ones(64, np.float32), np.zeros(64, np.float32), 1e-5)
    assert np.isnan(got).all(axis=1).tolist() == [False, True, False]


def close_attention(
    isa: str, q: NDArray[np.float32], k: NDArray[np.float32], v: NDArray[np.float32], steps: float
) -> None:
    """A weight in bfloat16 within 1e-4 of a tie may be rounded either way: up to 2^-8 of the result."""
    narrow = isa in door.NARROW
    wanted = twin.attention(q.astype(np.float64), k, v, narrow)
    close(door.attention(isa, q, k, v), wanted, 2**-8 / 6e-8 if narrow else steps)


@pytest.mark.parametrize("head_size", [32, 48, 64, 80, 112, 128])
def test_attention_of_all_lengths(isa: str, head_size: int) -> None:
    for n in (1, 5, 6, 7, 15, 16, 17, 33, 63, 64, 65, 130):
        q, k, v = (some((n, head_size), seed) for seed in (n, n + 1, n + 2))
        close_attention(isa, q, k, v, 64)


@pytest.mark.parametrize("n", [1, 16, 31, 64, 200])
@pytest.mark.parametrize("isa", door.NARROW)
def test_attention_in_bfloat16_is_the_twins_on_average(native_isas: dict[str, bool], isa: str, n: int) -> None:
    """What is left between the two, a few roundings to the other side, is far below what bfloat16 itself costs."""
    if not native_isas.get(isa, False):
        pytest.skip(f"this machine or build has no {isa}")
    q, k, v = (some((n, 64), seed) for seed in (1, 2, 3))
    exact, narrow = (twin.attention(q.astype(np.float64), k, v, one) for one in (False, True))
    ours = door.attention(isa, q, k, v)
    assert np.abs(ours - narrow).mean() < 0.2 * np.abs(narrow - exact).mean()


def test_attention_of_some_rows_has_the_bits_of_all(isa: str) -> None:
    q, k, v = (some((40, 64), seed) for seed in (1, 2, 3))
    whole = door.attention(isa, q, k, v)
    for first, last in ((0, 1), (6, 12), (7, 9), (39, 40), (1, 40)):
        np.testing.assert_array_equal(door.attention(isa, q, k, v, first, last), whole[first:last])


def test_attention_with_far_scores(isa: str) -> None:
    """Scores hundreds apart: one key takes all, and nothing overflows."""
    q, k, v = (some((20, 32), seed, 30) for seed in (1, 2, 3))
    close_attention(isa, q, k, v, 5000)  # exp doubles score errors


def test_attention_passes_nan_on(isa: str) -> None:
    q, k, v = (some((9, 32), seed) for seed in (1, 2, 3))
    q[4, 0] = np.nan
    assert np.isnan(door.attention(isa, q, k, v)).all(axis=1).tolist() == [i == 4 for i in range(9)]
    q[4, 0], v[2, 1] = 0, np.nan
    assert np.isnan(door.attention(isa, q, k, v)[:, 1]).all()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 20), k=st.integers(1, 12), n=st.integers(1, 12), zero=st.sampled_from([128, 16, 24]),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_rows_bits_do_not_depend_on_its_neighbours(
    native_isas: dict[str, bool], rows: int, k: int, n: int, zero: int, seed: int
) -> None:
    for isa in [name for name, available in native_isas.items() if available]:
        x = some((rows, 16 * k), seed)
        if zero != 128:
            x = np.maximum(x, np.float32(-0.16))
        weight, scale, bias = int8_weight(16 * k, 16 * n, seed)
        options = {"zero": zero, "epilogue": door.ACTIVATE, "activation": door.GELU_ERF}
        together, _, _ = door.product(isa, x, weight, scale, bias, **options)
        alone = [door.product(isa, x[i : i + 1], weight, scale, bias, **options)[0] for i in range(rows)]
        np.testing.assert_array_equal(np.concatenate(alone), together)


def test_the_door_refuses_what_the_kernels_do_not_take(native_isas: dict[str, bool]) -> None:
    with pytest.raises(door.KernelError, match="no instruction set is called 'sse9'; there are auto"):
        door.quantize("sse9", some((1, 16), 1), 128)
    with pytest.raises(door.KernelError, match="multiples of 16"):
        door.quantize("portable", some((1, 20), 1), 128)


def test_rms_norm(isa: str) -> None:
    for width in (16, 48, 384, 1024):
        x, gamma, beta = some((5, width), 1, 4), some((width,), 2), some((width,), 3)
        x[1] = 0
        x[3, 7] = 1e4
        got = door.norm(isa, door.RMS, x, gamma, beta, 1e-5)
        close(got, twin.rms_norm(x.astype(np.float64), gamma, beta, 1e-5))
        x[2, 3] = np.nan
        got = door.norm(isa, door.RMS, x, gamma, beta, 1e-5)
        assert np.isnan(got).all(axis=1).tolist() == [i == 2 for i in range(5)]


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("width", "pairs"), [(64, 32), (64, 8), (80, 40), (256, 128), (48, 1), (48, 17)])
def test_rotation(native_isas: dict[str, bool], width: int, pairs: int, interleaved: bool) -> None:
    """Each number by itself, so that all instruction sets give the same bits."""
    x, angles = some((7, width), 1), some((7, pairs), 2, 100).astype(np.float64)
    turn = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    isas = [name for name, available in native_isas.items() if available]
    turned = [door.rotate(isa, x, turn, interleaved=interleaved) for isa in isas]
    close(turned[0], twin.rotate(x, turn, interleaved=interleaved), 8)
    for one in turned:
        np.testing.assert_array_equal(one, turned[0])
        np.testing.assert_array_equal(one[:, 2 * pairs :], x[:, 2 * pairs :])


@pytest.mark.parametrize("kind", ["int8", "float32"])
@pytest.mark.parametrize("rows", ROWS)
def test_gates_of_all_tiles_and_tails(isa: str, kind: str, rows: int) -> None:
    """Half a panel is 8 or 32 columns."""
    k = 48
    for columns in (16, 32, 48, 80, 112):
        x, main = some((rows, k), rows), columns if columns < 48 else columns - 16
        weight: NDArray = some((k, 2 * columns), 4)
        scale, bias = None, some((2 * columns,), 5)
        if kind == "int8":
            weight, scale, bias = int8_weight(k, 2 * columns, 4)
        value = twin.product(x, 128, weight, scale) + bias
        wanted = twin.silu(value[:, :columns]) * value[:, columns:]
        got, few, _ = door.product(
            isa, x, weight, scale, bias, epilogue=door.GATE, activation=door.SILU, main=main
        )  # fmt: skip
        close(np.concatenate([got, few], axis=1), wanted, 64)


def seen_keys(n: int, before: int, after: int) -> NDArray[np.bool_]:
    far = np.arange(n)[None] - np.arange(n)[:, None]
    return (far >= -before) & (far <= after)


def biases(heads: int, n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """By distance (heads, 2 n - 1), and as the scores get them (heads, n, n)."""
    table = some((heads, 2 * n - 1), seed)
    return table, table[:, np.arange(n)[None] - np.arange(n)[:, None] + n - 1]


@pytest.mark.parametrize(("before", "after"), [(door.FAR, 0), (0, 0), (3, 3), (64, 64), (63, 0), (17, 200)])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_to_some_keys(isa: str, before: int, after: int, biased: bool) -> None:
    """Causal, windows shorter and longer than panels; of several heads that share keys."""
    heads, size = 2, 48
    for n in (1, 6, 7, 16, 17, 64, 65, 150):
        q, k, v = some((n, heads, size), n), some((n, size), n + 1), some((n, size), n + 2)
        table, wanted_bias = biases(heads, n, 3) if biased else (None, [None] * heads)
        got = door.attention(isa, q, k, v, before=before, after=after, bias=table, scale=0.1)
        narrow, factor = isa in door.NARROW, float(np.log2(np.e)) * 0.1
        for h in range(heads):
            wanted = twin.attention(
                q[:, h].astype(np.float64), k, v, narrow,
                factor=factor, bias=wanted_bias[h], seen=seen_keys(n, before, after),
            )  # fmt: skip
            close(got[:, h], wanted, 2**-8 / 6e-8 if narrow else 64)


@pytest.mark.parametrize(("before", "after"), [(door.FAR, 0), (9, 9), (70, 0), (door.FAR, door.FAR)])
def test_bits_of_a_query_do_not_depend_on_those_beside_it(isa: str, before: int, after: int) -> None:
    """Nor on where the keys begin that were packed for them."""
    n = 200
    q, k, v = (some((n, 64), seed) for seed in (1, 2, 3))
    table, _ = biases(1, n, 4)
    whole = door.attention(isa, q, k, v, before=before, after=after, bias=table)
    for first, last in ((0, 1), (6, 12), (7, 9), (63, 66), (131, 200), (199, 200)):
        part = door.attention(isa, q, k, v, first, last, before=before, after=after, bias=table)
        np.testing.assert_array_equal(part, whole[first:last])


def test_keys_that_are_not_seen_do_nothing(isa: str) -> None:
    """What comes behind a token leaves a causal text's bits as they are, and so does where the text ends."""
    q, k, v = (some((90, 64), seed, 3) for seed in (1, 2, 3))
    causal = door.attention(isa, q, k, v, after=0)
    np.testing.assert_array_equal(door.attention(isa, q[:70], k[:70], v[:70], after=0), causal[:70])
    changed_k, changed_v = k.copy(), v.copy()
    changed_k[70:], changed_v[70:] = 50, -50
    np.testing.assert_array_equal(door.attention(isa, q, changed_k, changed_v, after=0)[:70], causal[:70])


@pytest.mark.parametrize("head_size", [160, 256])
def test_wide_heads(isa: str, head_size: int) -> None:
    for n in (1, 7, 65):
        q, k, v = (some((n, head_size), seed) for seed in (n, n + 1, n + 2))
        close_attention(isa, q, k, v, 64)
