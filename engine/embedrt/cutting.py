"""Where a long text may be cut before it is tokenized, so that its parts give the ids of the whole.

A text is cut at a single space or newline between characters that no tokenizer joins across it. Whether a tokenizer
keeps to that is read from its description, kind by kind, and then tried; one that is not known to is never cut for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.token_ids import Added, Pipeline

# Left of a cut stand letters, digits, and marks that end words and sentences; right of it a letter or digit.
_MARKS = ".,;:!?)\\]}\"'。、，．；：！？…」』）》”’»।؟،"
_MODIFIERS = "\uff9e\uff9f"  # letters that Unicode has as parts of the character before
_RIGHT = f"[^\\W_{_MODIFIERS}]"
_LEFT = f"[\\w{_MARKS}]"

# Normalizers of which a character's outcome depends on nothing beyond a space next to it.
_LOCAL = frozenset(
    {"BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend", "Strip",
     "StripAccents"}
)  # fmt: skip
_LOCAL_PATTERNS = ({"String": " "}, {"Regex": " {2,}"})
_AT_WHITESPACE = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})
_FINER = frozenset({"Digits", "Punctuation"})  # split, and leave spaces where they are
_SEARCHED = 32_768  # characters searched at once: under a millisecond, during which no other thread gets a turn
_PROBES_LEFT = (
    "a", "Z", "the", "9", "é", "ß", "Σ", "가", "수도", "水", "の", "ж", "ا", "क", "ก", "１", "²", "_", ".", "?", ")",
    '"', "'", "。", "…", "unbelievable", "2026",
)  # fmt: skip
_PROBES_RIGHT = ("a", "Z", "9", "s", "é", "Σ", "가", "水", "の", "ж", "ا", "क", "ก", "１", "²", "unbelievable", "2026")


@dataclass(frozen=True)
class Cuts:
    """Where texts of a tokenizer may be cut: at which characters, and whether those go with what follows them."""

    separators: dict[str, bool]

    def spans(self, text: str, size: int, longest: int | None = None) -> Iterator[slice]:
        """Parts of at most `size` characters, from the beginning on; longer ones where there is no place to cut.

        The search for one ends behind `longest` characters: then the last part has more than those, and may not be all
        that is left.
        """
        begin = 0
        while len(text) - begin > size:
            at = self._last(text, begin, begin + size + 2)
            if at < 0:
                at = self._first(text, begin + size, _sum(begin, longest, len(text)))
            if at < 0:
                yield slice(begin, _sum(begin, longest, len(text)))
                return
            yield slice(begin, at)
            begin = self._after(text, at)
        yield slice(begin, len(text))

    def spans_from_end(self, text: str, size: int, longest: int | None = None) -> Iterator[slice]:
        """The same from the end: the last part first."""
        end = len(text)
        while end > size:
            at = self._first(text, end - size - 1, end)
            if at < 0:
                at = self._last(text, max(0, end - longest - 1) if longest is not None else 0, end - size + 1)
            if at < 0:
                yield slice(max(0, end - longest - 1) if longest is not None else 0, end)
                return
            yield slice(self._after(text, at), end)
            end = at
        yield slice(0, end)

    def _after(self, text: str, at: int) -> int:
        return at if self.separators[text[at]] else at + 1

    def _last(self, text: str, begin: int, end: int) -> int:
        """The last separator that lies with both of its neighbours in [begin, end), or -1."""
        pattern = _pattern(self.separators, last=True)
        while end > begin:
            start = max(begin, end - _SEARCHED)
            found = pattern.match(text, start, end)
            if found is not None:
                return found.end()
            end = start + 2 if start > begin else begin
        return -1

    def _first(self, text: str, begin: int, end: int) -> int:
        """The first one."""
        pattern = _pattern(self.separators, last=False)
        for start in range(begin, end, _SEARCHED):
            found = pattern.search(text, start, min(end, start + _SEARCHED + 2))
            if found is not None:
                return found.end()
        return -1


def _sum(begin: int, longest: int | None, most: int) -> int:
    return most if longest is None else min(most, begin + longest + 1)


def prove(pipeline: Pipeline, bare: Callable[[Sequence[str]], Sequence[NDArray[np.int32]]]) -> Cuts | None:
    """Where a tokenizer lets its texts be cut; None: nowhere that is known. `bare` gives ids without special tokens."""
    if not _is_local(pipeline.normalizer) or not all(map(_is_harmless, pipeline.added)):
        return None
    kept = _splits(pipeline.pre_tokenizer) or _never_merged(pipeline)

    def ids_of(texts: Sequence[str]) -> list[list[int]]:
        return [ids.tolist() for ids in bare(texts)]

    separators = {}
    for mark in kept:
        goes_along = next((along for along in (True, False) if _holds(ids_of, mark, along)), None)
        if goes_along is not None:
            separators[mark] = goes_along
    return Cuts(separators) if separators else None


def _is_local(normalizer: Mapping[str, Any] | None) -> bool:
    if normalizer is None or normalizer["type"] in _LOCAL:
        return True
    if normalizer["type"] == "Sequence":
        return all(map(_is_local, normalizer["normalizers"]))
    return normalizer["type"] == "Replace" and normalizer["pattern"] in _LOCAL_PATTERNS


def _is_harmless(added: Added) -> bool:
    """Whether an added token stands on one side of a cut, and takes no space away from there."""
    takes_before = added.lstrip and added.content[:1].isalnum()
    return not re.search(r"\S\s+\S", added.content) and not added.rstrip and not takes_before


def _splits(pre_tokenizer: Mapping[str, Any] | None) -> str:
    """The separators at which words are parted before the model sees them."""
    if pre_tokenizer is None:
        return ""
    kind = pre_tokenizer["type"]
    if kind in _AT_WHITESPACE or (kind == "ByteLevel" and pre_tokenizer.get("use_regex", True)):
        return " \n"
    if kind == "Metaspace":
        return " " if pre_tokenizer.get("split", True) else ""
    if kind == "Sequence":
        for part in pre_tokenizer["pretokenizers"]:
            if part["type"] not in _FINER:
                return _splits(part)
    return ""


def _never_merged(pipeline: Pipeline) -> str:
    """A space, where words are not parted, but no piece of the BPE model reaches over the beginning of one."""
    kind = (pipeline.pre_tokenizer or {"type": "Metaspace"})["type"]
    if pipeline.bpe_pieces is None or kind != "Metaspace":
        return ""
    pieces = pipeline.bpe_pieces()
    return " " if "▁" in pieces and not any("▁" in piece.lstrip("▁") or " " in piece for piece in pieces) else ""


def _holds(bare: Callable[[Sequence[str]], list[list[int]]], mark: str, along: bool) -> bool:
    """Whether parts give the ids of the whole, for words of many scripts."""
    pairs = list(product(_PROBES_LEFT, _PROBES_RIGHT))
    left = dict(zip(_PROBES_LEFT, bare(_PROBES_LEFT), strict=True))
    right = dict(zip(_PROBES_RIGHT, bare([mark * along + word for word in _PROBES_RIGHT]), strict=True))
    wholes = bare([before + mark + after for before, after in pairs])
    return all(ids == left[pair[0]] + right[pair[1]] for ids, pair in zip(wholes, pairs, strict=True))


def _pattern(separators: dict[str, bool], *, last: bool) -> re.Pattern[str]:
    marks = "".join(sorted(separators))
    return re.compile(f"{'.*' if last else ''}{_LEFT}(?=[{marks}]{_RIGHT})", re.DOTALL)  # re keeps what it compiled
