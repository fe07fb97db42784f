"""Vocabularies of small tokenizers, the same in every process.

The trainers of `tokenizers` break ties by a hash that differs from process to process: models that are made around them
would be others in every run, and lie on this or that side of a gate by chance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tokenizers import Tokenizer

Merge = tuple[str, str]


def words_of(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """What the tokenizer's normalizer and pre-tokenizer hand to its model, and how often."""
    found: Counter[str] = Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        split = tokenizer.pre_tokenizer
        found.update(word for word, _ in split.pre_tokenize_str(normal)) if split else found.update([normal])
    return found


def learn_merges(words: Counter[str], size: int, *, inside: str = "", end: str = "") -> tuple[list[str], list[Merge]]:
    """Byte pair encoding (Sennrich et al., 2016, arXiv:1508.07909): symbols, and the pairs that were joined, in order.

    Args:
        words: with their counts.
        size: symbols at most, the letters included.
        inside: written before a symbol that begins within a word, "##" of WordPiece.
        end: written behind a symbol that ends a word, "</w>" of CLIP.
    """
    parts = {word: _letters(word, inside, end) for word in sorted(words)}
    symbols = sorted({*"".join(words), *(letter for letters in parts.values() for letter in letters)})
    merges: list[Merge] = []
    while len(symbols) < size:
        pairs: Counter[Merge] = Counter()
        for word, letters in parts.items():
            for pair in pairwise(letters):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined = best[0] + best[1].removeprefix(inside)
        if joined not in symbols:
            symbols.append(joined)
        parts = {word: _joined(letters, best, joined) for word, letters in parts.items()}
    return symbols, merges


def learn_pieces(words: Counter[str], size: int) -> list[tuple[str, float]]:
    """Pieces and log-probabilities of a Unigram model: the symbols of `learn_merges`, by how often words hold them."""
    symbols, _ = learn_merges(words, size)
    counts = {symbol: sum(count * word.count(symbol) for word, count in words.items()) for symbol in symbols}
    total = sum(counts.values())
    return [(symbol, math.log(count / total)) for symbol, count in counts.items()]


def numbered(tokens: Iterable[str]) -> dict[str, int]:
    """Ids in order; of tokens that come twice the first."""
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def _letters(word: str, inside: str, end: str) -> list[str]:
    letters = [word[0], *(inside + letter for letter in word[1:])]
    return [*letters[:-1], letters[-1] + end]


def _joined(letters: Sequence[str], pair: Merge, joined: str) -> list[str]:
    done: list[str] = []
    i = 0
    while i < len(letters):
        if tuple(letters[i : i + 2]) == pair:
            done.append(joined)
            i += 2
        else:
            done.append(letters[i])
            i += 1
    return done
