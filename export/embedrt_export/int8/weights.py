"""Weights to int8: one scale per output channel, rounded to nearest or by GPTQ.

GPTQ: Frantar et al., 2022 (arXiv:2210.17323), with columns in order of falling Hessian diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from embedrt.errors import ExportError

Array = NDArray[np.float32]

LEVELS = 127  # symmetric: -127..127
_BLOCK = 128
_TRIES = 4  # each with ten times the damping


@dataclass(frozen=True)
class Int8Weight:
    """weight[k, n] * scale[n] approximates the float weight (K, N)."""

    weight: NDArray[np.int8]  # (K, N)
    scale: Array  # (N,)

    def dequantized(self) -> Array:
        """The float weight (K, N) that it stands for."""
        return self.weight.astype(np.float32) * self.scale


def quantize_rows(table: Array, block: int = 1 << 14) -> tuple[NDArray[np.int8], Array]:
    """int8 (V, H) and scales (V, 1): each row of a table by its own largest magnitude."""
    out = np.empty(table.shape, np.int8)
    scales = np.empty((len(table), 1), np.float32)
    for start in range(0, len(table), block):
        rows = table[start : start + block]
        scale = _safe(np.abs(rows).max(axis=1, keepdims=True) / LEVELS)
        out[start : start + block] = np.rint(rows / scale)
        scales[start : start + block] = scale
    return out, scales


def quantize_weight(weight: Array, covariance: Array | None = None, damping: float = 0.01) -> Int8Weight:
    """A weight (K, N) as int8 per column; by GPTQ if the inputs' covariance (K, K) is given."""
    scale = _safe(np.abs(weight).max(axis=0) / LEVELS)
    if covariance is None:
        return Int8Weight(np.rint(weight / scale).astype(np.int8), scale)
    return Int8Weight(_gptq(weight, scale, covariance, damping), scale)


def _safe(scale: Array) -> Array:
    """All-zero rows and columns get a scale of 1: they stay zero, and nothing is divided by zero."""
    return np.where(scale > 0, scale, 1).astype(np.float32)


def _factor(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """Its Cholesky factor, with a share of its mean diagonal added: more where float32 left it indefinite.

    Raises:
        ExportError: it is not finite.
    """
    added = max(float(hessian.diagonal().mean()) * damping, 1e-12)
    for _ in range(_TRIES):
        hessian.diagonal().add_(added)
        lower, failed = torch.linalg.cholesky_ex(hessian)
        if not failed:
            return lower
        added *= 10
    raise ExportError("int8: what a product reads of the calibration texts is not finite")


def _gptq(weight: Array, scale: Array, covariance: Array, damping: float) -> NDArray[np.int8]:
    hessian = torch.from_numpy(np.array(covariance, np.float32))
    diagonal = hessian.diagonal().clone()
    order = torch.argsort(diagonal, descending=True)
    hessian = hessian[order][:, order]
    upper = torch.linalg.cholesky(torch.cholesky_inverse(_factor(hessian, damping)), upper=True)
    # work in units of the scale, so that rounding is rint
    w = (torch.from_numpy(np.array(weight)) / torch.from_numpy(scale))[order]  # (K, N)
    q = torch.empty_like(w)
    for start in range(0, len(w), _BLOCK):
        stop = min(start + _BLOCK, len(w))
        errors = torch.zeros(stop - start, w.shape[1])
        for row in range(start, stop):
            q[row] = w[row].round().clamp_(-LEVELS, LEVELS)
            errors[row - start] = (w[row] - q[row]) / upper[row, row]
            w[row + 1 : stop] -= torch.outer(upper[row, row + 1 : stop], errors[row - start])
        w[stop:] -= upper[start:stop, stop:].T @ errors
    out = torch.empty_like(q)
    out[order] = q
    rounded: NDArray[np.int8] = out.to(torch.int8).numpy()
    return rounded
