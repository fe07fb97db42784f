"""What an export that missed a gate advises."""

from __future__ import annotations

from collections.abc import Sequence

from embedrt.parity.gates import find_failures, gate_set
from embedrt.parity.invariance import Invariance
from embedrt.parity.metrics import Deviation, Spread
from embedrt.parity.report import VariantReport
from embedrt_export.proving import advice_on

STEADY = Invariance("alone", 200, 1.0, 0, 0.0, 0)
MOVED = Invariance("in a batch", 200, 0.9999983, 17, 0.001, 17)
NEAR, FAR = 0.9999, 0.9


def report(variant: str, cosine: float, invariances: Sequence[Invariance] = (STEADY,)) -> VariantReport:
    deviation = Deviation(200, Spread(cosine, cosine, cosine), Spread(1, 1, 1), 0, 0, 1, 1)
    gates = gate_set(variant, 0.3)
    failures = find_failures(variant, gates, deviation, invariances)
    return VariantReport(variant, "id", "onnxruntime", deviation, (), tuple(invariances), gates, failures, (), ())


def test_inaccurate_int8_is_advised_to_take_another_recipe() -> None:
    for invariances in ([STEADY], [STEADY, MOVED]):
        missed = report("int8", FAR, invariances)
        assert "--int8-recipe accurate" in advice_on([report("fp32", 1.0), missed])
        assert "--int8-recipe accurate" in advice_on([report("fp32", 1.0), missed, missed])  # natively as well


def test_accurate_int8_that_depends_on_its_batch_is_not_advised_to_take_another_recipe() -> None:
    advice = advice_on([report("fp32", 1.0), report("int8", NEAR, [STEADY, MOVED])])
    assert "--int8-recipe" not in advice
    assert "--variants fp32,fp16" in advice


def test_nothing_is_advised_where_nothing_or_not_int8_alone_failed() -> None:
    assert advice_on([report("fp32", 1.0), report("int8", NEAR)]) == ""
    assert advice_on([report("fp32", FAR), report("int8", FAR)]) == ""
    assert advice_on([report("fp16", FAR), report("int8", NEAR)]) == ""
