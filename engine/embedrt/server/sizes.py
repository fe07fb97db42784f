"""What a request becomes, in tokens and bytes, reckoned before the work. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedrt.server.errors import ServeError

# Bytes of an answer per number: orjson writes no float32 longer than "-0.00000123456789," (those with an exponent are
# shorter), and base64 writes 4 bytes as 16/3.
FLOAT_BYTES = 18.0
BASE64_BYTES = 16 / 3
WEIGHT_BYTES = 28 + FLOAT_BYTES  # of one weight of a sparse vector: {"index":250001,"value":0.12345678},
_ROW_BYTES = 80  # of an answer, besides a vector's numbers: brackets, or OpenAI's fields around them
_ARRAY_BYTES = 256  # of a numpy array besides what is in it, twice: its token ids and its vector
_VALUE_BYTES = 40  # of a number or a short string as a Python object, and of its place in a list


@dataclass(frozen=True)
class Size:
    """A request between tokenizing and running."""

    tokens: int  # that the model runs
    held: int  # bytes of token ids and of the rows that come out
    answer: int  # bytes at most


@dataclass(frozen=True)
class SizeLimits:
    """Of one request."""

    tokens: int  # the setting request_tokens
    answer: int  # the setting answer_mb in bytes

    def check(self, size: Size) -> None:
        """Refuse what is too much: ServeError, 413."""
        if size.tokens > self.tokens:
            raise too_many_tokens(str(size.tokens), self.tokens)
        if size.answer > self.answer:
            raise ServeError(
                "too_large",
                f"an answer may have {self.answer} bytes, this one would have up to {size.answer}; split the request, "
                "ask for base64 or fewer dimensions where that is possible, or raise answer_mb",
            )


def too_many_tokens(count: str, limit: int) -> ServeError:
    """The error for a request of more tokens than it may have."""
    return ServeError(
        "too_large", f"a request may have {limit} tokens, this has {count}; split it, or raise request_tokens"
    )


def size_of_rows(lengths: Sequence[int], row_of: Sequence[int], width: int, *, written: int, each: float) -> Size:
    """Of a request that gets a vector per input.

    Args:
        lengths: tokens of each different input, cut, or of each window of them.
        row_of: for each input its place among the different ones.
        width: numbers of a vector as the model gives it.
        written: numbers of a vector as it is answered.
        each: bytes per number of the answer; 0 where vectors are not in it.
    """
    tokens = sum(lengths)
    held = tokens * 4 + len(lengths) * (width * 4 + _ARRAY_BYTES)
    return Size(tokens, held, round(len(row_of) * (written * each + _ROW_BYTES)))


def size_of_tokens(lengths: Sequence[int], row_of: Sequence[int], width: int) -> Size:
    """Of a request that gets a vector of `width` numbers per token, in JSON."""
    tokens = sum(lengths)
    held = tokens * 4 + tokens * width * 4 + len(lengths) * _ARRAY_BYTES
    return Size(tokens, held, round(sum(lengths[row] for row in row_of) * (width * FLOAT_BYTES + 2)))


def size_of_weights(
    lengths: Sequence[int], row_of: Sequence[int], most: Sequence[int], room: float | None = None
) -> Size:
    """Of a request that gets a sparse vector per input.

    Args:
        lengths: tokens of each different input.
        row_of: for each input its place among the different ones.
        most: weights that each different input may have.
        room: bytes of an answer, where inputs may have far more weights than they do, so that they are counted as they
            come and the request ends there; None where `most` is near enough.
    """
    tokens, weights = sum(lengths), sum(most)
    answer = round(sum(most[row] * WEIGHT_BYTES + _ROW_BYTES for row in row_of))
    if room is not None:
        weights, answer = min(weights, round(room / WEIGHT_BYTES)), min(answer, round(room))
    return Size(tokens, tokens * 4 + weights * 8 + len(lengths) * _ARRAY_BYTES, answer)


def size_of_values(num_bytes: int, num_values: int, *, plain: bool) -> int:
    """Bytes of what a JSON body becomes as Python objects.

    Args:
        num_bytes: of the body.
        num_values: that it has at most.
        plain: ASCII without escapes. Else one rare character lets all of a text take four bytes each.
    """
    return num_bytes * (1 if plain else 4) + num_values * _VALUE_BYTES
