"""Texts as labels: one line, of a known width on a grid where East Asian characters take two columns."""

from __future__ import annotations

import unicodedata


def label(text: str, columns: int) -> str:
    """`text` on one line of at most `columns` columns, composed (NFC), with control characters as spaces."""
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in composed)
    line = " ".join(visible.split()) or "(empty)"
    if width(line) <= columns:
        return line
    used, kept = 1, []
    for char in line:
        used += _char_width(char)
        if used > columns:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


def width(text: str) -> int:
    """Columns that `text` takes."""
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
