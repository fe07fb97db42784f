from __future__ import annotations

import io

import pytest
from rich.console import Console

from embedrt.progress import NullProgress, RichProgress


def shown(terminal: bool, unit: str | None, total: int | None, fail: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, legacy_windows=False, _environ={})
    try:
        with RichProgress(console, unit).step("quantize [b]", total) as advance:
            advance(2)
            if fail:
                raise RuntimeError
    except RuntimeError:
        assert fail
    return out.getvalue()


def test_where_there_is_no_terminal_one_line_a_step_is_written():
    lines = shown(False, None, 3).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("✓ quantize [b]  ")
    assert "texts/s" in shown(False, "texts", None)
    assert shown(False, None, 3, fail=True).startswith("✗ quantize")


def test_a_long_title_is_not_wrapped_in_a_log():
    out = io.StringIO()
    with RichProgress(Console(file=out, width=80, _environ={})).step("a long title " * 10):
        pass
    assert out.getvalue().count("\n") == 1


@pytest.mark.parametrize("total", [None, 4])
@pytest.mark.parametrize("unit", [None, "texts"])
def test_a_terminal_shows_a_bar(unit, total):
    found = shown(True, unit, total)
    assert ("2/4" in found) == (total is not None)
    assert "✓" in found


def test_null_progress_takes_everything():
    with NullProgress().step("x", 3) as advance:
        advance(1)
