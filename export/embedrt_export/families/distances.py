"""Biases by distance: T5's and MPNet's buckets written out, and ALiBi's slopes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt_export.families.sources import Array


def by_distance(num_buckets: int, largest: int) -> Callable[[Array], Array]:
    """What writes a table (buckets, heads) out as (heads, 2 D + 1) for the distances -D to D, D = `largest`."""
    buckets = bucket_of(np.arange(-largest, largest + 1), num_buckets, largest)
    return lambda tensor: tensor[buckets].T


def bucket_of(distance: NDArray[Any], num_buckets: int, largest: int) -> NDArray[np.int64]:
    """Bucket of a distance, key minus query (Raffel et al., 2019, arXiv:1910.10683): one each for the near ones, then
    wider ones by the logarithm, half of them for keys that follow.

    In float32, as PyTorch computes it: the bounds of buckets are whole numbers, where the last bit decides.
    """
    half = num_buckets // 2
    exact = half // 2
    far = np.abs(distance)
    ratio = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact))
    wide = exact + (ratio / np.float32(math.log(largest / exact)) * np.float32(half - exact)).astype(np.int64)
    bucket: NDArray[np.int64] = np.where(far < exact, far, np.minimum(wide, half - 1)) + half * (distance > 0)
    return bucket


def alibi_slopes(num_heads: int) -> Array:
    """Slopes (heads,) of ALiBi (Press et al., 2021, arXiv:2108.12409): 2 ** (-8 h / heads) for h from 1, and where the
    heads are no power of two, those of the power below, then every second one of the power above."""
    power = 1 << (num_heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
    slopes += [2.0 ** (-8 * (2 * h + 1) / (2 * power)) for h in range(num_heads - power)]
    return np.asarray(slopes, np.float32)
