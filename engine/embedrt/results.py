"""What calls give back besides arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


class TruncationWarning(UserWarning):
    """Texts were cut at the model's limit."""


@dataclass(frozen=True)
class Truncation:
    """One text that was cut."""

    index: int  # position in the caller's input
    num_tokens: int  # before cutting, prompt and special tokens included; of a very long text at least so many
    limit: int


@dataclass(frozen=True)
class SkippedText:
    """One text that could not be embedded and was left out (`on_error="skip"`)."""

    index: int
    reason: str


@dataclass(frozen=True, eq=False)
class TextPiece:
    """A piece of a text, and its vector."""

    index: int  # of the text in the caller's input
    start: int  # characters: the piece is text[start:end]
    end: int
    vector: NDArray[Any]  # (D,)


@dataclass(frozen=True)
class EncodeResult:
    """The outcome of one call."""

    embeddings: Any  # as `encode` returns them
    num_tokens: tuple[int, ...]  # per text, before cutting, prompt and special tokens included; see `Truncation`
    truncated: tuple[Truncation, ...]
    identity: str


@dataclass(frozen=True)
class EncodedBlock:
    """A run of texts out of a stream, in the stream's order."""

    start: int  # position in the stream of the first text read for this block
    num_texts: int  # texts read for it, skipped ones included
    indices: tuple[int, ...]  # position in the stream of each row
    embeddings: NDArray[Any]  # (len(indices), D); of `Model` its `Outputs`
    num_tokens: tuple[int, ...]  # per row, before cutting; see `Truncation`
    truncated: tuple[Truncation, ...]
    skipped: tuple[SkippedText, ...]


def truncations(indices: Sequence[int], num_tokens: Sequence[int], limit: int | None) -> tuple[Truncation, ...]:
    """Those of the texts that have more tokens than `limit`; none for None."""
    if limit is None or max(num_tokens, default=0) <= limit:
        return ()
    return tuple(Truncation(i, n, limit) for i, n in zip(indices, num_tokens, strict=True) if n > limit)


def truncation_message(truncated: tuple[Truncation, ...], num_texts: int) -> str:
    """One sentence on what was cut."""
    limit = truncated[0].limit
    lost = sum(t.num_tokens - t.limit for t in truncated)
    worst = max(truncated, key=lambda t: t.num_tokens)
    return (
        f"{len(truncated)} of {num_texts} texts were cut at {limit} tokens and lost {lost} tokens in all; "
        f"the longest, text {worst.index}, has {worst.num_tokens}. "
        'on_overflow="windows" reads all of them, encode_windows gives a vector per piece, on_overflow="error" refuses.'
    )
