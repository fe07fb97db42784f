"""Draw what the applications show: python docs/images/applications.py BUNDLE writes the .svg files beside it.

BUNDLE is multilingual-e5-small, as `make demo` leaves it in .demo/multilingual-e5-small. Every picture is what a
command prints on the demo's texts; the heat map is what `embedrt similarity --plot` draws.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from diagrams import Drawing

HERE = Path(__file__).parent
DEMO = HERE.parent.parent / "demo"
_CELL, _LINE = 7.9, 20  # of a character and a line, in pixels
_COLUMNS = 104

PICTURES: dict[str, tuple[str, Sequence[str], int]] = {
    "search": (
        "Questions in Korean and English, answers in either language",
        ("search", "e5-small", "corpus.jsonl", "-k", "2", "로그인이 안 돼요", "how long does delivery take?"),
        10,
    ),
    "clusters": (
        "Clusters by what sentences are about, in three languages",
        ("cluster", "e5-small", "topics.csv", "-k", "4", "--center", "lang"),
        24,
    ),
    "pairs": ("Translations found in two files", ("mine", "e5-small", "korean.txt", "english.txt"), 15),
    "long-text": (
        "The piece of a long text that answers",
        ("search", "e5-small", "documents.jsonl", "-k", "1", "--long", "pieces", "--piece-tokens", "128",
         "해례본은 어디에서 발견되었나?"),
        6,
    ),
}  # fmt: skip
"""By name of the file: what it shows, the command, and how many lines of its output."""


def cells(text: str) -> int:
    """Cells of a terminal that it takes."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def terminal(title: str, command: Sequence[str], lines: Sequence[str]) -> Drawing:
    """A command and what it printed; each column begins where its cells do, whatever the viewer's fonts."""
    width = max(map(cells, [*lines, f"$ embedrt {shlex.join(command)}"]))
    drawing = Drawing(round(40 + _CELL * width), 44 + _LINE * len(lines), title)
    drawing.text(20, 30, f"$ embedrt {shlex.join(command)}".replace("'", '"'), "mono title")
    for row, line in enumerate(lines):
        y = 30 + _LINE * (row + 1)
        if line and set(line) == {"─"}:
            drawing.rule(20, y - 4, drawing.width - 20)
            continue
        for part in re.finditer(r"\S+(?: \S+)*", line):
            kind = "mono title" if "─" in "".join(lines[row + 1 : row + 2]) else "mono"
            drawing.text(round(20 + _CELL * cells(line[: part.start()])), y, part[0], kind)
    return drawing


def main() -> None:
    """Write the files."""
    bundle = Path(sys.argv[1]).absolute()
    program = [sys.executable, "-m", "embedrt"]
    environment = {**os.environ, "COLUMNS": str(_COLUMNS)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "e5-small").symlink_to(bundle)
        for file in ("corpus.jsonl", "documents.jsonl", "topics.csv", "sentences.txt"):
            shutil.copy(DEMO / file, folder)
        rows = list(csv.DictReader((DEMO / "topics.csv").open(encoding="utf-8")))
        for file, lang in (("korean.txt", "ko"), ("english.txt", "en")):
            texts = [row["text"] for row in rows if row["lang"] == lang]
            (folder / file).write_text("\n".join(texts) + "\n", encoding="utf-8")
        heat = ("similarity", "e5-small", "--texts", "sentences.txt", "--query", "--plot", "similarity.svg")
        subprocess.run([*program, *heat], cwd=folder, check=True, capture_output=True)
        shutil.copy(folder / "similarity.svg", HERE)
        for file, (title, command, count) in PICTURES.items():
            done = subprocess.run([*program, *command], cwd=folder, env=environment, check=True,
                                  capture_output=True, text=True)  # fmt: skip
            lines = [line.rstrip() for line in done.stdout.splitlines()][:count]
            while lines and not lines[-1]:
                lines.pop()
            (HERE / f"{file}.svg").write_text(terminal(title, command, lines).svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
