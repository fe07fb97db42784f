"""Texts that int8 is calibrated with. They are never the texts that parity is measured on."""

from __future__ import annotations

from pathlib import Path

from embedrt.commands.reading.formats import is_known
from embedrt.commands.source import open_source
from embedrt.errors import EmbedrtError, OptionError
from embedrt.tokenization import TextTokenizer
from embedrt_export.texts import calibration_texts

_FEWEST = 32


def read_calibration(file: Path | None) -> list[str]:
    """The texts of `file`, or the built-in ones when it is None. The suffix says how it is read, as by `embed`;
    an unknown one is read as a text per line.

    Raises:
        OptionError: the file cannot be read, or holds too few texts to calibrate with.
    """
    if file is None:
        return calibration_texts()
    texts = read_texts(file, "calibration file")
    if len(texts) < _FEWEST:
        raise OptionError(
            f"calibration file {file} holds {len(texts)} texts, at least {_FEWEST} are needed, 200 are good"
        )
    return texts


def calibration_ids(file: Path | None, tokenizer: TextTokenizer, prompt: str) -> list[list[int]]:
    """Token ids of the calibration texts as the model will see texts: behind its default prompt.

    Raises:
        OptionError: the file cannot be read, or holds too few texts.
    """
    texts = [prompt + text for text in read_calibration(file)]
    return [tokenizer.shaped(ids).tolist() for ids in tokenizer(texts).token_ids]


def read_texts(file: Path, what: str) -> list[str]:
    """The texts of `file` that are not blank, read as `embed` does, or a text per line; `what` names it in messages.

    Raises:
        OptionError: it cannot be read, or holds none.
    """
    try:
        source = open_source(file, None if is_known(file) else "txt")
        texts = [text for text in source.texts() if text.strip()]
    except EmbedrtError as exc:
        raise OptionError(f"{what}: {exc}") from exc
    if not texts:
        raise OptionError(f"{what} {file} holds no texts")
    return texts
