"""The texts that parity is measured on: a built-in set, or a user's file.

The built-in set is made to break things: many scripts, every length from nothing to far beyond a model's limit,
spaces and control characters of all kinds, spellings that normalize to the same text. About half of it is ordinary
sentences with translations and paraphrases, so that ranks of similarities mean something.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from embedrt.errors import FileFormatError

_LIMITS = (128, 256, 512)  # tokens at which models commonly cut
# One token each in WordPiece, BPE and SentencePiece vocabularies alike; two special tokens come on top.
_PLAIN_WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "for",
    "on",
    "that",
    "with",
    "was",
    "as",
    "by",
    "it",
    "at",
    "from",
)
_LONG_LANGUAGES = ("en", "ko", "ja", "zh-Hans", "zh-Hant", "ar", "he", "ru", "uk", "hi", "th", "el", "vi", "tr", "de")
_OVERLONG = {"en": 60, "ko": 60, "zh-Hans": 60, "ar": 50}  # language -> sentences; all beyond 512 tokens
_SPACES = (
    "",
    " ",
    "   ",
    "\n",
    "\t \r\n ",
    "\u00a0\u3000\u2003",  # no-break, ideographic and em space
    "two  spaces   three    four",
    "  spaces before and after  ",
    "\u00a0no-break\u00a0spaces\u00a0around\u00a0",
    "\u3000全角の空白　と改行\n",
    "tabs\tbetween\t\twords\tand at the end\t",
    "line one\nline two\r\nline three\rline four\n\n\nafter blank lines",
    "vertical\x0btab, form\x0cfeed, next\x85line, line\u2028and paragraph\u2029separator",
    "wide" + " " * 200 + "gap",
)
_CONTROLS = (
    "\x00",
    "null\x00byte inside",
    "controls " + "".join(chr(c) for c in range(0x20)) + " end",
    "delete\x7f and c1 \x80\x9f controls",
    "\x1b[31mred\x1b[0m and a bell\x07",
    "zero\u200bwidth\u200cnon\u200djoiner\u2060word joiner",
    "\ufeffbyte order mark at the start",
    "soft\u00adhyphen\u00adation",
    "right-to-left \u200fmark, \u202eoverride\u202c, \u2067isolate\u2069",
    "replacement \ufffd and private use \ue000 and unassigned \U000e0fff",
)
_SPELLINGS = (  # the same to a reader, other code points
    "Crème brûlée à l'été",
    "Cre\u0300me bru\u0302le\u0301e a\u0300 l'e\u0301te\u0301",
    "한국어 자모",
    "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165 \u110c\u1161\u1106\u1169",
    "Tiếng Việt",
    "Tie\u0302\u0301ng Vie\u0323\u0302t",
    "\u212bngström and \u2126 ohm",
    "\u00c5ngström and \u03a9 ohm",
    "z\u0351\u036b\u0343\u036a\u0302a\u0335\u0321\u0322l\u0336\u0327g\u0337\u0328o\u0338 stacked marks",
)


@cache
def builtin_texts() -> tuple[str, ...]:
    """The built-in parity texts: no two alike, UTF-8 encodable, always the same."""
    data = _sentences()
    return (
        *(text for texts in data["parallel"].values() for text in texts),
        *(text for pair in data["pairs"] for text in pair),
        *data["words"],
        *data["emoji"],
        *data["mixed"],
        *data["code"],
        *_SPACES,
        *_CONTROLS,
        *_SPELLINGS,
        *_paragraphs(data["parallel"]),
        *_at_limits(),
        *_extremes(),
    )


def read_texts(path: str | Path) -> tuple[str, ...]:
    """Texts of a user's file.

    Args:
        path: .txt with one text per line (an empty line is an empty text), .jsonl with a string or an object with
            "text" per line (blank lines are skipped), or .json with a list of such.

    Raises:
        FileFormatError: it cannot be read, has another form, or no text in it; the message says where.
    """
    path = Path(path)
    try:
        parse = _PARSERS[path.suffix.lower()]
    except KeyError:
        raise FileFormatError(f"{path} must end in one of {', '.join(_PARSERS)}") from None
    try:
        content = path.read_bytes().decode("utf-8-sig")  # read_text would turn a lone \r into a new line
    except OSError as exc:
        raise FileFormatError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise FileFormatError(
            f"{path} is not UTF-8: byte {exc.start} is {exc.object[exc.start]:#04x}; convert it with iconv -t UTF-8"
        ) from exc
    texts = tuple(_check(value, f"{path}, {place}") for place, value in parse(content, path))
    if not texts:
        raise FileFormatError(f"{path} holds no texts")
    return texts


def shorten(text: str, limit: int = 60) -> str:
    """`text` on one line for people: control and other invisible characters as escapes, cut at `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1]
    shown = "".join(char if _visible(char) else _escape(char) for char in cut)
    return shown + ("…" if len(cut) < len(text) else "")


def _sentences() -> dict[str, Any]:
    source = resources.files("embedrt.parity").joinpath("data/sentences.json")
    data: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return data


def _paragraphs(parallel: dict[str, list[str]]) -> Iterator[str]:
    """Texts of several sentences: short paragraphs, long ones, and some beyond every common limit."""
    for sentences in parallel.values():
        if len(sentences) >= 5:
            yield " ".join(sentences[:3])
    for language in _LONG_LANGUAGES:
        yield _run_on(parallel[language], 10)
    for language, count in _OVERLONG.items():
        yield _run_on(parallel[language], count)
    languages = cycle(parallel.values())
    yield " ".join(next(languages)[i % 2 - 1] for i in range(16))  # a sentence of another language each time


def _run_on(sentences: list[str], count: int) -> str:
    """`count` sentences, numbered, so that no stretch of the text repeats."""
    return " ".join(f"({i}) {sentence}" for i, sentence in enumerate(islice(cycle(sentences), count), start=1))


def _at_limits() -> Iterator[str]:
    """Texts that have one token less than each common limit, as many, and one more, with two special tokens."""
    for limit in _LIMITS:
        for count in (limit - 3, limit - 2, limit - 1):
            yield " ".join(islice(cycle(_PLAIN_WORDS[count % 5 :]), count))


def _extremes() -> Iterator[str]:
    yield "again " * 40
    yield "buffalo " * 700
    yield "가" * 90
    yield "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
    yield "abcdefghij" * 150  # one word; WordPiece takes it for unknown, SentencePiece makes hundreds of tokens
    yield "🎉" * 64
    yield "ﾊﾟ" * 30 + "\u0301" * 30
    yield "A" * 100


def _parse_txt(content: str, path: Path) -> Iterator[tuple[str, object]]:
    del path
    lines = content.split("\n")
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        yield f"line {number}", line.removesuffix("\r")


def _parse_jsonl(content: str, path: Path) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _load(line, f"{path}, line {number}")


def _parse_json(content: str, path: Path) -> Iterable[tuple[str, object]]:
    values = _load(content, str(path))
    if not isinstance(values, list):
        raise FileFormatError(f"{path} must hold a list of texts")
    return ((f"item {number}", value) for number, value in enumerate(values, start=1))


_PARSERS = {".txt": _parse_txt, ".jsonl": _parse_jsonl, ".json": _parse_json}


def _load(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise FileFormatError(f"{where}: not JSON: {exc}") from exc


def _check(value: object, where: str) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise FileFormatError(f'{where}: must be a string, or an object with a string "text"')
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise FileFormatError(f"{where}: has a lone surrogate at character {exc.start}") from exc
    return text


def _visible(char: str) -> bool:
    return char.isprintable() or char == "\u200d"  # the joiner inside emoji


def _escape(char: str) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char) or (
        f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{{{ord(char):x}}}"
    )
