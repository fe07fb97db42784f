"""Where the tensors of an encoder come from in a checkpoint, as a table: canonical name -> `Source`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def _as_is(tensor: Array) -> Array:
    return tensor


def _transposed(tensor: Array) -> Array:
    return tensor.T


@dataclass(frozen=True)
class Source:
    """One tensor: what `read` makes of the tensor with one of `names` and of those `beside` it, or `constant`, which
    follows from the config."""

    names: tuple[str, ...]
    read: Callable[..., Array] = _as_is
    constant: Array | None = None
    beside: tuple[str, ...] = ()


Sources = dict[str, Source]


def table(*names: str) -> Source:
    """A tensor as it is; several names are of one tied weight."""
    return Source(names)


def constant(values: Any) -> Source:
    """Numbers that no checkpoint holds."""
    return Source((), constant=np.asarray(values, np.float32))


def linear(to: str, name: str, *, bias: bool = True) -> Sources:
    """A product: torch keeps (N, K), the spec (K, N)."""
    out = {f"{to}.weight": Source((f"{name}.weight",), _transposed)}
    return out | ({f"{to}.bias": Source((f"{name}.bias",))} if bias else {})


def packed(parts: dict[str, int], name: str, *, bias: bool = True) -> Sources:
    """Products that lie in one weight, after each other: canonical name -> N, in the weight's order."""
    out: Sources = {}
    start = 0
    for to, size in parts.items():
        rows = slice(start, start + size)
        out[f"{to}.weight"] = Source((f"{name}.weight",), lambda tensor, rows=rows: tensor[rows].T)
        if bias:
            out[f"{to}.bias"] = Source((f"{name}.bias",), lambda tensor, rows=rows: tensor[rows])
        start += size
    return out


def norm(to: str, name: str, *, bias: bool = True) -> Sources:
    """A norm with torch's names."""
    out = {f"{to}.gamma": Source((f"{name}.weight",))}
    return out | ({f"{to}.beta": Source((f"{name}.bias",))} if bias else {})


def one_plus(to: str, name: str) -> Sources:
    """An RMS norm that scales by 1 + weight, as Gemma's."""
    return {f"{to}.gamma": Source((f"{name}.weight",), lambda tensor: 1 + tensor)}


def numbered(sources: Sources, layer: int, stored: str) -> Sources:
    """A layer's sources with their whole names, from those within it: `stored` is what comes before them."""
    return {
        f"layers.{layer}.{to}": replace(
            source,
            names=tuple(f"{stored}.{name}" for name in source.names),
            beside=tuple(f"{stored}.{name}" for name in source.beside),
        )
        for to, source in sources.items()
    }
