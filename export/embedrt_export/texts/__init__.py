"""Texts that come with the exporter."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["calibration_texts"]

_JOINED = (3, 9, 30)  # lines joined to longer texts: paragraphs, and texts near the usual limits
_EVERY = 9  # so many lines one is


def calibration_texts() -> list[str]:
    """Some 2,000 texts in English and forty languages, one character to a few hundred words, for calibrating int8.

    They were written for this purpose and are no part of the parity texts.
    """
    content = files(__name__).joinpath("calibration.txt").read_text(encoding="utf-8")
    lines = [line for line in content.splitlines() if line.strip() and not line.startswith("# ")]
    some = lines[::_EVERY]
    joined = [" ".join(some[at : at + count]) for count in _JOINED for at in range(0, len(some), count)]
    return lines + joined
