"""Code out of Markdown files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    (embedrt .*(?:\\\n.*)*)$", re.MULTILINE)


def python_of(page: Path) -> str:
    """All Python blocks of a page, one program."""
    blocks = _FENCE.findall(page.read_text(encoding="utf-8"))
    return "\n".join(code for language, code in blocks if language == "python")


def commands_of(page: Path) -> Iterator[list[str]]:
    """The arguments of each `embedrt ...` line of a page's shell blocks; what stands in brackets is taken as given."""
    text = page.read_text(encoding="utf-8")
    blocks = [code for language, code in _FENCE.findall(text) if language in ("sh", "bash", "console", "")]
    for block in [*blocks, *_INDENTED.findall(text)]:
        for line in block.replace("\\\n", " ").splitlines():
            command = line.removeprefix("$ ").strip()
            if command.startswith("embedrt "):
                yield shlex.split(re.sub(r" \[(.*?)\]", r" \1", command), comments=True)[1:]
