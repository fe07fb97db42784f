"""Texts that int8 is calibrated with. They are never the texts that parity is measured on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import onnx

from embedrt.commands.reading.formats import is_known
from embedrt.commands.source import open_source
from embedrt.errors import EmbedrtError, OptionError
from embedrt.tokenization import TextTokenizer
from embedrt_export.texts import calibration_texts

_FEWEST = 32
_LEAST = 200  # built-in texts for the largest encoder
_WORK = 8e12  # weights that built-in texts may be multiplied with: a minute or two on two cores
_RARER = 4  # of the longest texts every fourth is enough


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
            f"calibration file {file} holds {len(texts)} texts, at least {_FEWEST} are needed, 1,000 are good"
        )
    return texts


def calibration_ids(
    file: Path | None, tokenizer: TextTokenizer, prompt: str, graph: onnx.ModelProto
) -> list[list[int]]:
    """Token ids of the calibration texts as the model will see texts: behind its default prompt.

    Raises:
        OptionError: the file cannot be read, or holds too few texts.
    """
    texts = [prompt + text for text in read_calibration(file)]
    return chosen(file, [tokenizer.shaped(ids).tolist() for ids in tokenizer(texts).token_ids], graph)


def chosen(file: Path | None, texts: list[list[int]], graph: onnx.ModelProto) -> list[list[int]]:
    """The token ids of a file's texts, all of them; of the built-in ones some, fewer for a larger encoder."""
    return texts if file is not None else affordable(texts, multiplied_weights(graph))


def affordable(texts: Sequence[list[int]], weights: int) -> list[list[int]]:
    """Some of the texts, evenly spread: at most `_WORK` tokens times the weights that each is multiplied with.

    There are `_LEAST` texts in any case.
    """
    some = _some(texts, 1)
    for every in itertools.count(2):
        fewer = _some(texts, every)
        if weights * sum(map(len, some)) <= _WORK or len(fewer) < _LEAST:
            break
        some = fewer
    return some


def _some(texts: Sequence[list[int]], every: int) -> list[list[int]]:
    """One of so many texts. Of the longest quarter still fewer, because each text counts alike and these cost most."""
    long = sorted(map(len, texts))[len(texts) * 3 // 4]
    return [text for index, text in enumerate(texts) if index % (every * _RARER if len(text) > long else every) == 0]


def multiplied_weights(graph: onnx.ModelProto) -> int:
    """Weights that every token is multiplied with; tables, which are only looked up, are not counted."""
    weights = (tensor for tensor in graph.graph.initializer if len(tensor.dims) == 2)
    sizes = {weight.name: weight.dims[0] * weight.dims[1] for weight in weights}
    return sum(sizes.get(name, 0) for node in graph.graph.node if node.op_type != "Gather" for name in node.input)


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
