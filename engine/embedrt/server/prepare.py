"""From a request's inputs to token ids that fit, off the event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import TokenLimitError
from embedrt.options import EncodeOptions
from embedrt.tokenization import TextTokenizer, check_text

_SLICE_TEXTS = 256  # texts tokenized at once: a few milliseconds
_HASHED_ON_LOOP = 65_536  # characters or ids, in a fraction of a millisecond


@dataclass(frozen=True)
class Work:
    """What a request asks of a model: texts, and token ids of texts, in `inputs`."""

    inputs: Sequence[str | list[int]]
    options: EncodeOptions
    truncate: bool = True
    keep_end: bool = False  # of texts that are cut
    deadline: float = math.inf  # time.monotonic()


@dataclass(frozen=True)
class Prepared:
    """Token ids of the different inputs; `row_of[i]` is the place of input i among them."""

    token_ids: list[NDArray[np.int32]]
    row_of: list[int]
    num_tokens: list[int]  # per input, before cutting
    seconds: float  # that it took


async def prepare(tokenizer: TextTokenizer, pool: Executor, work: Work) -> Prepared:
    """Tokenize in slices, so that a small request gets its turn between those of a large one.

    Equal inputs are embedded once, as the library does it.

    Raises:
        InputError: an input cannot be tokenized, or is too long and not to be cut.
    """
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    if len(work.inputs) <= _SLICE_TEXTS and sum(map(len, work.inputs)) <= _HASHED_ON_LOOP:
        first, row_of = _different(work.inputs)
    else:
        first, row_of = await loop.run_in_executor(pool, _different, work.inputs)
    token_ids: list[NDArray[np.int32]] = []
    counts: list[int] = []
    for k in range(0, len(first), _SLICE_TEXTS):
        part = first[k : k + _SLICE_TEXTS]
        ids, lengths = await loop.run_in_executor(pool, _tokenize, tokenizer, work, part)
        token_ids += ids
        counts += lengths
    return Prepared(token_ids, row_of, [counts[row] for row in row_of], time.monotonic() - started)


def _different(inputs: Sequence[str | list[int]]) -> tuple[list[int], list[int]]:
    """The first of each sort of equal inputs, and for each input the place of its sort."""
    place: dict[object, int] = {}
    first: list[int] = []
    row_of: list[int] = []
    for i, given in enumerate(inputs):
        row = place.setdefault(tuple(given) if isinstance(given, list) else given, len(place))
        if row == len(first):
            first.append(i)
        row_of.append(row)
    return first, row_of


def _tokenize(
    tokenizer: TextTokenizer, work: Work, indices: Sequence[int]
) -> tuple[list[NDArray[np.int32]], list[int]]:
    """Ids of the inputs at `indices`, cut, and their lengths before that."""
    texts: dict[int, str] = {}  # by place in `every`
    every: list[list[int]] = [[] for _ in indices]
    for k, i in enumerate(indices):
        given = work.inputs[i]
        if isinstance(given, str):
            texts[k] = work.options.prompt + check_text(given, i)
        else:
            every[k] = tokenizer.with_special(given)
    if texts:
        for k, ids in zip(texts, tokenizer.ids(list(texts.values())), strict=True):
            every[k] = ids
    if not work.truncate:
        for i, ids in zip(indices, every, strict=True):
            if len(ids) > tokenizer.max_tokens:
                raise TokenLimitError(f"has {len(ids)} tokens, the model takes {tokenizer.max_tokens}", index=i)
    rows = [tokenizer.cut(ids, keep_end=work.keep_end) for ids in every]
    for i, row in zip(indices, rows, strict=True):
        tokenizer.check(row, i)  # here, so that no other request shares a batch with what cannot be run
    return rows, [len(ids) for ids in every]
