from __future__ import annotations

import numpy as np
import pytest

from embedrt.evaluation.estimate import difference, draws, estimate, mean_of


def test_a_mean_has_the_interval_of_its_standard_error() -> None:
    values = np.random.default_rng(0).standard_normal(400)
    found = estimate(mean_of(values), 400)
    assert found.value == pytest.approx(values.mean())
    # A normal mean's interval is 1.96 standard errors to each side; a thousand draws know it to a twentieth or so.
    error = values.std() / np.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found.low < found.value < found.high


def test_what_both_find_hard_cancels_in_a_difference() -> None:
    hard = np.random.default_rng(1).standard_normal(200)
    a, b = mean_of(hard + 0.1), mean_of(hard)
    found = difference(a, b, 200)
    assert (found.low, found.value, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_draws_are_the_same_each_time() -> None:
    first, second = (list(draws(10, 3)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert len({tuple(a) for a in first}) == 3


def test_no_items() -> None:
    found = estimate(lambda items: float(len(items)), 0)
    assert found.value == 0
    assert np.isnan(found.low)
