"""The pages of the site: each is in its menu, and no link leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import PAGES, ROOT

LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
MENU = ROOT / "mkdocs.yml"
pytestmark = pytest.mark.skipif(not MENU.is_file(), reason="mkdocs.yml is not part of an sdist")


def test_the_menu_has_every_page_once() -> None:
    listed = re.findall(r": ([\w.-]+\.md)$", MENU.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [target for target, _place in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "encode_query" in (tmp_path / "reference.html").read_text(encoding="utf-8")
