"""Texts of an exact number of tokens, for any tokenizer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embedrt.errors import OptionError

Count = Callable[[Sequence[str]], Sequence[int]]  # texts -> tokens of each, special tokens included

_WORDS = (
    "the of and to in is was for on that with as it be by at from are this which or had his one an but not have "
    "were their all has been they its into other some more time only new these would two may then first any people "
    "water house city music river light night paper road school green small world year day life hand part place "
    "a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5 6 7 8 9 0 나 가 다 이 는 의 人 日 大 的 は の"
)
_TRIES = 200
_NO_TEXTS = "no texts of exact length can be made for this tokenizer; give your own with --texts FILE"


@dataclass(frozen=True)
class _Words:
    """Words of one token each, and what stands between two."""

    between: str
    words: list[str]


def make_texts(count: Count, lengths: Sequence[int], *, seed: int = 0) -> list[str]:
    """One random text per length, each of exactly so many tokens, and all different as far as there are enough.

    Raises:
        OptionError: a length leaves no room for text, or cannot be met.
    """
    draw = random.Random(seed)
    overhead = count([""])[0]
    if lengths and min(lengths) <= overhead:
        raise OptionError(f"a length of {min(lengths)} leaves no room for text: {overhead} are special tokens")
    words = _find_words(count)
    texts: dict[int, str] = {}
    for i, length in enumerate(lengths):
        taken = set(texts.values())
        for _ in range(_TRIES):
            texts[i] = _text_of(count, length, overhead, words, draw)
            if texts[i] not in taken:
                break
    return [texts[i] for i in range(len(lengths))]


def _find_words(count: Count) -> _Words:
    """Words that add one token each: with spaces between, or, where a space is a token, without."""
    candidates = _WORDS.split()
    base = count(["a"])[0]
    for between in (" ", ""):
        found = count([f"a{between}{word}" for word in candidates])
        words = [word for word, tokens in zip(candidates, found, strict=True) if tokens == base + 1]
        if words:
            return _Words(between, words)
    raise OptionError(_NO_TEXTS)


def _text_of(count: Count, length: int, overhead: int, words: _Words, draw: random.Random) -> str:
    """Draw words, and mend the number until it fits: neighbours may merge or split."""
    chosen = draw.choices(words.words, k=length - overhead)
    for _ in range(_TRIES):
        text = words.between.join(chosen)
        found = count([text])[0]
        if found == length:
            return text
        if found > length:
            del chosen[-max(1, min(found - length, len(chosen) - 1)) :]
        else:
            chosen += draw.choices(words.words, k=length - found)
    raise OptionError(f"{length} tokens: {_NO_TEXTS}")
