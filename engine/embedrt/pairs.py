"""Pairs of texts to token ids, as the model's own tokenizer makes and cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import TokenLimitError
from embedrt.heads import PairTemplate, ScoreHead
from embedrt.tokenization import PairParts, TextTokenizer

Pair: TypeAlias = tuple[str, str]
"""A query and a document, or two sentences."""


@dataclass(frozen=True)
class PairIds:
    """A pair's token ids, special tokens included, cut at the limit."""

    ids: NDArray[np.int32]  # (n,)
    second: int  # where the tokens of type 1 begin; n where there are none
    num_tokens: int  # before cutting; of very long texts at least so many

    def __len__(self) -> int:
        return len(self.ids)


class PairTokenizer:
    """Tokenizes pairs. Several threads may use one at once.

    Args:
        tokenizer: of the bundle, with the limit for a pair.
        head: what the model does with pairs.
    """

    def __init__(self, tokenizer: TextTokenizer, head: ScoreHead) -> None:
        self.texts = tokenizer
        self.max_tokens = tokenizer.max_tokens
        self._read = (
            _Joined(tokenizer, tokenizer.pair_parts(), has_types=head.has_types)
            if head.template is None
            else _Templated(tokenizer, head.template)
        )

    def __call__(self, pairs: Sequence[Pair], prompt: str = "") -> list[PairIds]:
        """Token ids of checked pairs; each different text is tokenized once where that is exact.

        Args:
            pairs: without the prompt.
            prompt: before each first text; of a model with a template, its instruction.
        """
        return self._read(pairs, prompt)

    def check_query(self, query: str, prompt: str = "") -> None:
        """Refuse a query that fills the limit alone: documents would be ranked by a part of it.

        Raises:
            TokenLimitError: it does.
        """
        (alone,) = self._read([(query, "")], prompt)
        if alone.num_tokens >= self.max_tokens:
            raise TokenLimitError(
                f"the query has {alone.num_tokens} tokens with the special ones, and a query and a document may have "
                f"{self.max_tokens} together; shorten it"
            )


class _Joined:
    """Two texts with special tokens around them."""

    def __init__(self, tokenizer: TextTokenizer, parts: PairParts, *, has_types: bool) -> None:
        self._tokenizer = tokenizer
        self._before, self._between, self._after = (
            np.array(ids, np.int32) for ids in (parts.before, parts.between, parts.after)
        )
        self._of_first = parts.of_first
        self._has_types = has_types
        self._special = len(parts.before) + len(parts.between) + len(parts.after)

    def __call__(self, pairs: Sequence[Pair], prompt: str) -> list[PairIds]:
        texts = list(dict.fromkeys(text for one, two in pairs for text in (prompt + one, two)))
        rows = dict(zip(texts, self._tokenizer.bare(texts), strict=True))
        arrays = {text: np.array(ids, np.int32) for text, (ids, _) in rows.items()}
        return [self._pair(prompt + one, two, rows, arrays) for one, two in pairs]

    def _pair(
        self, one: str, two: str, rows: dict[str, tuple[list[int], bool]], arrays: dict[str, NDArray[np.int32]]
    ) -> PairIds:
        (first, more_first), (second, more_second) = rows[one], rows[two]
        counts = len(first), len(second)
        room = max(0, self._tokenizer.max_tokens - self._special)
        if (more_first or more_second) and min(counts) > room:  # which one is longer decides who gets the odd token
            counts = self._count(one), self._count(two)
        kept = longest_first(*counts, room)
        a, b = arrays[one][: kept[0]], arrays[two][: kept[1]]
        ids = np.concatenate([self._before, a, self._between, b, self._after])
        begin = len(self._before) + len(a) + self._of_first
        return PairIds(ids, begin if self._has_types else len(ids), sum(counts) + self._special)

    def _count(self, text: str) -> int:
        """Of its own tokens, however long it is."""
        ((ids, _),) = self._tokenizer.bare([text], whole=True)
        return len(ids)


def longest_first(one: int, two: int, room: int) -> tuple[int, int]:
    """How many tokens of each text a pair keeps within `room`, as tokenizers' strategy of that name cuts.

    The longer text is cut to what the shorter leaves, and both to halves where each is over its half.
    """
    if one + two <= room:
        return one, two
    short, long = min(one, two), max(one, two)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return (short, long) if one <= two else (long, short)


class _Templated:
    """One text out of two, cut at its end, with tokens behind it that stay."""

    def __init__(self, tokenizer: TextTokenizer, template: PairTemplate) -> None:
        self._tokenizer = tokenizer
        self._template = template
        ((after, _),) = tokenizer.bare([template.after])
        self._after = np.array(after, np.int32)

    def __call__(self, pairs: Sequence[Pair], prompt: str) -> list[PairIds]:
        room = self._tokenizer.max_tokens - len(self._after)
        texts = [self._text(one, two, prompt) for one, two in pairs]
        out = []
        for ids, _ in self._tokenizer.bare(texts):
            row = np.concatenate([np.array(ids[:room], np.int32), self._after])
            out.append(PairIds(row, len(row), len(ids) + len(self._after)))
        return out

    def _text(self, query: str, document: str, prompt: str) -> str:
        """By plain replacement, in the order of the template: braces in the texts stay as they are."""
        head, _, rest = self._template.text.removesuffix("{document}").partition("{query}")
        instruction = prompt or self._template.instruction
        head, rest = (part.replace("{instruction}", instruction) for part in (head, rest))
        return head + query + rest + document
