"""Texts that int8 is calibrated with. They are never the texts that parity is measured on."""

from __future__ import annotations

from pathlib import Path

from embedrt.errors import OptionError
from embedrt_export.texts import calibration_texts

_FEWEST = 32


def read_calibration(file: Path | None) -> list[str]:
    """The texts of `file`, one a line, or the built-in ones when it is None.

    Raises:
        OptionError: the file cannot be read, or holds too few texts to calibrate with.
    """
    if file is None:
        return calibration_texts()
    try:
        texts = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as exc:
        raise OptionError(f"calibration file {file} cannot be read: {exc}") from exc
    if len(texts) < _FEWEST:
        raise OptionError(
            f"calibration file {file} holds {len(texts)} texts, at least {_FEWEST} are needed, 200 are good"
        )
    return texts
