"""Writes unicode_tables.inc: what the tokenizers library does to each character of Unicode, by asking the library.

    python engine/native/tokenizer/unicode_tables.py

The native tokenizer must give the library's ids, so its tables are the library's behaviour, not a version of Unicode.
`tests/native/test_unicode_tables.py` asks again.
"""

from __future__ import annotations

import struct
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from tokenizers import __version__ as version
from tokenizers import normalizers, pre_tokenizers

OUT = Path(__file__).with_name("unicode_tables.inc")
FLAGS = (  # of bits from the lowest on, as characters.h names them
    "white",  # WhitespaceSplit splits at it
    "bert_mark",  # BertPreTokenizer makes it a word of its own
    "bert_removed",  # BertNormalizer's clean_text leaves it out
    "bert_space",  # and makes a space of it
    "bert_chinese",  # handle_chinese_chars puts spaces around it
    "uncased",  # strip_accents and lowercase make something else of it: see `uncased`
    "joins",  # it is of one grapheme with what stands before it
    "control",  # nothing is of one grapheme with it
    "unsure",  # what becomes of it depends on its neighbours in a way that is not followed here
    "nfkc",  # NFKC makes something else of it: see `nfkc`
    "composes",  # NFC and NFKC may join it, or what it becomes, with its neighbours
    "nmt_removed",  # Nmt leaves it out
    "nmt_space",  # and makes a space of it
)
_MARK, _JOINER = "\u0343", "\u200d"  # both join what stands before them
_PREPENDED = (  # Grapheme_Cluster_Break=Prepend: of one grapheme with what follows
    *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0xD4E, 0x110BD, 0x110CD, 0x111C2, 0x111C3, 0x1193F,
    0x11941, 0x11A3A, *range(0x11A84, 0x11A8A), 0x11D46, 0x11F02,
)  # fmt: skip


def characters() -> Iterator[str]:
    """All that a string without lone surrogates may hold."""
    return (chr(c) for c in range(1, sys.maxunicode + 1) if not 0xD800 <= c < 0xE000)


def charsmap(key: str) -> bytes:
    """A precompiled map that makes X of `key` and knows nothing else: a double array (Darts) of one path."""
    units = [0] * 2048
    position, base = 0, 256
    units[0] = (position ^ base) << 10
    for k, byte in enumerate(data := key.encode()):
        position = base ^ byte
        base += 256
        units[position] = byte | (k == len(data) - 1) << 8 | (position ^ base) << 10
    units[base] = 1 << 31
    array = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(array)) + array + b"X\0"


class Library:
    """What is asked of the library."""

    def __init__(self) -> None:
        def bert(**on: bool) -> Callable[[str], str]:
            off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
            return normalizers.BertNormalizer(**{**off, **on}).normalize_str

        self.clean = bert(clean_text=True)
        self.chinese = bert(handle_chinese_chars=True)
        self.uncased = bert(strip_accents=True, lowercase=True)
        self.nfkc = normalizers.NFKC().normalize_str
        self.nmt = normalizers.Nmt().normalize_str
        self._bert_words = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
        self._words = pre_tokenizers.WhitespaceSplit().pre_tokenize_str
        self._after_a = normalizers.Precompiled(charsmap("a")).normalize_str
        self._after = normalizers.Precompiled(charsmap(_MARK)).normalize_str

    def flags(self, c: str) -> int:
        """One bit per name of `FLAGS`."""
        cleaned, nmt = self.clean(c), self.nmt(c)
        found = {
            "white": len(self._words(f"a{c}a")) == 2,
            "bert_mark": len(self._bert_words(f"a{c}a")) == 3,
            "bert_removed": cleaned == "",
            "bert_space": cleaned == " " != c,
            "bert_chinese": self.chinese(c) != c,
            "uncased": self.uncased(c) != c,
            "joins": self._after_a(f"a{c}") == "X",
            "control": not self._after(c + _MARK + _JOINER).endswith(_JOINER),  # a grapheme of at most five bytes
            "unsure": ord(c) in _PREPENDED or (unicodedata.combining(c) != 0 and unicodedata.category(c) != "Mn"),
            "nfkc": self.nfkc(c) != c,
            "composes": composes(c) or composes(self.nfkc(c)),
            "nmt_removed": nmt == "",
            "nmt_space": nmt == " " != c,
        }
        return sum(1 << bit for bit, name in enumerate(FLAGS) if found[name])


def composes(text: str) -> bool:
    """Whether normalizing may join the text's first character with what stands before it, or order it anew."""
    first = text[:1]
    if not first:
        return False
    return bool(unicodedata.combining(first)) or first in _SECONDS or unicodedata.category(first) == "Cn"


def _seconds() -> frozenset[str]:
    """Characters that are second in a pair that NFC joins."""
    found = {chr(c) for c in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for c in characters():
        parts = unicodedata.decomposition(c).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(chr(int(parts[1], 16)))
    return frozenset(found)


_SECONDS = _seconds()


def ranges(flags: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(first, last, flags) of neighbours that have the same flags, but none."""
    for (_, value), run in groupby(enumerate(flags), key=lambda pair: (pair[1][0] - pair[0], pair[1][1])):
        members = [c for _, (c, _) in run]
        if value:
            yield members[0], members[-1], value


def main() -> None:
    """Write the file."""
    library = Library()
    flags = [(ord(c), library.flags(c)) for c in characters()]
    bit = {name: 1 << k for k, name in enumerate(FLAGS)}
    hangul = range(0xAC00, 0xD7A4)  # in three steps of arithmetic, not in a table
    by = f"tokenizers {version}, Unicode {unicodedata.unidata_version} in Python"
    lines = [f"// Written by unicode_tables.py with {by}.", "", "constexpr Range ranges[] = {"]
    lines += _packed(f"{{{first:#x},{last:#x},{value}}}" for first, last, value in ranges(flags))
    lines += ["};"]
    for name, become in (("uncased", library.uncased), ("nfkc", library.nfkc)):
        blob, entries = bytearray(), []
        for c, value in flags:
            if value & bit[name] and c not in hangul:
                data = become(chr(c)).encode()
                at = blob.find(data) if data else 0
                if at < 0:
                    at = len(blob)
                    blob += data
                entries.append(f"{{{c:#x},{at},{len(data)}}}")
        lines += ["", f"constexpr Change {name}_changes[] = {{", *_packed(entries), "};"]
        lines += [f"constexpr unsigned char {name}_bytes[] = {{", *_packed(map(str, blob)), "};"]
    OUT.write_text("\n".join(lines) + "\n")


def _packed(items: Iterable[str], width: int = 118) -> list[str]:
    lines, line = [], ""
    for item in items:
        if len(line) + len(item) >= width:
            lines.append(line)
            line = ""
        line += item + ","
    return [*lines, line]


if __name__ == "__main__":
    main()
