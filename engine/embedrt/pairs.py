"""Pairs of texts to token ids, as the model's own tokenizer makes and cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import InputError, OptionError, TokenLimitError
from embedrt.heads import PairTemplate, ScoreHead
from embedrt.tokenization import TextTokenizer
from embedrt.tokenizer_json import PairParts

Pair: TypeAlias = tuple[str, str]
"""A query and a document, or two sentences."""
PairOrText: TypeAlias = tuple[str, str | None]
"""None where a classifier reads one text alone."""


@dataclass(frozen=True)
class PairCut:
    """Which tokens go where a pair has too many."""

    keep_end: bool = False  # of both texts, as tokenizers' truncation on the left
    document_tokens: int | None = None  # of the second text at most, whatever room there is; at least 1


_RIGHT = PairCut()


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

    def __call__(self, pairs: Sequence[PairOrText], prompt: str = "", cut: PairCut = _RIGHT) -> list[PairIds]:
        """Token ids of checked pairs; each different text is tokenized once where that is exact.

        Args:
            pairs: without the prompt.
            prompt: before each first text; of a model with a template, its instruction.
            cut: what is cut away.

        Raises:
            InputError: a text stands alone, and the model takes pairs only; `.index` says which.
            OptionError: the end is to be kept, and the model's template begins with what it must read.
        """
        return self._read(pairs, prompt, cut)

    def check_query(self, query: str, prompt: str = "") -> None:
        """Refuse a query that fills the limit alone: documents would be ranked by a part of it.

        Raises:
            TokenLimitError: it does.
        """
        (alone,) = self._read([(query, "")], prompt, _RIGHT)
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

    def __call__(self, pairs: Sequence[PairOrText], prompt: str, cut: PairCut) -> list[PairIds]:
        texts = list(dict.fromkeys(text for one, two in pairs if two is not None for text in (prompt + one, two)))
        rows = dict(zip(texts, self._tokenizer.bare(texts, keep_end=cut.keep_end), strict=True))
        alone = iter(self._alone([prompt + one for one, two in pairs if two is None], cut))
        return [next(alone) if two is None else self._pair(prompt + one, two, rows, cut) for one, two in pairs]

    def _alone(self, texts: list[str], cut: PairCut) -> list[PairIds]:
        found = self._tokenizer(texts, keep_end=cut.keep_end)
        return [PairIds(ids, len(ids), n) for ids, n in zip(found.token_ids, found.num_tokens, strict=True)]

    def _pair(
        self,
        one: str,
        two: str,
        rows: dict[str, tuple[NDArray[np.int32], bool]],
        cut: PairCut,
    ) -> PairIds:
        (first, more_first), (second, more_second) = rows[one], rows[two]
        counts = [len(first), len(second)]
        room = max(0, self._tokenizer.max_tokens - self._special)
        if (more_first or more_second) and min(counts) > room:  # which one is longer decides who gets the odd token
            counts = [self._count(one), self._count(two)]
        if cut.document_tokens is not None:
            counts[1] = min(counts[1], cut.document_tokens)
        kept = longest_first(counts[0], counts[1], room)
        a, b = (_part(ids, n, keep_end=cut.keep_end) for ids, n in zip((first, second), kept, strict=True))
        ids = np.concatenate([self._before, a, self._between, b, self._after])
        begin = len(self._before) + len(a) + self._of_first
        return PairIds(ids, begin if self._has_types else len(ids), sum(counts) + self._special)

    def _count(self, text: str) -> int:
        """Of its own tokens, however long it is."""
        ((ids, _),) = self._tokenizer.bare([text], whole=True)
        return len(ids)


def _part(ids: NDArray[np.int32], count: int, *, keep_end: bool) -> NDArray[np.int32]:
    """The first so many, or the last."""
    return ids[len(ids) - count :] if keep_end else ids[:count]


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
        ((self._after, _),) = tokenizer.bare([template.after])

    def __call__(self, pairs: Sequence[PairOrText], prompt: str, cut: PairCut) -> list[PairIds]:
        if cut.keep_end:
            raise OptionError(
                "this model reads a pair in one text that begins with its instruction, and cuts it at its end; it "
                "cannot be cut on the left"
            )
        room = self._tokenizer.max_tokens - len(self._after)
        texts = [self._text(one, self._document(two, k, cut), prompt) for k, (one, two) in enumerate(pairs)]
        out = []
        for ids, _ in self._tokenizer.bare(texts):
            row = np.concatenate([ids[:room], self._after])
            out.append(PairIds(row, len(row), len(ids) + len(self._after)))
        return out

    def _document(self, text: str | None, index: int, cut: PairCut) -> str:
        if text is None:
            raise InputError("this model reads a query and a document; give a pair of texts", index=index)
        return text if cut.document_tokens is None else self._tokenizer.beginning(text, cut.document_tokens)

    def _text(self, query: str, document: str, prompt: str) -> str:
        """By plain replacement, in the order of the template: braces in the texts stay as they are."""
        head, _, rest = self._template.text.removesuffix("{document}").partition("{query}")
        instruction = prompt or self._template.instruction
        head, rest = (part.replace("{instruction}", instruction) for part in (head, rest))
        return head + query + rest + document
