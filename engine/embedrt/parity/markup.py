"""The parity page's tables and marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(headings: Iterable[str], rows: Iterable[Sequence[str]], left: Sequence[int] = ()) -> str:
    """Of cells that are markup; columns of numbers, but for the first and those `left`."""
    head = "".join(f"<th{' class=left' if i in left else ''}>{name}</th>" for i, name in enumerate(headings))
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def badge(good: bool, text: str) -> str:
    """A verdict."""
    return f'<span class="badge {"good" if good else "bad"}">{"✓" if good else "✗"} {text}</span>'


def miss(missed: bool) -> str:
    """Attributes of a cell, whose value breaks its limit or does not."""
    return ' class="miss"' if missed else ""


def paragraphs(meanings: Iterable[tuple[str, str]]) -> str:
    """Words and what they mean."""
    return "".join(f"<p><b>{name}</b>: {meaning}</p>" for name, meaning in meanings)
