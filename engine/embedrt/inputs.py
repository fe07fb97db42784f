"""What callers give to embed: checked, each different text once, and where each goes back to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from embedrt.errors import InputTypeError
from embedrt.pictures.reading import Picture, is_address, is_picture, names_picture
from embedrt.pictures.runner import Item
from embedrt.text_checks import check_text
from embedrt.windows import Window

Texts: TypeAlias = str | Iterable[str]
"""A text, or several: a list, a tuple, an array, a column of a table, a generator."""
Inputs: TypeAlias = "str | Picture | Iterable[str | Picture]"
"""Texts, or for bundles that take them pictures, or both in one list."""


def given_texts(inputs: Inputs | None, sentences: Inputs | None) -> Inputs:
    """What was given, under either name.

    Raises:
        InputTypeError: nothing was given, or both.
    """
    if (inputs is None) == (sentences is None):
        if inputs is None:
            raise InputTypeError("inputs must be a string or a sequence of strings, not None")
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
    return [check_text(text, i) for i, text in enumerate(several_texts(inputs))]


@dataclass(frozen=True)
class Mixed:
    """Texts and pictures of one call."""

    texts: list[str]
    text_places: list[int]  # of each text in the caller's input
    pictures: list[Item]
    single: bool  # one input, not a list with one

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.texts) + len(self.pictures)


def mixed_inputs(inputs: object) -> Mixed:
    """Texts and pictures; a string is a picture as sentence-transformers has it: a data URI, or the path of a file that
    exists and has a picture's suffix.

    Raises:
        InputTypeError: one is neither; `.index` says which.
        InputError: a text holds lone surrogates.
    """
    single = isinstance(inputs, str) or is_picture(inputs)
    every = [inputs] if single else list(several_pictures(inputs))
    out = Mixed([], [], [], single)
    for i, item in enumerate(every):
        if as_picture(item):
            out.pictures.append(Item(i, item))
        else:
            out.texts.append(check_text(item, None if single else i))
            out.text_places.append(i)
    return out


def pictures_alone(inputs: object) -> Mixed:
    """One picture or several; a string is a path or a data URI.

    Raises:
        InputTypeError: not to be gone through, as `several_texts` says.
    """
    single = isinstance(inputs, str) or is_picture(inputs)
    every = [inputs] if single else several_pictures(inputs)
    return Mixed([], [], [Item(i, item) for i, item in enumerate(every)], single)


def several_pictures(inputs: object) -> Iterable[object]:
    """As `several_texts`, where pictures (N, H, W, 3) may be given as one array."""
    return inputs if isinstance(inputs, np.ndarray) and inputs.ndim == 4 else several_texts(inputs)


def as_picture(item: object) -> bool:
    """Whether an input of a model that takes both is a picture, or what will be refused as one: pixels of another
    shape, or an address."""
    if isinstance(item, str):
        return is_picture(item) or names_picture(item) or is_address(item)
    return is_picture(item) or (isinstance(item, np.ndarray) and item.ndim > 1)


def several_texts(inputs: object) -> Iterable[object]:
    """`inputs`, if going through it gives texts one by one; they are not checked yet.

    Raises:
        InputTypeError: what goes through it would get something else (keys, column names, letters) or no fixed order.
    """
    for applies, advice in _REFUSED:
        if applies(inputs):
            raise InputTypeError(f"give a sequence of strings, not a {type(inputs).__name__}: {advice}")
    try:
        iter(inputs)  # type: ignore[call-overload]
    except TypeError:
        raise InputTypeError(f"inputs must be a string or a sequence of strings, not {type(inputs).__name__}") from None
    return inputs  # type: ignore[return-value]


def _dimensions(inputs: object) -> int | None:
    """Of arrays, columns and tables of any library; None of what has no shape."""
    shape = getattr(inputs, "shape", None)
    return len(shape) if isinstance(shape, tuple) else None


def _has_columns(inputs: object) -> bool:
    """Looked up past `__getattr__`, by which a pandas Series finds the labels of its index."""
    names = ("columns", "column_names")
    return any(hasattr(type(inputs), name) or name in getattr(inputs, "__dict__", ()) for name in names)


# What can be gone through and gives no texts -> what to pass instead. By behaviour, so that no library is imported.
_REFUSED: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda x: isinstance(x, str), "its letters are no texts; one text is [text]"),
    (lambda x: isinstance(x, (bytes, bytearray, memoryview)), "bytes are text once they are decoded, data.decode()"),
    (lambda x: isinstance(x, Mapping), "going through it gives its keys; pass list(texts.values())"),
    (lambda x: isinstance(x, (set, frozenset)), "it has no order to give vectors back in; pass sorted(texts)"),
    (_has_columns, "going through a table gives its columns; pass one of them, table['text']"),
    (lambda x: _dimensions(x) == 0, "an array without dimensions is one text; pass str(array)"),
    (lambda x: (_dimensions(x) or 1) > 1, "an array of texts has one dimension; pass array.ravel(), or one column"),
)


def distinct_windows(
    texts: Sequence[str], size: int, places: Sequence[int] | None = None
) -> tuple[Iterator[Window], Sequence[int]]:
    """Windows of at most `size` different texts, and for each text its row among all of them.

    `places` are the texts' in the caller's input, where others lie between them.

    For example `["b", "a", "b"]` gives one window of ("b", "a") and [0, 1, 0].
    """
    unique = tuple(dict.fromkeys(texts))
    indices: Sequence[int] = range(len(texts))
    order = indices
    if len(unique) < len(texts):
        row = {text: k for k, text in enumerate(unique)}
        order = [row[text] for text in texts]
        first = {k: i for i, k in reversed(list(enumerate(order)))}
        indices = [first[k] for k in range(len(unique))]
    if places is not None:
        indices = [places[k] for k in indices]
    windows = (Window(unique[k : k + size], indices[k : k + size]) for k in range(0, len(unique), size))
    return windows, order
