"""The scripts that languages are written in, and that characters belong to, as Unicode's names of characters say."""

from __future__ import annotations

import unicodedata
from functools import cache

from embedrt.errors import OptionError

_LANGUAGES = {
    "Latin": "af az bs ca cs cy da de en eo es et eu fi fil fo fr fy ga gl ha hr ht hu id ig is it jv ku la lb lt lv "
    "mg mi ms mt nb nl nn no oc om pl pt qu rm ro rw sk sl sn so sq st su sv sw tk tl tn tr ts uz vi wo xh yo zu",
    "Cyrillic": "be bg kk ky mk mn ru sr tg tt uk",
    "Arabic": "ar fa ps sd ug ur",
    "Devanagari": "hi mr ne sa",
    "Hangul": "ko",
    "Han": "zh",
    "Han Hiragana Katakana": "ja",
    "Greek": "el", "Hebrew": "he yi", "Thai": "th", "Lao": "lo", "Khmer": "km", "Myanmar": "my", "Georgian": "ka",
    "Armenian": "hy", "Ethiopic": "am ti", "Bengali": "bn as", "Gujarati": "gu", "Gurmukhi": "pa", "Kannada": "kn",
    "Malayalam": "ml", "Oriya": "or", "Sinhala": "si", "Tamil": "ta", "Telugu": "te", "Tibetan": "bo dz",
}  # fmt: skip
SCRIPTS_OF = {code: frozenset(scripts.split()) for scripts, codes in _LANGUAGES.items() for code in codes.split()}
"""ISO 639 code -> the scripts that its texts are written in."""

COMMON = "Common"
"""Of digits, punctuation, symbols, and all that no script has for itself."""

_SCRIPT_OF_WORD = {
    **{script.upper(): script for scripts in _LANGUAGES for script in scripts.split()},
    "CJK": "Han", "IDEOGRAPHIC": "Han", "KATAKANA-HIRAGANA": "Katakana", "HALFWIDTH": "Katakana",
}  # fmt: skip
_OF_A_SCRIPT = "LMN"  # letters, marks and numbers; a name's first word says whose


def scripts_of(languages: tuple[str, ...]) -> frozenset[str]:
    """The scripts of all the languages, and `COMMON`.

    Raises:
        OptionError: a code is not known; the message lists those that are.
    """
    unknown = [code for code in languages if code not in SCRIPTS_OF]
    if unknown:
        raise OptionError(f"--keep-languages: {unknown[0]!r} is none of {', '.join(sorted(SCRIPTS_OF))}")
    return frozenset({COMMON}.union(*(SCRIPTS_OF[code] for code in languages)))


@cache
def script_of(character: str) -> str:
    """The script of a character; of one whose script no language above has, the first word of its name."""
    if unicodedata.category(character)[0] not in _OF_A_SCRIPT:
        return COMMON
    words = unicodedata.name(character, "").split()
    word = words[0] if words else ""
    if word in ("FULLWIDTH", "HALFWIDTH") and len(words) > 1:
        word = words[1]
    if word in _SCRIPT_OF_WORD:
        return _SCRIPT_OF_WORD[word]
    # "DIGIT ONE", "COMBINING ACUTE ACCENT", "SUPERSCRIPT TWO": of all scripts; a letter is always of one.
    return word if unicodedata.category(character)[0] == "L" and word != "MODIFIER" else COMMON
