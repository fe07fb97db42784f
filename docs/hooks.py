"""Links that lead out of docs/ become the names of files when the pages are a site, which has only what is in docs/."""

from __future__ import annotations

import re
from typing import Any

_OUT = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")


def on_page_markdown(markdown: str, **_page: Any) -> str:
    """mkdocs calls this for each page."""
    return _OUT.sub(r"\1 (`\2`)", markdown)
