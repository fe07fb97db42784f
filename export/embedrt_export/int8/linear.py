"""One product: smoothing and shift folded in, weights rounded, and the numpy twin of what the graph then computes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedrt_export.int8.calibration import InputStats
from embedrt_export.int8.recipe import Int8Recipe
from embedrt_export.int8.smoothing import few_threads, optimize_fold
from embedrt_export.int8.weights import Int8Weight, quantize_weight

Array = NDArray[np.float32]

TINY = np.float32(1e-30)  # the smallest row maximum: an all-zero row is divided by it, not by zero
CENTRE = 128  # zero point of values of both signs
ACTIVATION_LOW = np.float32(-0.17)  # gelu is over -0.16998 everywhere

_FLOOR = 1e-5  # of a channel's range, so that a dead channel gets a finite scale


@dataclass(frozen=True)
class Fold:
    """x = z * scale + shift, per channel: the product reads z, and its weight and bias take the rest exactly."""

    scale: Array  # (K,)
    shift: Array  # (K,)

    @staticmethod
    def identity(width: int) -> Fold:
        """z = x."""
        return Fold(np.ones(width, np.float32), np.zeros(width, np.float32))


@dataclass(frozen=True)
class Linear:
    """y = z @ weight + bias, with the fold already in weight and bias, and its int8 weight."""

    weight: Array  # (K, N)
    float_bias: Array  # (N,)
    quantized: Int8Weight
    bias: Array  # (N,), float_bias and the mean error of the rounded weight


def choose_fold(stats: InputStats, weights: list[Array], recipe: Int8Recipe, importance: Array | None = None) -> Fold:
    """SmoothQuant's scale over all the weights that read the value, and the middle of each channel's range.

    `importance` (N,) says how much an error of each of their columns matters, relative to the others; default alike.

    Xiao et al., 2022 (arXiv:2211.10438); the shift is Outlier Suppression+'s (Wei et al., 2023, arXiv:2304.09145).
    """
    width = len(stats.low)
    shift = (stats.low + stats.high) / 2 if recipe.shift else np.zeros(width, np.float32)
    if not recipe.smoothing:
        return Fold(np.ones(width, np.float32), shift.astype(np.float32))
    reach = np.maximum(np.maximum(stats.high - shift, shift - stats.low), _FLOOR)
    strength = np.maximum(np.max([np.abs(w).max(axis=1) for w in weights], axis=0), _FLOOR)
    scale = reach**recipe.smoothing / strength ** (1 - recipe.smoothing)
    scale, shift = scale.astype(np.float32), shift.astype(np.float32)
    if recipe.optimize:
        weight = np.concatenate(weights, axis=1)
        if importance is not None:
            weight = weight * importance
        ratio, fixed = recipe.weight_ratio, not recipe.shift
        with few_threads(weight.size):
            scale, shift = optimize_fold(stats.sample, weight, scale, shift, ratio=ratio, fixed_shift=fixed)
    return Fold(scale, shift)


def make_linear(weight: Array, bias: Array, fold: Fold, stats: InputStats, recipe: Int8Recipe) -> Linear:
    """Fold, round, and correct the bias. weight (K, N), bias (N,)."""
    folded = weight * fold.scale[:, None]
    bias = (bias + fold.shift.astype(np.float64) @ weight).astype(np.float32)
    covariance = stats.covariance(fold.scale) if recipe.gptq else None
    with few_threads(folded.size):
        quantized = quantize_weight(folded, covariance, recipe.gptq_damping)
    corrected = bias
    if recipe.bias_correction:
        mean = (stats.mean - fold.shift) / fold.scale
        corrected = (bias + mean @ (folded - quantized.dequantized())).astype(np.float32)
    return Linear(folded, bias, quantized, corrected)


def activation_floor(zero: int) -> np.float32:
    """The smallest row maximum with which `ACTIVATION_LOW` is still within `zero` steps of zero."""
    return np.float32(-ACTIVATION_LOW / np.float32(zero) * np.float32(255 - zero))


def quantize_rows8(x: Array, zero: int = CENTRE) -> tuple[NDArray[np.uint8], Array]:
    """The graph's rows: u8 (T, K) around `zero` and scales (T, 1); around another than `CENTRE`, gelu's or relu's."""
    if zero == CENTRE:
        largest = np.maximum(np.abs(x).max(axis=1, keepdims=True), TINY)
    else:
        largest = np.maximum(x.max(axis=1, keepdims=True), activation_floor(zero))
    scale = (largest * np.float32(1 / (255 - zero))).astype(np.float32)
    return np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8), scale


def run_linear(x: Array, linear: Linear, zero: int = CENTRE) -> Array:
    """What the graph computes for rows z (T, K) around `zero`: float32 (T, N), bias included."""
    rows, scale = quantize_rows8(x, zero)
    # exact: the sums stay under 2^53, and numpy has no fast product of integers
    whole = (rows.astype(np.float64) - zero) @ linear.quantized.weight.astype(np.float64)
    return (scale * (whole * linear.quantized.scale) + linear.bias).astype(np.float32)


def local_error(sample: Array, fold: Fold, linear: Linear, zero: int = CENTRE) -> float:
    """Relative error of the int8 product on sample rows x (T, K): |error| / |output - its mean|."""
    z = (sample - fold.shift) / fold.scale
    exact = z @ linear.weight + linear.float_bias
    error = run_linear(z, linear, zero) - exact
    spread = np.linalg.norm(exact - exact.mean(axis=0))
    return float(np.linalg.norm(error) / max(float(spread), 1e-12))
