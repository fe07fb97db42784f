"""The limits that a variant's vectors must keep, and which of them apply to a model. Pure functions.

A model whose vectors have collapsed into one direction (randomly weighted ones do) makes raw cosines and ranks
meaningless: the cosine is near 1 whatever goes wrong, and the order of the similarities is rounding noise. There
the quantized variant is judged by the centered cosine as well, and ranks are reported but not judged.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from embedrt.parity.invariance import Invariance
from embedrt.parity.metrics import Deviation

COLLAPSED_MEAN_COSINE = 0.95  # above this mean cosine of different texts, a reference counts as collapsed
INVARIANCE_MIN_COSINE = 0.999999  # to be exceeded, by every variant


@dataclass(frozen=True)
class Gate:
    """One limit: a metric, how it is compared, and the number."""

    metric: str  # out of METRICS
    relation: str  # ">=", ">" or "<="
    limit: float


@dataclass(frozen=True)
class GateSet:
    """The gates of one variant, and why these."""

    name: str  # spread | collapsed
    reason: str
    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class Metric:
    """A number out of a Deviation."""

    label: str
    read: Callable[[Deviation], float | None]


METRICS = {
    "cosine_mean": Metric("mean cosine", lambda d: d.cosine.mean),
    "cosine_p01": Metric("1st percentile of the cosine", lambda d: d.cosine.p01),
    "cosine_min": Metric("smallest cosine", lambda d: d.cosine.min),
    "centered_mean": Metric("mean centered cosine", lambda d: d.centered.mean if d.centered else None),
    "centered_p01": Metric("1st percentile of the centered cosine", lambda d: d.centered.p01 if d.centered else None),
    "centered_min": Metric("smallest centered cosine", lambda d: d.centered.min if d.centered else None),
    "max_abs_diff": Metric("largest difference of normalized vectors", lambda d: d.max_abs_diff),
    "max_norm_error": Metric("largest relative error of a vector's length", lambda d: d.max_norm_error),
    "spearman": Metric("Spearman of pairwise similarities", lambda d: d.spearman),
    "top10_overlap": Metric("top-10 overlap", lambda d: d.top10_overlap),
}
RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
}

_HALF = (Gate("cosine_min", ">=", 0.9999), Gate("max_norm_error", "<=", 0.02))
# Lengths are judged loosely: this finds a Normalize module or a scale that was dropped or added, which no cosine sees.
_GATES: dict[str, tuple[Gate, ...]] = {
    "fp32": (
        Gate("cosine_min", ">=", 0.999999),
        Gate("max_abs_diff", "<=", 1e-5),
        Gate("max_norm_error", "<=", 1e-3),
    ),
    "fp16": _HALF,
    "bf16": _HALF,
    "int8": (
        Gate("cosine_min", ">=", 0.996),
        Gate("cosine_mean", ">=", 0.9993),
        Gate("max_norm_error", "<=", 0.1),
    ),
}
_SPREAD_ONLY = {"int8": (Gate("spearman", ">", 0.999),)}
_COLLAPSED_ONLY = {"int8": (Gate("centered_min", ">=", 0.99),)}


def gate_set(variant: str, mean_pairwise_cosine: float) -> GateSet:
    """The gates for a variant ("fp32", "fp16", "bf16" or "int8").

    Args:
        variant: its name.
        mean_pairwise_cosine: of the reference vectors of different texts; decides which set applies.
    """
    collapsed = mean_pairwise_cosine > COLLAPSED_MEAN_COSINE
    extra = (_COLLAPSED_ONLY if collapsed else _SPREAD_ONLY).get(variant, ())
    reason = (
        f"the reference's vectors have a mean cosine of {mean_pairwise_cosine:.3f} with each other, "
        f"{'over' if collapsed else 'not over'} {COLLAPSED_MEAN_COSINE}"
    )
    if collapsed and extra:
        reason += ": they have collapsed, so the centered cosine is judged and the ranks are only reported"
    return GateSet("collapsed" if collapsed else "spread", reason, _GATES[variant] + extra)


def with_reserve(gates: GateSet, share: float) -> GateSet:
    """The gates with `share` (0 to 1) of the error that each allows held back, so 1 allows none."""
    kept = tuple(
        replace(gate, limit=gate.limit * (1 - share) if gate.relation == "<=" else 1 - (1 - gate.limit) * (1 - share))
        for gate in gates.gates
    )
    return replace(gates, gates=kept)


def misses(gate: Gate, value: float | None) -> bool:
    """Whether `value` breaks the gate; one that could not be measured breaks none."""
    return value is not None and not RELATIONS[gate.relation](value, gate.limit)


def find_failures(
    variant: str, gates: GateSet, deviation: Deviation, invariances: Iterable[Invariance] = ()
) -> tuple[str, ...]:
    """One sentence, with limit and value, for each gate missed. A metric that could not be measured misses none."""
    missed = []
    for gate in gates.gates:
        metric = METRICS[gate.metric]
        value = metric.read(deviation)
        if value is not None and misses(gate, value):
            missed.append(f"{variant}: {metric.label} is {value:.9g}, it must be {gate.relation} {gate.limit:g}")
    for found in invariances:
        if not found.cosine_min > INVARIANCE_MIN_COSINE:
            missed.append(
                f"{variant}: text {found.cosine_min_text} embedded {found.name} has cosine {found.cosine_min:.9g} with "
                f"its vector from one call over all texts, it must be > {INVARIANCE_MIN_COSINE}"
            )
    return tuple(missed)


def show_value(metric: str, value: float | None) -> str:
    """A metric's value with as many digits as its limits need."""
    if value is None:
        return "-"
    return f"{value:.1e}" if metric in ("max_abs_diff", "max_norm_error") else f"{value:.7f}"
