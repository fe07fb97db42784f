"""Choosing a fold by the error that it leaves.

With rows x (T, K), weight W (K, N), z = (x - c) / s and W' = s * W, rounding costs about

    E_t[max_k |z_tk|^2] * sum_kn W'_kn^2  +  ratio * sum_n max_k |W'_kn|^2 * E_t[sum_k z_tk^2]

(steps of both, squared, over the same 12 * 127^2). The first term is the activations', the second the weights'; `ratio`
is under 1 because GPTQ lets later rows compensate. SmoothQuant's formula is the starting point, and Adam does the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float32]

_SMALL = 1 << 21  # weights; under this, threads cost more than they give
_STEPS = 80
_RATE = 0.08
_LEAST_IMPORTANCE = 0.01  # a neuron that calibration never woke may wake in use


@contextlib.contextmanager
def few_threads(weights: int) -> Iterator[None]:
    """One thread for torch while a small weight is worked on: its many short steps would spend their time at barriers,
    above all where other processes use the cores too (20 times slower, measured)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if weights < _SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def optimize_fold(
    rows: Array, weight: Array, scale: Array, shift: Array, *, ratio: float, fixed_shift: bool
) -> tuple[Array, Array]:
    """Better (scale, shift), each (K,), for sample rows (T, K) and a weight (K, N)."""
    x, w = torch.from_numpy(rows), torch.from_numpy(np.array(weight)).abs()
    energy = w.square().sum(dim=1)  # (K,)
    columns_of = np.ascontiguousarray(w.numpy().T)  # (N, K)
    mean, variance = x.mean(dim=0), x.var(dim=0, correction=0)
    spread = variance.sqrt() + 1e-6
    every_row, every_column = torch.arange(len(x)), torch.arange(w.shape[1])
    log_scale = torch.from_numpy(np.log(scale)).requires_grad_()
    offset = torch.zeros_like(log_scale).requires_grad_()  # in units of the channel's spread
    start = torch.from_numpy(shift)
    parameters = [log_scale] if fixed_shift else [log_scale, offset]
    optimizer = torch.optim.Adam(parameters, lr=_RATE)
    best = (float("inf"), scale, shift)
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / _STEPS)
        s = log_scale.exp()
        c = start + offset * spread
        with torch.no_grad():  # where the maxima are; only their places are differentiated (4 times faster)
            # numpy's argmax along what lies together: torch's takes 10 times as long
            row_top = torch.from_numpy(((x - c) / s).abs_().numpy().argmax(axis=1))  # (T,)
            column_top = torch.from_numpy((columns_of * s.numpy()).argmax(axis=1))  # (N,)
        peaks = ((x[every_row, row_top] - c[row_top]) / s[row_top]).square().mean()
        columns = (w[column_top, every_column] * s[column_top]).square().sum()
        power = ((variance + (mean - c).square()) / s.square()).sum()  # of z, per row
        cost = peaks * (energy * s.square()).sum() + ratio * columns * power
        loss = cost.log()
        if loss.item() < best[0]:
            best = (loss.item(), s.detach().numpy().copy(), c.detach().numpy().copy())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return best[1], best[2]


def neuron_importance(inputs: Array, down: Array, approximate: str | None) -> Array:
    """What an error of each neuron's input (T, F) does to the FFN's output, root mean square, relative to the others.

    The slope of the activation there, times the norm of the neuron's row of the second weight (F, H): (F,), around 1.
    `approximate` is gelu's, None for relu.
    """
    u = torch.from_numpy(inputs).requires_grad_()
    activated = torch.relu(u) if approximate is None else torch.nn.functional.gelu(u, approximate=approximate)
    activated.sum().backward()
    assert u.grad is not None
    reach = u.grad.square().mean(dim=0).sqrt().numpy() * np.linalg.norm(down, axis=1)
    out: Array = np.maximum(reach / max(float(reach.mean()), 1e-12), _LEAST_IMPORTANCE).astype(np.float32)
    return out


def stretching_channels(rows: Array, count: int) -> NDArray[np.int64]:
    """The `count` channels without which the rows' largest magnitudes shrink most, relative to each row's norm.

    Greedy: each step takes away the channel whose removal lowers sum_t (max_k |x_tk| / |x_t|)^2 most.
    """
    share = np.square(rows) / np.maximum(np.square(rows).sum(axis=1, keepdims=True), 1e-12)
    everyone = np.arange(len(rows))
    chosen: list[int] = []
    for _ in range(count):
        top = share.argmax(axis=1)
        first = share[everyone, top]
        share[everyone, top] = 0
        gain = np.bincount(top, first - share.max(axis=1), share.shape[1])
        share[everyone, top] = first
        best = int(gain.argmax())
        share[:, best] = 0
        chosen.append(best)
    return np.array(sorted(chosen), np.int64)
