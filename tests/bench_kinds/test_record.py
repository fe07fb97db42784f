"""Tables in the docs are those of the runs that are kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bench.record import PAGE, RESULTS, RUNS, dots_of, kept, machine_of, main, table_of, with_tables
from bench.run import SHAPES


def result(speed: float = 1234.5678) -> dict[str, Any]:
    """What `python -m bench` writes, of one system and one peer."""
    deviation = {"cosine_min": 0.99, "centered_min": 0.98, "num_texts": 24}
    rows = [
        {"system": name, "kind": kind, "case": case, "batching": "", "tokens_per_s": value, "group": 0,
         "share_of_limit": 0.5, "p50_s": 0.0015, "p99_s": 0.002, "calls": [1, 2, 3]}
        for name, value in (("ours-int8", speed), ("openvino-int8", 1000.0))
        for kind, case in (("shape", "1x16"), ("latency", "short query"))
    ]  # fmt: skip
    systems = {
        name: {"spec": {"title": title, "detail": "d"}, "description": "as it is", "deviation": deviation}
        for name, title in (("ours-int8", "embedrt int8"), ("openvino-int8", "OpenVINO int8"))
    }
    best = [{"kind": "shape", "case": "1x16", "of": "ours-int8", "peer": "openvino-int8", "ratio": 1.2345678}]
    machine = {"cpu": "AMD EPYC (family 26, model 2)", "flags": ["avx2"], "threads": 2, "processors": 2,
               "packages": {}, "revision": "abc", "kernel": "6"}  # fmt: skip
    return {"date": "2026-11-27 20:51 UTC", "command": "python -m bench", "seconds": 1.0, "cut_short": False,
            "peaks": {}, "model": {}, "best_peers": best, "machine": machine, "systems": systems, "results": rows,
            "ragged_sets": []}  # fmt: skip


def test_the_page_has_the_tables_of_the_runs() -> None:
    """`python -m bench.record` writes them."""
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page, RESULTS) == page
    assert page.count("<!-- run ") == page.count("<!-- end of run -->") > 0


def test_every_run_is_of_a_model_that_the_benchmark_has() -> None:
    models = [re.search(r"--model (\S+)", arguments) for arguments in RUNS.values()]
    assert {found[1] for found in models if found} <= set(SHAPES)
    assert [name for name, found in zip(RUNS, models, strict=True) if not found] == ["minilm"]  # --quick means it


def test_a_table_says_what_was_measured_where_and_when() -> None:
    found = table_of(kept(result()))
    assert "| embedrt int8 | 0.99000 | 0.98000 | 1,235 (50%) | 1.5 |" in found
    assert "| embedrt int8 to the fastest peer of any accuracy | | | **1.23** |  |" in found
    assert "`python -m bench`\n(AMD EPYC (family 26, model 2), 2 threads, 2026-11-27, revision abc):" in found


def test_a_picture_has_every_system_that_was_timed_at_its_shape() -> None:
    dots = dots_of(kept(result()), "1x16")
    assert [(dot.title, dot.ours, dot.compute, dot.tokens_per_s) for dot in dots] == [
        ("embedrt int8", True, "int8", 1234.57),
        ("OpenVINO int8", False, "int8", 1000.0),
    ]
    assert all(dot.deviation == pytest.approx(0.02) for dot in dots)
    assert dots_of(kept(result()), "8x128") == []


def test_a_run_is_written_between_its_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    (tmp_path / "zen5").mkdir()
    (tmp_path / "zen5" / "m.json").write_text(json.dumps(kept(result())), encoding="utf-8")
    page = "before\n<!-- run zen5/m -->\nold\n<!-- end of run -->\nafter\n"
    found = with_tables(page, tmp_path)
    assert found.startswith("before\n<!-- run zen5/m -->\n\n`python -m bench`")
    assert found.endswith("\n\n<!-- end of run -->\nafter\n")
    assert "old" not in found
    assert with_tables(found, tmp_path) == found
    with pytest.raises(SystemExit, match=r"other\.json is not there: python -m bench\.record --measure other"):
        with_tables("<!-- run zen5/other -->\n<!-- end of run -->\n", tmp_path)


@pytest.mark.parametrize(
    ("cpu", "flags", "name"),
    [
        ("AMD EPYC (family 26, model 2)", ["avx512_vnni"], "zen5"),
        ("AMD EPYC 9R14 (family 25, model 17)", ["avx512_vnni"], "zen4"),
        ("AMD EPYC (family 25, model 1)", ["avx2"], "zen3"),
        ("Intel(R) Xeon(R) (family 6, model 143)", ["amx_int8"], "intel-amx"),
    ],
)
def test_runs_are_kept_by_the_kind_of_machine(cpu: str, flags: list[str], name: str) -> None:
    assert machine_of({"cpu": cpu, "flags": flags}) == name


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(SystemExit, match="no name for Unknown"):
        machine_of({"cpu": "Unknown", "flags": []})
    with pytest.raises(SystemExit, match="no run 'x'; there are minilm, "):
        main(["--measure", "x"])
