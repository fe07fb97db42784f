"""Single kernels of the native module, by instruction set, and other parts of it by themselves."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.executors.native import load_library

STORE, ACTIVATE, RESIDUAL, ACCUMULATE, _, GATE = range(6)
GELU_ERF, GELU_TANH, RELU, SILU, QUICK_GELU = range(5)
LAYER, RMS = 1, 2
FAR = 1 << 30  # keys that a query sees on either side: all
NARROW = ("amx", "avx512bf16")  # attention in bfloat16: roundings of it flip, as those to 8 bits do

Floats = NDArray[np.float32]
_ERROR_BYTES = 256


class KernelError(Exception):
    """What the module said."""


def _call(name: str, *arguments: Any) -> None:
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    code = getattr(load_library(), name)(*map(_as_c, arguments), error, ctypes.c_size_t(_ERROR_BYTES))
    if code != 0:
        raise KernelError(error.value.decode())


def _as_c(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return value.ctypes.data_as(ctypes.c_void_p)
    if isinstance(value, float):
        return ctypes.c_float(value)  # a double is given as such
    return value.encode() if isinstance(value, str) else value


def quantize(isa: str, x: Floats, zero: int) -> tuple[NDArray[np.int16], Floats]:
    """Rows without their zero point (T, K), and scales (T, 1)."""
    x = np.ascontiguousarray(x, np.float32)
    rows, scale = np.empty(x.shape, np.int16), np.empty((len(x), 1), np.float32)
    _call("embedrt_kernel_quantize", isa, x, *x.shape, zero, rows, scale)
    return rows, scale


def norm(isa: str, kind: int, x: Floats, gamma: Floats, beta: Floats, epsilon: float) -> Floats:
    """A LAYER norm or an RMS norm, over the last axis."""
    out = np.array(x, np.float32, order="C")
    _call("embedrt_kernel_norm", isa, kind, out, *out.shape, gamma, beta, epsilon)
    return out


def rotate(isa: str, x: Floats, turn: Floats, *, interleaved: bool) -> Floats:
    """Rows (T, d), each turned by its cosines and sines, turn (T, 2, F)."""
    out = np.array(x, np.float32, order="C")
    turn = np.ascontiguousarray(turn, np.float32)
    _call("embedrt_kernel_rotate", isa, out, *out.shape, turn.shape[2], int(interleaved), turn)
    return out


def product(
    isa: str,
    x: Floats,
    weight: NDArray[Any],
    scale: Floats | None,
    bias: Floats,
    *,
    zero: int = 128,
    epilogue: int = STORE,
    activation: int = RELU,
    main: int | None = None,
    out: Floats | None = None,
    restore: Floats | None = None,
    repeat: int = 1,
) -> tuple[Floats, Floats, float]:
    """The product with its epilogue, the few columns from `main` on, and the seconds of the fastest run.

    Of a GATE, the weight has the gate's columns first, then those of what it lets through.
    """
    x = np.ascontiguousarray(x, np.float32)
    (rows, k), n = x.shape, weight.shape[1]
    columns = n // 2 if epilogue == GATE else n
    main = columns if main is None else main
    result = np.full((rows, main), np.nan, np.float32) if out is None else np.array(out, np.float32)
    few = np.full((rows, columns - main), np.nan, np.float32)
    seconds = ctypes.c_double()
    _call(
        "embedrt_kernel_product", isa, x, rows, k, n, zero, np.ascontiguousarray(weight), scale, bias, restore,
        epilogue, activation, main, result, few, repeat, ctypes.byref(seconds),
    )  # fmt: skip
    return result, few, seconds.value


def attention(
    isa: str, q: Floats, k: Floats, v: Floats, first: int = 0, last: int | None = None, **seen: Any
) -> Floats:
    """For the query rows [first, last): q (n, d) of one head, or (n, heads, d) of heads that share k and v (n, d)."""
    return time_attention(isa, q, k, v, first, len(q) if last is None else last, 1, **seen)[0]


def time_attention(
    isa: str,
    q: Floats,
    k: Floats,
    v: Floats,
    first: int,
    last: int,
    repeat: int,
    *,
    scale: float | None = None,
    before: int = FAR,
    after: int = FAR,
    bias: Floats | None = None,
) -> tuple[Floats, float]:
    """The same, and the seconds of the fastest run; bias (heads, 2 n - 1) by distance."""
    n, heads, size = len(q), 1 if q.ndim == 2 else q.shape[1], q.shape[-1]
    out = np.full((last - first, *q.shape[1:]), np.nan, np.float32)
    arrays = [np.ascontiguousarray(a, np.float32) for a in (q, k, v)]
    bias = None if bias is None else np.ascontiguousarray(bias, np.float32)
    seconds, factor = ctypes.c_double(), ctypes.c_double(size**-0.5 if scale is None else scale)
    _call(
        "embedrt_kernel_attention", isa, *arrays, n, heads, size, first, last, factor, before, after, bias, out, repeat,
        ctypes.byref(seconds),
    )  # fmt: skip
    return out, seconds.value


def count_barriers(threads: int, first: int, calls: int, barriers: int) -> int:
    """How often a pool's threads came to a barrier, counting calls and barriers from `first` on."""
    count = ctypes.c_int64()
    _call("embedrt_probe_pool", threads, ctypes.c_uint32(first), calls, barriers, ctypes.byref(count))
    return count.value


def most_at_once(threads: int, available: int, callers: int, wanted: int) -> int:
    """How many of the callers ran at once, each waiting for `wanted` of them."""
    most = ctypes.c_int32()
    _call("embedrt_probe_lanes", threads, available, callers, wanted, ctypes.byref(most))
    return most.value
