"""Texts to token ids, exactly as the model's own tokenizer.json says; checks and truncation explicit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from embedrt.errors import BundleFormatError, InputError, InputTypeError


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of some texts, special tokens included, cut at the limit."""

    token_ids: tuple[NDArray[np.int32], ...]  # each (n_i,), n_i <= max_tokens
    num_tokens: tuple[int, ...]  # before cutting


def check_text(text: object, index: int | None) -> str:
    """`text` if it can be tokenized.

    Raises:
        InputTypeError: not a string.
        InputError: lone surrogates, which no encoding of Unicode can carry.
    """
    if not isinstance(text, str):
        raise InputTypeError(f"must be a string, not {type(text).__name__}", index=index)
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


class TextTokenizer:
    """A tokenizer.json with a limit on tokens. Several threads may use it at once."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as exc:  # tokenizers raises plain Exception
            raise BundleFormatError(f"{path} cannot be read by tokenizers {tokenizers.__version__}: {exc}") from exc
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer: Any = tokenizer
        self.max_tokens = max_tokens
        self._suffix = self._special_suffix()

    def __call__(self, texts: Sequence[str]) -> TokenizedTexts:
        """Token ids of checked texts; releases the GIL."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        num_tokens = tuple(len(encoding) for encoding in encodings)
        return TokenizedTexts(tuple(self._cut(encoding.ids) for encoding in encodings), num_tokens)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of checked texts, not cut."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def prompt_tokens(self, prompt: str) -> int:
        """Tokens that a prompt takes in front of a text: all of its own but the closing special token."""
        return len(self._tokenizer.encode(prompt)) - min(1, len(self._suffix))

    def _cut(self, ids: list[int]) -> NDArray[np.int32]:
        """The first tokens and the closing special tokens, as transformers truncates on the right."""
        if len(ids) > self.max_tokens:
            ids = ids[: self.max_tokens - len(self._suffix)] + self._suffix
        return np.array(ids, dtype=np.int32)

    def _special_suffix(self) -> list[int]:
        """The special tokens after a text: what follows the bare ids of a probe text."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole: list[int] = self._tokenizer.encode("a").ids
        for start in range(len(whole) - len(bare), -1, -1):
            if whole[start : start + len(bare)] == bare:
                return whole[start + len(bare) :]
        return []
