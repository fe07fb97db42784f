"""docs/analyze.md: every command in it runs."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINES = [
    line.removeprefix("embedrt ")
    for block in re.findall(r"```bash\n(.*?)```", (DOCS / "analyze.md").read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
]
WORDS = ("water", "stone", "bread", "light")


@pytest.fixture
def folder(tmp_path, lookup_bundle, monkeypatch):
    """The files that the page speaks of, and its models; a map without UMAP, which compiles for a minute."""
    notes = [f"{word} {word} {other}" for word in WORDS for other in ("the", "of", "a", "in", "the")]
    tables = {
        "faq.csv": [("id", "lang", "question"), *((i, "en", text) for i, text in enumerate(notes))],
        "parallel.csv": [("ko", "en"), ("물은 가", "water"), ("안녕 나", "stone")],
    }
    for name in ("notes.txt", "ko.txt", "en.txt"):
        (tmp_path / name).write_text("".join(f"{text}\n" for text in notes))
    for name, rows in tables.items():
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
    for name in ("minilm", "me5"):
        (tmp_path / name).symlink_to(lookup_bundle)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    return tmp_path


def test_the_page_has_commands():
    assert {line.split()[0] for line in LINES} == {"cluster", "mine", "dedup", "map"}
    assert len(LINES) >= 13


@pytest.mark.parametrize("line", LINES)
def test_commands_run(cli, folder, line):
    cli.ok(*shlex.split(line))
    args = shlex.split(line)
    for option in ("-o", "--plot", "--report"):
        if option in args:
            assert (folder / args[args.index(option) + 1]).stat().st_size > 0


def test_pictures_are_there():
    for name in re.findall(r"!\[.*?\]\((.*?)\)", (DOCS / "analyze.md").read_text(encoding="utf-8")):
        assert (DOCS / name).stat().st_size < 300_000
