"""Key words of groups of texts: class-based TF-IDF (Grootendorst, 2022, arXiv:2203.05794) over words of any script.

Words are found without dictionaries, so they are rough where a script does not write them apart:

- Korean: what stands between spaces, without a particle at its end where the rest is also seen with another ending, or
  with none (a single syllable: with four). Endings of verbs stay.
- Chinese characters, in Chinese and Japanese: sequences of 2 to 4 of them; katakana: the whole sequence. Hiragana,
  mostly grammar, is left out.
- Thai, Lao, Khmer, Burmese: sequences of 3 to 8 characters. Of sequences that lie in each other one is shown.
- All others: letters between anything that is none, in lower case, two at least.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from math import log

_MARKS = "".join(re.escape(chr(c)) for c in range(0x300, 0x20000) if unicodedata.category(chr(c))[0] == "M")
_HANGUL, _HAN, _KATAKANA = "\uac00-\ud7a3", "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff々", "\u30a1-\u30fa\u30fc-\u30ff"
_HIRAGANA, _UNSPACED = "\u3041-\u309f", "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0edf\u1000-\u109f\u1780-\u17dd"
_WORDS = re.compile(
    f"(?P<hangul>[{_HANGUL}]+)|(?P<han>[{_HAN}]+)|(?P<katakana>[{_KATAKANA}]+)|[{_HIRAGANA}]+"
    f"|(?P<unspaced>[{_UNSPACED}]+)|(?P<other>(?:(?![{_HANGUL}{_HAN}{_KATAKANA}{_HIRAGANA}{_UNSPACED}])"
    f"[^\\W\\d_]|(?<=\\w)['’](?=[^\\W\\d_])|(?<=[\\w{_MARKS}])[{_MARKS}\u200c\u200d])+)"
)
_LENGTHS = {"han": range(2, 5), "unspaced": range(3, 9)}
_LEADING = "เแโใไ"  # Thai vowels that are written before their consonant: no sequence ends in one
_PARTICLES = (  # the longest first
    "에서는", "에서도", "으로는", "으로도", "에게서", "이라고", "이라는", "까지는", "부터는", "에서", "에게",
    "에는", "에도", "으로", "로는", "까지", "부터", "보다", "처럼", "이나", "이랑", "라고", "라는", "하고", "한테",
    "께서", "들이", "들은", "들을", "은", "는", "이", "가", "을", "를", "의", "에", "로", "와", "과", "도", "만",
    "나", "랑",
)  # fmt: skip
_ENDINGS = (99, 4, 2)  # with how many a stem of no, one and more syllables must be seen
_LIFT = 1.5  # a key word is at least so many times as frequent in its group as in all of them
_MOST = 0.6  # of a script's words: who has more of them is not compared within the script
_FEW, _AT_LEAST = 0.5, 4  # words of less than half of a group's texts say little of it, so at least four are shown
_SAME = 0.8  # a longer sequence that is this often there when the shorter one is stands for it


def key_words(groups: Mapping[int, Sequence[str]], count: int = 8) -> dict[int, tuple[str, ...]]:
    """The `count` words of each group that are frequent in it and rare in the others, best first.

    A word scores tf * log(1 + A / f): tf its share of the group's words, f how often all groups have it, A the mean
    number of words in a group (equation 1 of the paper). Words that are as frequent among the others' words of the
    same script are left out, which takes the place of lists of stop words, if others remain; so are those of a single
    text, where a group has more than three texts and other words are left. Where those others are of few of its texts,
    as "and" may be by chance, up to four words are filled up with ones of a single text.

    Args:
        groups: the texts of each group.
    """
    stems = _stems(text for texts in groups.values() for text in texts)
    counts = {group: _Counts(texts, stems) for group, texts in groups.items()}
    total = _Counts((), {})
    for counted in counts.values():
        total.words.update(counted.words)
        total.scripts.update(counted.scripts)
    mean = total.scripts.total() / max(len(groups), 1)
    chosen = {}
    for group, own in counts.items():
        size = own.scripts.total()
        scores = {word: times / size * log(1 + mean / total.words[word]) for word, times in own.words.items()}
        telling = {word: score for word, score in scores.items() if _is_telling(word, own, total)}
        shared = {word: score for word, score in telling.items() if own.spread[word] > 1}
        larger = len(groups[group]) > 3
        found = list(_best((larger and shared) or telling or scores, own.words, count))
        if larger and shared and sum(own.spread[word] for word in shared) < _FEW * len(groups[group]):
            more = (word for word in _best(telling, own.words, count) if word not in found)
            found += islice(more, max(0, min(count, _AT_LEAST) - len(found)))
        chosen[group] = tuple(found)
    return chosen


def _is_telling(word: str, own: _Counts, total: _Counts) -> bool:
    """Whether a group has more of the word than others: among words of its script, if the others have that script."""
    script = _script(word[0])
    if own.scripts[script] <= _MOST * total.scripts[script]:
        return own.share(word) >= _LIFT * total.share(word)
    return own.words[word] / own.scripts.total() >= _LIFT * total.words[word] / total.scripts.total()


class _Counts:
    """How often words are in some texts."""

    def __init__(self, texts: Iterable[str], stems: Mapping[str, str]) -> None:
        self.words: Counter[str] = Counter()
        self.scripts: Counter[str] = Counter()  # words of a script
        self.spread: Counter[str] = Counter()  # texts that have the word
        for text in texts:
            found = [stems.get(word, word) for word in words_of(text)]
            self.words.update(found)
            self.spread.update(set(found))
        for word, times in self.words.items():
            self.scripts[_script(word[0])] += times

    def share(self, word: str) -> float:
        """Of the words in its script."""
        return self.words[word] / self.scripts[_script(word[0])]


@cache
def _script(char: str) -> str:
    """LATIN, HANGUL, CJK, ..."""
    return unicodedata.name(char, "").partition(" ")[0]


def words_of(text: str) -> Iterator[str]:
    """The words of a text, and the sequences that stand for words; see the module."""
    for found in _WORDS.finditer(unicodedata.normalize("NFC", text).lower()):
        kind, run = found.lastgroup, found.group()
        if kind in _LENGTHS:
            yield from _sequences(run, _LENGTHS[kind])
        elif kind is not None and len(run) > 1:
            yield run


def _sequences(run: str, lengths: range) -> Iterator[str]:
    for length in lengths:
        for start in range(len(run) - length + 1):
            end = start + length
            behind = run[end : end + 1]
            cut = unicodedata.category(run[start])[0] == "M" or (behind and unicodedata.category(behind)[0] == "M")
            if not cut and run[end - 1] not in _LEADING:
                yield run[start:end]


def _stems(texts: Iterable[str]) -> dict[str, str]:
    """Korean words that end in a particle, and what is left without it."""
    seen: set[str] = set()
    for text in texts:
        seen.update(word for word in words_of(text) if "가" <= word[0] <= "힣")
    endings: dict[str, set[str]] = defaultdict(set)
    for word in seen:
        endings[word].add("")
        for particle in _PARTICLES:
            if word.endswith(particle) and len(word) > len(particle):
                endings[word.removesuffix(particle)].add(particle)
    stems = {}
    for word in seen:
        for particle in _PARTICLES:  # the longest first
            stem = word.removesuffix(particle)
            if stem != word and len(endings[stem]) >= _ENDINGS[min(len(stem), 2)]:
                stems[word] = stem
                break
    return stems


def _best(scores: Mapping[str, float], counted: Mapping[str, int], count: int) -> Iterator[str]:
    """By falling score; of sequences without spaces that lie in each other, or overlap, the one that says most.

    Of equal scores the longer word comes first, because the short ones of a language are its grammar. Bytes count:
    a syllable of Hangul has three, and is worth as many letters.
    """
    taken: list[str] = []
    ranked = sorted(scores, key=lambda word: (-scores[word], -len(word.encode()), word))[: 40 * count]
    longer = {word: _grown(word, ranked, counted) for word in ranked}
    for word in dict.fromkeys(longer[word] for word in ranked):
        if len(taken) == count:
            return
        if not any(_overlaps(word, other) for other in taken):
            taken.append(word)
            yield word


def _grown(word: str, ranked: Sequence[str], counted: Mapping[str, int]) -> str:
    """The longest sequence that is there whenever, or almost whenever, `word` is."""
    if not _is_sequence(word):
        return word
    within = [other for other in ranked if word in other and counted[other] >= _SAME * counted[word]]
    return max(within, key=lambda other: (len(other), counted[other], other))


def _overlaps(a: str, b: str) -> bool:
    if not (_is_sequence(a) and _is_sequence(b)):
        return False
    shared = min(len(a), len(b)) - 1
    return a in b or b in a or (shared >= 2 and (a[:shared] in b or a[-shared:] in b))


def _is_sequence(word: str) -> bool:
    found = _WORDS.fullmatch(word)
    return found is not None and found.lastgroup in _LENGTHS
