"""Texts over the limit, read in windows: what is run for one of them, and the one row that comes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError
from embedrt.pooling import l2_normalize
from embedrt.tokenization import TextTokenizer

_WINDOW_OVERLAP = 8  # windows share a part of this many with the next


class Parts(NamedTuple):
    """A text as the encoder reads it: one part where it fits, else windows."""

    ids: list[NDArray[np.int32]]  # each within the limit, special tokens and prompt included
    weights: list[int]  # of the parts' rows in the text's


def parts_of(tokenizer: TextTokenizer, ids: NDArray[np.int32], text: str = "", prompt: str = "") -> Parts:
    """A text's parts.

    Args:
        tokenizer: with the limit.
        ids: of prompt and text, not cut.
        text: needed where there is a prompt, which goes before every window.

    Raises:
        OptionError: prompt and special tokens leave no room for text.
    """
    limit = tokenizer.max_tokens
    if len(ids) <= limit:
        return Parts([ids], [len(ids)])
    whole = tokenizer.whole([text], prompt)[0] if prompt else tokenizer.whole_ids(ids)
    if (room := whole.room(limit)) < 1:
        fills = len(whole.head) + len(whole.tail)
        raise OptionError(f"the prompt and special tokens fill the {limit} tokens that a window may have ({fills})")
    spans = spread(len(whole.ids), room)
    return Parts([whole.part(a, b) for a, b in spans], [b - a for a, b in spans])


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


def joined(rows: Sequence[NDArray[Any]], weights: Sequence[int], *, normalize: bool) -> NDArray[Any]:
    """A text's row (D,): the mean of its parts', each with the weight of its own tokens."""
    if len(rows) == 1:
        return rows[0]
    shares = np.array(weights, dtype=np.float32)
    mean: NDArray[Any] = np.add.reduce(np.stack(rows) * (shares / shares.sum())[:, None], axis=0)
    return l2_normalize(mean) if normalize else mean
