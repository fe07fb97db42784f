"""Texts that say the same over and over, made of other texts' tokens.

Their tokens are off alike, so that no mean hides it, and no natural text has rows like theirs: where int8 was fitted to
natural texts alone, multilingual-e5-small's three worst of 287 were such texts, twice as far off.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice, product, takewhile

import numpy as np
from numpy.typing import NDArray

_WORDS = 8
_MOST_TOKENS = 256
_SHARE = 16  # a text for so many others
_LENGTHS = (16, 40, 100)  # tokens between the first and the last
_PERIODS = (1, 1, 2, 1, 5, 1, 12)  # tokens until they come again

Texts = Sequence[Sequence[int]]


def repetitions(texts: Texts, seed: int = 1) -> list[list[int]]:
    """One for every `_SHARE` texts, none longer than the longest of them, between what all texts begin and end with."""
    if not texts:
        return []
    head, tail = _frame(texts)
    room = max(map(len, texts)) - len(head) - len(tail)
    words = _words(texts, len(head), len(tail))
    if room < 1 or not len(words):
        return []
    rng = np.random.default_rng(seed)
    shapes = islice(cycle(product(_PERIODS, _LENGTHS)), len(texts) // _SHARE)
    return [
        [*head, *np.resize(rng.choice(words, period), min(length, room)).tolist(), *tail] for period, length in shapes
    ]


def repeated_texts(texts: Texts, seed: int = 0) -> list[list[int]]:
    """`_WORDS` token ids of these texts, each as often as their longest is long, between its first and last tokens."""
    longest = max(texts, key=len)
    length = min(len(longest), _MOST_TOKENS) - 2
    ids = _words(texts, 1, 1)
    if length < 1 or not len(ids):
        return []
    words = np.random.default_rng(seed).choice(ids, min(_WORDS, len(ids)), replace=False)
    return [[longest[0], *[int(word)] * length, longest[-1]] for word in words]


def _words(texts: Texts, head: int, tail: int) -> NDArray[np.int64]:
    """The ids between so many first and last tokens, each once."""
    return np.unique(np.concatenate([np.asarray(text[head : len(text) - tail], np.int64) for text in texts]))


def _frame(texts: Texts) -> tuple[list[int], list[int]]:
    """The tokens that all texts begin with (special ones, a prompt's), and those that all end with."""
    head = _shared(texts)
    tail = min(_shared([text[::-1] for text in texts]), min(map(len, texts)) - head)
    return list(texts[0][:head]), list(texts[0][len(texts[0]) - tail :])


def _shared(texts: Texts) -> int:
    """How many tokens all texts begin with."""
    columns = zip(*texts, strict=False)  # as many as the shortest text has
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
