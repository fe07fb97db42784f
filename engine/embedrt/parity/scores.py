"""A reranker's scores against the PyTorch model's, and the limits that they must keep.

Logits are compared, before an activation that would hide what lies at its ends. Ranks are compared query by query, as
they are used, by Kendall's tau: the mean over queries and labels.

Most documents have nothing to do with a query, and their logits lie at the model's floor, in an order that means
nothing and that any rounding changes. So the tau that is judged is over documents whose logits the reference has at
least `MARGIN` standard deviations apart (of all pairs' logits); the tau over all is in the report beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedrt.pairs import Pair
from embedrt.parity.gates import RELATIONS, Gate
from embedrt.parity.pairs import read_pairs
from embedrt.parity.report import OutputReport
from embedrt.reranker import Reranker

Floats = NDArray[np.float32]

MARGIN = 0.1
_FEW = 32  # pairs scored one by one as well

_RANKS, _ALONE = Gate("kendall_apart", ">", 0.99), Gate("alone_diff", "<=", 1e-4)
GATES: dict[str, tuple[Gate, ...]] = {
    "fp32": (Gate("max_abs_diff", "<=", 1e-4), _RANKS, _ALONE),
    "fp16": (Gate("correlation", ">", 0.9999), _RANKS, _ALONE),
    "bf16": (Gate("correlation", ">", 0.999), _RANKS, _ALONE),
    "int8": (Gate("correlation", ">", 0.995), _RANKS, _ALONE),
}
"""Variant -> limits of its figures."""


def verify_scores(reranker: Reranker, variant: str) -> OutputReport:
    """A loaded variant's logits of the bundle's own pairs against those that it keeps.

    Raises:
        BundleIntegrityError, BundleFormatError: the bundle lacks what they are compared with.
    """
    pairs, reference = read_pairs(reranker.bundle)
    found = _logits(reranker, pairs)
    some = np.linspace(0, len(pairs) - 1, min(_FEW, len(pairs))).astype(int)
    alone = np.concatenate([_logits(reranker, [pairs[k]]) for k in some])
    figures = {
        "max_abs_diff": float(np.abs(found - reference).max()),
        "kendall": mean_tau(pairs, reference, found),
        "kendall_apart": mean_tau(pairs, reference, found, MARGIN),
        "correlation": correlation(reference, found),
        "spread": float(reference.std(axis=0).max()),
        "alone_diff": float(np.abs(alone - found[some]).max()),
    }
    gates = GATES[variant]
    missed = tuple(
        f"{variant}, scores: {gate.metric} is {figures[gate.metric]:.9g}, it must be {gate.relation} {gate.limit:g}"
        for gate in gates
        if not RELATIONS[gate.relation](figures[gate.metric], gate.limit)
    )
    return OutputReport(variant, "scores", reranker.executor_description, len(pairs), figures, gates, missed)


def mean_tau(pairs: Sequence[Pair], reference: Floats, found: Floats, margin: float = 0.0) -> float:
    """The mean of Kendall's tau over the queries that have several documents, and over labels.

    Args:
        pairs: N of them.
        reference: (N, L).
        found: (N, L).
        margin: of documents that are so many standard deviations of a label's reference apart.
    """
    rows: dict[str, list[int]] = {}
    for k, (query, _) in enumerate(pairs):
        rows.setdefault(query, []).append(k)
    apart = margin * reference.std(axis=0)
    taus = [
        kendall(reference[some, label], found[some, label], float(apart[label]))
        for some in rows.values()
        for label in range(reference.shape[1])
    ]
    known = [tau for tau in taus if tau is not None]
    return float(np.mean(known)) if known else 1.0


def kendall(a: NDArray[np.floating], b: NDArray[np.floating], apart: float = 0.0) -> float | None:
    """Kendall's tau of `b` with `a`, over couples of which `a` differs by more than `apart`; None where it has none.

    (Couples in order less those in disorder) / all of them; those that `b` has equal are neither (Kendall, 1938,
    "A new measure of rank correlation").
    """
    upper = np.triu_indices(len(a), 1)
    first, second = ((x[:, None] - x[None, :])[upper] for x in (a, b))
    judged = np.abs(first) > apart
    return float((np.sign(first) * np.sign(second))[judged].mean()) if judged.any() else None


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's, the least over the labels (N, L); 1 where the reference has one value."""
    found = [
        float(np.corrcoef(one.astype(np.float64), two.astype(np.float64))[0, 1])
        for one, two in zip(a.T, b.T, strict=True)
        if one.std() > 0
    ]
    return min(found, default=1.0)


def _logits(reranker: Reranker, pairs: Sequence[Pair]) -> Floats:
    scores = reranker.predict_detailed(pairs, activation_fn="identity").scores
    return scores.reshape(len(pairs), -1)
