"""Texts to token ids, exactly as the model's own tokenizer.json says; checks and truncation explicit."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from embedrt.errors import BundleFormatError, InputError, InputTypeError, NoTokensError, TokenIdError

_WINDOW_OVERLAP = 8  # windows share a part of this many with the next
_MISSING = ("NAType", "NaTType")  # pandas.NA and pandas.NaT


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of some texts, special tokens included, cut at the limit."""

    token_ids: tuple[NDArray[np.int32], ...]  # each (n_i,), n_i <= max_tokens
    num_tokens: tuple[int, ...]  # before cutting


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
    ends: list[int]  # (n,) for each the character behind it, never falling

    def room(self, max_tokens: int) -> int:
        """Tokens of the text that fit into `max_tokens`."""
        return max_tokens - len(self.head) - len(self.tail)

    def part(self, start: int, end: int) -> NDArray[np.int32]:
        """Some of its tokens between head and tail."""
        return np.concatenate([self.head, self.ids[start:end], self.tail])


def spread(num_tokens: int, room: int) -> list[tuple[int, int]]:
    """Windows over a long text's tokens: as few as can be, of one length, an eighth of `room` shared with the next.

    Of one length, because a short last window would be a vector of a few words without their context.
    """
    if num_tokens <= room:
        return [(0, num_tokens)]
    overlap = room // _WINDOW_OVERLAP
    count = math.ceil((num_tokens - overlap) / (room - overlap))
    size = math.ceil((num_tokens + (count - 1) * overlap) / count)
    starts = [k * (num_tokens - size) // (count - 1) for k in range(count)]
    return [(start, start + size) for start in starts]


def check_text(text: object, index: int | None) -> str:
    """`text` as a plain string, if it can be tokenized. Values of Arrow arrays are strings as well.

    Raises:
        InputTypeError: not a string.
        InputError: lone surrogates, which no encoding of Unicode can carry.
    """
    if type(text) is not str:
        text = _plain_string(text, index)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise InputError(
                f"has a lone surrogate at character {exc.start} and is no valid Unicode; "
                "repair it with text.encode('utf-8', 'replace').decode()",
                index=index,
            ) from exc
    return text


def _plain_string(value: object, index: int | None) -> str:
    """What is not quite a `str`: numpy's, other subclasses (which may add and compare in their own way), Arrow's."""
    as_py = getattr(value, "as_py", None)  # of pyarrow's scalars
    value = as_py() if callable(as_py) else value
    if isinstance(value, str):
        return str.__str__(value)
    missing = value is None or type(value).__name__ in _MISSING or (isinstance(value, float) and math.isnan(value))
    hint = '; a missing value has no vector: fill it with "", or leave it out' if missing else ""
    raise InputTypeError(f"must be a string, not {type(value).__name__}{hint}", index=index)


class TextTokenizer:
    """A tokenizer.json with a limit on tokens. Several threads may use it at once.

    Args:
        path: of the tokenizer.json.
        max_tokens: where texts are cut.
        num_rows: of the model's token table, for `check`; None where no model is known.
    """

    def __init__(self, path: Path, max_tokens: int, num_rows: int | None = None) -> None:
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as exc:  # tokenizers raises plain Exception
            raise BundleFormatError(f"{path} cannot be read by tokenizers {tokenizers.__version__}: {exc}") from exc
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer: Any = tokenizer
        self.max_tokens = max_tokens
        self.num_rows = num_rows
        self._prefix, self._suffix = self._special_tokens()

    def limited(self, max_tokens: int) -> TextTokenizer:
        """The same tokenizer with another limit."""
        if max_tokens == self.max_tokens:
            return self
        other = copy.copy(self)
        other.max_tokens = max_tokens
        return other

    def __call__(self, texts: Sequence[str], *, cut: bool = True) -> TokenizedTexts:
        """Token ids of checked texts; releases the GIL. Without `cut`, those over the limit stay whole."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        every = [encoding.ids for encoding in encodings]
        kept = map(self.cut, every) if cut else (np.array(ids, dtype=np.int32) for ids in every)
        return TokenizedTexts(tuple(kept), tuple(map(len, every)))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of checked texts, not cut."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def prompt_tokens(self, prompt: str) -> int:
        """Tokens that a prompt takes in front of a text: all of its own but the closing special token."""
        return len(self._tokenizer.encode(prompt)) - min(1, len(self._suffix))

    def cut(self, ids: list[int], *, keep_end: bool = False) -> NDArray[np.int32]:
        """Ids with their special tokens, cut at the limit as transformers does: on the right, or on the left."""
        if len(ids) > self.max_tokens:
            room = self.max_tokens - len(self._suffix)
            if keep_end:
                head = self._prefix[:room]
                body = ids[len(head) : len(ids) - len(self._suffix)]
                ids = head + body[len(body) - (room - len(head)) :] + self._suffix
            else:
                ids = ids[:room] + self._suffix
        return np.array(ids, dtype=np.int32)

    def whole(self, texts: Sequence[str], prompt: str) -> list[WholeText]:
        """Checked texts with the places of their tokens, behind a prompt, not cut."""
        return [
            self._whole(encoding, len(prompt)) for encoding in self._tokenizer.encode_batch([prompt + t for t in texts])
        ]

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
            NoTokensError: there are none.
            TokenIdError: one of them has no row in the model's table.
        """
        if not len(ids):
            raise NoTokensError(
                "has no tokens, and this model's tokenizer adds none of its own; leave it out, or give it a prompt",
                index=index,
            )
        # Read as unsigned, a negative id is a large one.
        if self.num_rows is not None and (highest := int(np.maximum.reduce(ids.view(np.uint32)))) >= self.num_rows:
            worst = highest if highest < 1 << 31 else highest - (1 << 32)
            token = self._tokenizer.id_to_token(worst) if worst >= 0 else None
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

    def pieces(self, text: str, *, special: bool = True) -> list[TokenPiece]:
        """The tokens of a checked text, one by one, not cut."""
        found = self._tokenizer.encode(text, add_special_tokens=special)
        rows = zip(found.ids, found.tokens, found.special_tokens_mask, found.offsets, strict=True)
        return [TokenPiece(i, token, bool(mark), begin, end) for i, token, mark, (begin, end) in rows]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of token ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special))

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text: what surrounds the bare ids of a probe text."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole: list[int] = self._tokenizer.encode("a").ids
        for start in range(len(whole) - len(bare), -1, -1):
            if whole[start : start + len(bare)] == bare:
                return whole[:start], whole[start + len(bare) :]
        return [], []
