"""Texts that come with the exporter."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["calibration_texts"]

_JOINED = (3, 9, 30)  # lines joined to longer texts: paragraphs, and texts near the usual limits


def calibration_texts() -> list[str]:
    """Sentences in English and some thirty languages, one character to a few hundred words, for calibrating int8.

    They were written for this purpose and are no part of the parity texts.
    """
    content = files(__name__).joinpath("calibration.txt").read_text(encoding="utf-8")
    lines = [line for line in content.splitlines() if line.strip() and not line.startswith("# ")]
    joined = [" ".join(lines[at : at + count]) for count in _JOINED for at in range(0, len(lines), count)]
    return lines + joined
