"""Texts to token ids, exactly as the model's own tokenizer.json says; truncation explicit."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.cutting import Cuts, prove
from embedrt.errors import NoTokensError, TokenIdError
from embedrt.executors.tokenizer import NativeTokenizer
from embedrt.text_rules import TableRules, TextRules
from embedrt.token_ids import Ids, TokenIds
from embedrt.tokenizer_json import PairParts

_CALL_CHARACTERS = 65_536  # tokenized by one call: its outcome becomes Python's in a millisecond or two, under the GIL
_PART_CHARACTERS = 8_192  # of a long text at least, or as many as `_CHARACTERS_PER_TOKEN` says
_CHARACTERS_PER_TOKEN = 32
_SHORT_CHARACTERS = 256  # of a text, up to which the places of its tokens cost less than a call for several texts
_SPARE_TOKENS = 64  # beyond the limit, before what is left of a text is passed over


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of some texts, special tokens included, cut at the limit."""

    token_ids: tuple[NDArray[np.int32], ...]  # each (n_i,), n_i <= max_tokens
    num_tokens: tuple[int, ...]  # before cutting
    at_least: frozenset[int] = frozenset()  # positions of texts that were not tokenized whole: they may have more

    def count(self, position: int) -> str:
        """A text's tokens in words."""
        return f"{self.num_tokens[position]}{' or more' * (position in self.at_least)}"


class UnbrokenTextError(Exception):
    """A part of a text that can only be tokenized at once is longer than the caller wants."""

    def __init__(self, position: int, characters: int) -> None:
        super().__init__(position, characters)
        self.position = position
        self.characters = characters


@dataclass(frozen=True)
class TokenPiece:
    """One token of a text."""

    id: int
    text: str  # as the vocabulary spells it
    special: bool
    start: int  # characters of the text that it stands for
    stop: int


@dataclass(frozen=True)
class WholeText:
    """A text of any length in tokens; the model reads `head`, some of `ids`, and `tail`."""

    head: NDArray[np.int32]  # special tokens, and the prompt's
    ids: NDArray[np.int32]  # (n,) the text's own
    tail: NDArray[np.int32]  # special tokens
    ends: list[int]  # (n,) for each the character behind it, never falling; none where only ids were known

    def room(self, max_tokens: int) -> int:
        """Tokens of the text that fit into `max_tokens`."""
        return max_tokens - len(self.head) - len(self.tail)

    def part(self, start: int, end: int) -> NDArray[np.int32]:
        """Some of its tokens between head and tail."""
        return np.concatenate([self.head, self.ids[start:end], self.tail])


class TextTokenizer:
    """A tokenizer.json with a limit on tokens. Several threads may use it at once.

    Args:
        path: of the tokenizer.json.
        max_tokens: where texts are cut.
        num_rows: of the model's token table, for `check`; None where no model is known.
        rules: what is done to the ids before they are run, for `shaped`; a table's say how much of a text is read, too.
        before_library: as `TokenIds` takes it.

    Raises:
        BundleFormatError: it cannot be read.
    """

    def __init__(
        self,
        path: Path,
        max_tokens: int,
        num_rows: int | None = None,
        rules: TextRules | TableRules | None = None,
        before_library: Callable[[], object] = lambda: None,
    ) -> None:
        self._ids = TokenIds(path, before_library)
        self.max_tokens = max_tokens
        self.num_rows = num_rows
        self._rules = rules
        self._table = rules if isinstance(rules, TableRules) else None
        self._surrounded = self._ids.special()
        self._prefix, self._suffix = self._surrounded or ([], [])
        self._cuts = cache(partial(_prove, self._ids))  # tried when the first long text comes

    def limited(self, max_tokens: int) -> TextTokenizer:
        """The same tokenizer with another limit."""
        if max_tokens == self.max_tokens:
            return self
        other = copy.copy(self)
        other.max_tokens = max_tokens
        return other

    def __call__(
        self, texts: Sequence[str], *, cut: bool = True, keep_end: bool = False, longest_part: int | None = None
    ) -> TokenizedTexts:
        """Token ids of checked texts; releases the GIL.

        Of a text much longer than the limit no more is tokenized than is kept, where the tokenizer is known to give
        the same ids then (see `embedrt.cutting`).

        Args:
            texts: prompts included.
            cut: without it, texts over the limit stay whole.
            keep_end: of texts that are cut, keep the end.
            longest_part: characters that may be tokenized at once.

        Raises:
            UnbrokenTextError: a text has a longer stretch without a place to cut it.
        """
        every: list[Ids] = []
        at_least: set[int] = set()
        if cut and (most := self._max_characters) is not None:
            texts, at_least = _cut_characters(texts, most, keep_end)
        for part in self._calls(texts):
            if cut and len(part) == 1 and self.is_long(texts[part[0]]):
                ids, more = self._enough_ids(texts[part[0]], part[0], keep_end, longest_part)
                every.append(ids)
                at_least.update(part if more else ())
            else:
                every += self._ids.several([texts[k] for k in part])
        rows = [self.cut(ids, keep_end=keep_end) if cut else ids for ids in every]
        counts = list(map(len, every))
        for k in at_least:
            counts[k] = max(counts[k], self.max_tokens + 1)
        return TokenizedTexts(tuple(rows), tuple(counts), frozenset(at_least))

    @property
    def _max_characters(self) -> int | None:
        """Of a text that is cut, what is read at all."""
        each = None if self._table is None else self._table.characters_per_token
        return None if each is None else each * self.max_tokens

    def short_ids(self, text: str) -> Ids | None:
        """Ids of a checked text, not cut, for less than a call for several costs, which sees to threads.

        None where it is longer than that is worth, or has none or ids that `check` refuses.
        """
        if len(text) > min(_SHORT_CHARACTERS, self._max_characters or _SHORT_CHARACTERS):
            return None
        ids = self._ids.one(text)
        known = len(ids) and (self.num_rows is None or int(np.maximum.reduce(ids)) < self.num_rows)
        return ids if known else None

    @property
    def native(self) -> NativeTokenizer | None:
        """What gives the ids as they are run, for texts that it is certain of; None where there is more to it."""
        return self._ids.native if self._rules is None else None

    def is_long(self, text: str) -> bool:
        """Whether it has so many characters that it is tokenized part by part."""
        return len(text) > self.part_characters

    @property
    def part_characters(self) -> int:
        """Of the parts that long texts are tokenized in."""
        return max(_PART_CHARACTERS, _CHARACTERS_PER_TOKEN * self.max_tokens)

    def bare(self, texts: Sequence[str], *, whole: bool = False, keep_end: bool = False) -> list[tuple[Ids, bool]]:
        """Ids of checked texts without special tokens, not cut; and whether a very long text may have more.

        Of such a text there are at least as many as the limit, its last ones with `keep_end`, or all if it is to be
        `whole`.
        """
        found: list[tuple[Ids, bool]] = []
        for part in self._calls(texts):
            if len(part) == 1 and self.is_long(texts[part[0]]) and self._surrounded is not None and not whole:
                ids, more = self._enough_ids(texts[part[0]], part[0], keep_end, None)
                found.append((ids[len(self._prefix) : len(ids) - len(self._suffix)], more))
            else:
                found += [(ids, False) for ids in self._ids.several([texts[k] for k in part], special=False)]
        return found

    def beginning(self, text: str, num_tokens: int) -> str:
        """What a checked text's first tokens, so many without special ones, stand for; no more is tokenized."""
        spans = self.spans(text) if self.is_long(text) else None
        for span in spans if spans is not None else (slice(0, len(text)),):
            encoding = self._ids.library.encode(text[span], add_special_tokens=False)
            if len(encoding.ids) > num_tokens:
                return text[: span.start + encoding.offsets[num_tokens - 1][1]] if num_tokens else text[: span.start]
            num_tokens -= len(encoding.ids)
        return text

    def pair_parts(self) -> PairParts:
        """What stands around the two texts of a pair."""
        return self._ids.pair_parts()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of checked texts, not cut."""
        return [ids.tolist() for part in self._calls(texts) for ids in self._ids.several([texts[k] for k in part])]

    def _calls(self, texts: Sequence[str]) -> Iterator[range]:
        """Positions of texts to tokenize by one call; a long one by itself."""
        size = self.part_characters
        begin = characters = 0
        for k, text in enumerate(texts):
            characters += len(text)
            if k > begin and (characters > _CALL_CHARACTERS or len(text) > size):
                yield range(begin, k)
                begin, characters = k, len(text)
            if len(text) > size:
                yield range(k, k + 1)
                begin, characters = k + 1, 0
        if begin < len(texts):
            yield range(begin, len(texts))

    def spans(
        self, text: str, *, from_end: bool = False, size: int | None = None, longest: int | None = None
    ) -> Iterator[slice] | None:
        """Parts of the text whose ids, special tokens aside, make those of the whole; None: it must stay whole.

        A part with more than `longest` characters is the last, and need not be all that is left.
        """
        cuts = self._cuts()
        if cuts is None or self._surrounded is None:
            return None
        walk = cuts.spans_from_end if from_end else cuts.spans
        return walk(text, size or self.part_characters, longest)

    def _enough_ids(self, text: str, position: int, keep_end: bool, longest_part: int | None) -> tuple[Ids, bool]:
        """Ids of a long text, as many as decide what is kept of it; and whether there may be more."""
        spans = self.spans(text, from_end=keep_end, longest=longest_part)
        if spans is None:
            _check_part(text, position, longest_part)
            return self._ids.several([text])[0], False
        found: list[Ids] = []
        missing, more = self.max_tokens + _SPARE_TOKENS, False
        for span in spans:
            more = missing <= 0
            if more:
                break
            part = text[span]
            _check_part(part, position, longest_part)
            found += self._ids.several([part], special=False)
            missing -= len(found[-1])
        return self._joined(*(reversed(found) if keep_end else found)), more

    def prompt_tokens(self, prompt: str) -> int:
        """Tokens that a prompt takes in front of a text: all of its own but the closing special token."""
        return len(self._ids.one(prompt)) - min(1, len(self._suffix))

    def cut(self, ids: Ids, *, keep_end: bool = False) -> Ids:
        """Ids with their special tokens, cut at the limit as transformers does: on the right, or on the left."""
        if len(ids) <= self.max_tokens:
            return ids
        room = self.max_tokens - len(self._suffix)
        suffix = np.array(self._suffix, np.int32)
        if not keep_end:
            return np.concatenate([ids[:room], suffix])
        head = self._prefix[:room]
        body = ids[len(head) : len(ids) - len(suffix)]
        return np.concatenate([np.array(head, np.int32), body[len(body) - (room - len(head)) :], suffix])

    def _joined(self, *parts: Ids) -> Ids:
        """A text's ids, of its parts' without special tokens."""
        return np.concatenate([np.array(self._prefix, np.int32), *parts, np.array(self._suffix, np.int32)])

    def shaped(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Ids as the encoder was trained to read them."""
        return ids if self._rules is None else self._rules.shaped(ids)

    def whole(self, texts: Sequence[str], prompt: str) -> list[WholeText]:
        """Checked texts with the places of their tokens, behind a prompt, not cut."""
        return [
            self._whole(encoding, len(prompt))
            for encoding in self._ids.library.encode_batch([prompt + t for t in texts])
        ]

    def whole_ids(self, ids: NDArray[np.int32]) -> WholeText:
        """Ids of a text without prompt, special tokens included, as `whole` has them but for the ends."""
        begin, stop = len(self._prefix), len(ids) - len(self._suffix)
        return WholeText(ids[:begin], ids[begin:stop], ids[stop:], [])

    def _whole(self, encoding: Any, skip: int) -> WholeText:
        """`skip` characters are the prompt's."""
        ids, stop = np.array(encoding.ids, dtype=np.int32), len(encoding.ids) - len(self._suffix)
        ends = list(accumulate((end for _, end in encoding.offsets[len(self._prefix) : stop]), max))
        first = bisect_right(ends, skip) if skip else 0
        begin = len(self._prefix) + first
        return WholeText(ids[:begin], ids[begin:stop], ids[stop:], [end - skip for end in ends[first:]])

    def check(self, ids: NDArray[np.int32], index: int | None = None) -> None:
        """Refuse ids that the model cannot run, before they are in a batch with others.

        Raises:
            NoTokensError: there are none, and the model has no vector for that.
            TokenIdError: one of them has no row in the model's table.
        """
        if not len(ids):
            if self._table is not None:
                return
            raise NoTokensError(
                "has no tokens, and this model's tokenizer adds none of its own; leave it out, or give it a prompt",
                index=index,
            )
        # Read as unsigned, a negative id is a large one.
        if self.num_rows is not None and (highest := int(np.maximum.reduce(ids.view(np.uint32)))) >= self.num_rows:
            worst = highest if highest < 1 << 31 else highest - (1 << 32)
            token = self._ids.library.id_to_token(worst) if worst >= 0 else None
            called = f" ({token!r})" if token is not None else ""
            raise TokenIdError(
                f"has token {worst}{called}, the model's table has {self.num_rows} rows; the tokenizer does not "
                "belong to these weights: export the bundle again, or leave the text out",
                index=index,
            )

    def with_special(self, ids: list[int]) -> list[int]:
        """Ids of a text between the special tokens; unchanged where they are there already."""
        has_prefix = ids[: len(self._prefix)] == self._prefix
        has_suffix = not self._suffix or ids[-len(self._suffix) :] == self._suffix
        whole = has_prefix and has_suffix and len(ids) >= len(self._prefix) + len(self._suffix)
        return ids if whole else self._prefix + ids + self._suffix

    def without_special(self, ids: list[int]) -> list[int]:
        """Ids of a text without the special tokens before and after it."""
        return ids[len(self._prefix) : len(ids) - len(self._suffix)]

    def spell(self, ids: Sequence[int]) -> list[str]:
        """Tokens as the vocabulary has them; "" where it has none of that id."""
        return [self._ids.library.id_to_token(i) or "" for i in ids]

    def pieces(self, text: str, *, special: bool = True) -> list[TokenPiece]:
        """The tokens of a checked text, one by one, not cut."""
        found = self._ids.library.encode(text, add_special_tokens=special)
        rows = zip(found.ids, found.tokens, found.special_tokens_mask, found.offsets, strict=True)
        return [TokenPiece(i, token, bool(mark), begin, end) for i, token, mark, (begin, end) in rows]

    def special_pieces(self) -> tuple[list[TokenPiece], list[TokenPiece]]:
        """The special tokens before and after every text."""
        before, after = (
            [TokenPiece(i, self._ids.library.id_to_token(i), True, 0, 0) for i in ids]
            for ids in (self._prefix, self._suffix)
        )
        return before, after

    def decode_all(self, rows: Sequence[Sequence[int]], *, skip_special: bool = True) -> list[str]:
        """The texts of several lists of token ids; releases the GIL, but while it reads a list."""
        found: list[str] = self._ids.library.decode_batch(list(rows), skip_special_tokens=skip_special)
        return found

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of token ids."""
        return str(self._ids.library.decode(list(ids), skip_special_tokens=skip_special))


def _prove(ids: TokenIds) -> Cuts | None:
    return prove(ids.pipeline, partial(ids.several, special=False))


def _cut_characters(texts: Sequence[str], most: int, keep_end: bool) -> tuple[list[str], set[int]]:
    """Texts of so many characters, and the positions of those that had more: they count as over the limit of tokens,
    whose measure in characters this is."""
    longer = {k for k, text in enumerate(texts) if len(text) > most}
    part = slice(-most, None) if keep_end else slice(most)
    return [text[part] if k in longer else text for k, text in enumerate(texts)], longer


def _check_part(part: str, position: int, longest: int | None) -> None:
    if longest is not None and len(part) > longest:
        raise UnbrokenTextError(position, len(part))
