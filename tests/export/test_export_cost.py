"""`python -m bench.export_cost` measures every step of an export."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.export_cost import measure

from embedrt.opening import open_bundle
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def test_steps_and_what_lies_between_them_make_the_whole(tmp_path: Path) -> None:
    costs = measure(str(tiny.save_pipeline(tmp_path / "m")), tmp_path / "b", ("fp32",))
    assert list(open_bundle(tmp_path / "b").manifest.variants) == ["fp32"]
    titles = [cost.title for cost in costs]
    assert titles[0] == "import"
    assert titles[-2:] == ["between the steps", "total"]
    assert {"find the model", "make the graph", "make fp32", "Verify fp32"} <= set(titles)
    *steps, total = costs
    assert total.wall_s == pytest.approx(sum(step.wall_s for step in steps))
    assert total.cpu_s == pytest.approx(sum(step.cpu_s for step in steps))
    assert total.peak_gib == max(step.peak_gib for step in steps)
