"""Where sentences, phrases and words end, in any script. Pure; the same everywhere, whatever is installed.

Not a linguist's splitter: it serves to end pieces of long texts at places where people pause. Chinese and Japanese end
sentences with full-width marks and no space; Korean, and most scripts, with a mark and a space; Thai, Lao, Khmer and
Burmese put a space where others put a full stop. `icu_ends` has the Unicode sentence rules (UAX 29) for who wants them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import TypeAlias

from embedrt.errors import DependencyError, OptionError

Splitter: TypeAlias = Callable[[str], Iterable[int]]
"""A text to the places where its sentences end: positions behind the white space that follows them."""

_CLOSING = "\"'”’」』）】〉》)\\]}»›"
_FULL_STOPS = "。！？｡．…।॥။៕។۔؟։።؛"  # no space has to follow them
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
_SENTENCE = re.compile(
    rf"[{_FULL_STOPS}]+[{_CLOSING}]*\s*"
    # "3. a", "J. Smith", "etc. and" go on: no end behind one letter or digit, nor before a small letter.
    rf"|(?:[!?]|(?<!\b[A-Za-z\d])\.)[.!?]*[{_CLOSING}]*\s+(?![a-z])"
    rf"|\s*\n\s*"
    rf"|(?<=[{_UNSPACED}])\s+(?=[{_UNSPACED}])"
)
_PHRASE = re.compile(rf"(?:[,:](?!\d)|[;、，；：،·—–])[{_CLOSING}]*\s*")
_WORD = re.compile(r"\s+")


def sentence_ends(text: str) -> list[int]:
    """Places behind the sentences of a text; the last is the text's own end."""
    return _ends(_SENTENCE, text)


def phrase_ends(text: str) -> list[int]:
    """Places behind commas and the like; the last is the text's own end."""
    return _ends(_PHRASE, text)


def word_ends(text: str) -> list[int]:
    """Places behind white space; the last is the text's own end."""
    return _ends(_WORD, text)


def icu_ends(text: str) -> list[int]:
    """As `sentence_ends`, by ICU's rules (https://unicode.org/reports/tr29/#Sentence_Boundaries).

    Raises:
        DependencyError: icu4py is not installed.
    """
    try:
        from icu4py.breakers import SentenceBreaker
    except ImportError as exc:
        raise DependencyError("ICU's sentences need icu4py: pip install 'embedrt[icu]'") from exc
    return list(accumulate(map(len, SentenceBreaker(text, "root"))))  # its own places count in UTF-16


def checked_ends(splitter: Splitter, text: str) -> list[int]:
    """What a splitter says of a text, in order and within it, with the text's own end.

    Raises:
        OptionError: it is no function of a text, or says something else than places.
    """
    try:
        found = {int(end) for end in splitter(text)}
    except (TypeError, ValueError) as exc:
        raise OptionError(f"sentences must be a function from a text to the ends of its sentences: {exc}") from exc
    return [*sorted(end for end in found if 0 < end < len(text)), len(text)]


def _ends(pattern: re.Pattern[str], text: str) -> list[int]:
    return [*(m.end() for m in pattern.finditer(text) if m.end() < len(text)), len(text)]
