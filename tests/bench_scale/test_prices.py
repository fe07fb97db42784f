"""The tables of prices in the docs are what the command prints."""

from __future__ import annotations

import pytest
from bench.paths import REPO
from bench.scale.prices import main


def test_the_page_has_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    printed = capsys.readouterr().out
    assert printed.count("|---|") >= 3
    assert printed in (REPO / "docs" / "scale.md").read_text(encoding="utf-8")
