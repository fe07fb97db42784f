from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embedrt.parity.gates import COLLAPSED_MEAN_COSINE, INVARIANCE_MIN_COSINE, find_failures, gate_set, with_reserve
from embedrt.parity.invariance import Invariance
from embedrt.parity.metrics import Deviation, Spread

PERFECT = Deviation(
    num_texts=200,
    cosine=Spread(1, 1, 1),
    centered=Spread(1, 1, 1),
    max_abs_diff=0,
    max_norm_error=0,
    spearman=1,
    top10_overlap=1,
)
STEADY = Invariance("alone", 200, 1.0, 0, 0.0, 0)


def with_metric(metric: str, value: float) -> Deviation:
    group, _, part = metric.partition("_")
    if group == "cosine":
        return replace(PERFECT, cosine=replace(PERFECT.cosine, **{part: value}))
    if group == "centered":
        return replace(PERFECT, centered=Spread(1, 1, value))
    return replace(PERFECT, **{metric: value})


# variant, mean pairwise cosine of the reference, metric, limit, whether the limit itself passes, direction of worse
LIMITS = [
    ("fp32", 0.3, "cosine_min", 0.999999, True, -np.inf),
    ("fp32", 0.3, "max_abs_diff", 1e-5, True, np.inf),
    ("fp32", 0.3, "max_norm_error", 1e-3, True, np.inf),
    ("fp16", 0.3, "cosine_min", 0.9999, True, -np.inf),
    ("fp16", 0.3, "max_norm_error", 0.02, True, np.inf),
    ("int8", 0.3, "cosine_min", 0.996, True, -np.inf),
    ("int8", 0.3, "cosine_mean", 0.9993, True, -np.inf),
    ("int8", 0.3, "spearman", 0.999, False, -np.inf),
    ("int8", 0.3, "max_norm_error", 0.1, True, np.inf),
    ("int8", 0.99, "cosine_min", 0.996, True, -np.inf),
    ("int8", 0.99, "cosine_mean", 0.9993, True, -np.inf),
    ("int8", 0.99, "centered_min", 0.99, True, -np.inf),
]


@pytest.mark.parametrize(("variant", "pairwise", "metric", "limit", "inclusive", "worse"), LIMITS)
def test_at_just_above_and_just_below(
    variant: str, pairwise: float, metric: str, limit: float, inclusive: bool, worse: float
) -> None:
    gates = gate_set(variant, pairwise)
    better = np.nextafter(limit, -worse)
    assert find_failures(variant, gates, with_metric(metric, float(better))) == ()
    assert bool(find_failures(variant, gates, with_metric(metric, limit))) is not inclusive
    (sentence,) = find_failures(variant, gates, with_metric(metric, float(np.nextafter(limit, worse))))
    assert sentence.startswith(f"{variant}: ")
    assert f"{limit:g}" in sentence


def test_a_perfect_variant_fails_nothing() -> None:
    for variant in ("fp32", "fp16", "int8"):
        for pairwise in (0.3, 0.99):
            assert find_failures(variant, gate_set(variant, pairwise), PERFECT, [STEADY]) == ()


def test_the_sentence_has_limit_and_value() -> None:
    (sentence,) = find_failures("int8", gate_set("int8", 0.3), with_metric("cosine_min", 0.99312))
    assert sentence == "int8: smallest cosine is 0.99312, it must be >= 0.996"


def test_every_gate_missed_is_named() -> None:
    bad = Deviation(200, Spread(0.5, 0.5, 0.5), Spread(0, 0, 0), 1, 1, 0.5, 0.1)
    for variant, count in (("fp32", 3), ("fp16", 2), ("int8", 4)):
        assert len(find_failures(variant, gate_set(variant, 0.3), bad)) == count


def test_collapsed_references_judge_centered_cosines_and_not_ranks() -> None:
    just, over = COLLAPSED_MEAN_COSINE, float(np.nextafter(COLLAPSED_MEAN_COSINE, 1))
    spread, collapsed = gate_set("int8", just), gate_set("int8", over)
    assert (spread.name, collapsed.name) == ("spread", "collapsed")
    shuffled = with_metric("spearman", 0.2)
    assert find_failures("int8", spread, shuffled)
    assert not find_failures("int8", collapsed, shuffled)
    tilted = with_metric("centered_min", 0.9)
    assert not find_failures("int8", spread, tilted)
    assert find_failures("int8", collapsed, tilted)
    assert "0.950" in spread.reason
    assert "collapsed" in collapsed.reason


def test_a_reserve_is_held_back_from_what_a_gate_allows() -> None:
    whole = gate_set("int8", 0.3)
    kept = {gate.metric: gate.limit for gate in with_reserve(whole, 0.25).gates}
    assert kept == pytest.approx(
        {"cosine_min": 0.997, "cosine_mean": 0.999475, "max_norm_error": 0.075, "spearman": 0.99925}, abs=1e-12
    )
    assert with_reserve(whole, 0) == whole
    assert {gate.limit for gate in with_reserve(whole, 1).gates} == {0, 1}
    between = with_metric("cosine_min", 0.9965)
    assert not find_failures("int8", whole, between)
    assert find_failures("int8", with_reserve(whole, 0.25), between)


def test_metrics_that_could_not_be_measured_fail_nothing() -> None:
    few = replace(PERFECT, spearman=None, centered=None, top10_overlap=None)
    assert find_failures("int8", gate_set("int8", 0.3), few) == ()
    assert find_failures("int8", gate_set("int8", 0.99), few) == ()


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_invariance_limit_is_exclusive(variant: str) -> None:
    gates = gate_set(variant, 0.3)
    just_over = replace(STEADY, cosine_min=float(np.nextafter(INVARIANCE_MIN_COSINE, 1)))
    assert find_failures(variant, gates, PERFECT, [just_over]) == ()
    at_limit = replace(STEADY, name="in a batch", cosine_min=INVARIANCE_MIN_COSINE, cosine_min_text=17)
    (sentence,) = find_failures(variant, gates, PERFECT, [STEADY, at_limit])
    assert "text 17 embedded in a batch" in sentence
    assert str(INVARIANCE_MIN_COSINE) in sentence
