"""What callers give to embed: checked, each different text once, and where each goes back to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from embedrt.errors import InputTypeError
from embedrt.tokenization import check_text
from embedrt.windows import Window

Texts: TypeAlias = str | Sequence[str]


def given_texts(inputs: Texts | None, sentences: Texts | None) -> Texts:
    """What was given, under either name.

    Raises:
        InputTypeError: nothing was given, or both.
    """
    if (inputs is None) == (sentences is None):
        raise InputTypeError("give a string or a sequence of strings, once: as inputs, or as sentences")
    return inputs if inputs is not None else sentences  # type: ignore[return-value]


def checked_texts(inputs: object) -> list[str]:
    """A string or an iterable of strings as a list.

    Raises:
        InputTypeError: neither, or one of them is no string; `.index` says which.
        InputError: one holds lone surrogates.
    """
    if isinstance(inputs, str):
        return [check_text(inputs, None)]
    if isinstance(inputs, (bytes, bytearray)) or not isinstance(inputs, Iterable):
        raise InputTypeError(f"inputs must be a string or a sequence of strings, not {type(inputs).__name__}")
    return [check_text(text, i) for i, text in enumerate(inputs)]


def distinct_windows(texts: Sequence[str], size: int) -> tuple[Iterator[Window], list[int]]:
    """Windows of at most `size` different texts, and for each text its row among all of them.

    For example `["b", "a", "b"]` gives one window of ("b", "a") and [0, 1, 0].
    """
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        first.setdefault(text, i)
    unique, indices = tuple(first), tuple(first.values())
    row = {text: k for k, text in enumerate(unique)}
    starts = range(0, len(unique), size)
    windows = (Window(unique[k : k + size], indices[k : k + size]) for k in starts)
    return windows, [row[text] for text in texts]
