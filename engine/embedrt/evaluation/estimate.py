"""A score with its interval, and the difference of two scores on the same items with its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.int64]], float]
"""A score over chosen items: their numbers (n,), repeated ones counted as often, to a number."""

NUM_SAMPLES = 1000
_SEED = 20251125
_ENDS = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A value, and where it would lie for 95 of 100 draws of the same number of items (percentile bootstrap)."""

    value: float
    low: float
    high: float


def estimate(statistic: Statistic, num_items: int, num_samples: int = NUM_SAMPLES) -> Estimate:
    """The statistic over all items, with its interval (Efron and Tibshirani, 1993, chapter 13; seeded)."""
    drawn = [statistic(items) for items in draws(num_items, num_samples)]
    low, high = np.percentile(drawn, _ENDS) if drawn else (np.nan, np.nan)
    return Estimate(statistic(np.arange(num_items)), float(low), float(high))


def difference(a: Statistic, b: Statistic, num_items: int, num_samples: int = NUM_SAMPLES) -> Estimate:
    """How much `a` is above `b` on the same items. Each draw takes both, so what both find hard cancels."""
    return estimate(lambda items: a(items) - b(items), num_items, num_samples)


def mean_of(values: NDArray[np.float64]) -> Statistic:
    """The mean of one value per item (N,)."""
    return lambda items: float(values[items].mean())


def draws(num_items: int, num_samples: int) -> Iterator[NDArray[np.int64]]:
    """Items drawn with repetition, as many as there are; the same draws for the same number of items."""
    rng = np.random.default_rng(_SEED)
    return (rng.integers(0, num_items, num_items) for _ in range(num_samples if num_items else 0))
