"""From a request's inputs to token ids that fit; off the event loop, but for those that take next to no time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.embedder import Embedder
from embedrt.errors import PictureError, TokenLimitError
from embedrt.options import EncodeOptions
from embedrt.overflow import Parts, parts_of
from embedrt.server.errors import ServeError
from embedrt.server.pool import Pool
from embedrt.server.sizes import too_many_tokens
from embedrt.text_checks import check_text
from embedrt.tokenization import TextTokenizer, UnbrokenTextError

_SLICE_TEXTS = 256  # texts tokenized at once: a few milliseconds
_SLICE_CHARACTERS = 65_536  # the same of longer texts
UNBROKEN_CHARACTERS = 262_144  # of a text without a place to cut it, or the size of the parts if that is more
WINDOWS_CHARACTERS = 262_144  # of a text that is read in windows, since all of it is tokenized at once
_HASHED_CHARACTERS = 1024
_NO_IDS = np.empty(0, np.int32)
_HASHED_ON_LOOP = 65_536  # characters or ids, in a fraction of a millisecond
_TOKENIZED_ON_LOOP = 1024  # the same: to hand them to another thread and back would cost as much


@dataclass(frozen=True)
class Work:
    """What a request asks of a model: texts, and token ids of texts, in `inputs`."""

    inputs: Sequence[str | list[int]]
    options: EncodeOptions
    truncate: bool = True
    keep_end: bool = False  # of texts that are cut
    document_tokens: int | None = None  # of a pair's second text at most
    deadline: float = math.inf  # time.monotonic()
    client: str = ""  # who asks
    owner: str = ""  # name of the key that was shown: others learn nothing of what its texts left behind
    max_pixels: int = 0  # of each input, where these are pictures as data URIs; 0: they are texts
    most_answer: float = math.inf  # bytes of its answer
    most_tokens: int | None = None  # that may come of it, windows included; None: whoever asks has seen to it


@dataclass(frozen=True)
class Prepared:
    """What is run for the different inputs; `row_of[i]` is the place of input i among them."""

    token_ids: list[NDArray[Any]]  # or patches of pictures
    row_of: list[int]
    num_tokens: list[int]  # per input, before cutting
    seconds: float  # that it took
    weights: list[list[int]] | None = None  # of each one's windows, which lie in `token_ids` in turn; None: one each

    def used_tokens(self, limit: int) -> int:
        """Tokens that the model sees: cut at `limit`, or windows with what they share; equal inputs count each time."""
        if self.weights is None:
            return sum([min(count, limit) for count in self.num_tokens])
        rest = map(len, self.token_ids)
        read = [sum(islice(rest, len(those))) for those in self.weights]
        return sum([read[row] for row in self.row_of])


async def prepare(tokenizer: TextTokenizer, pool: Pool, work: Work) -> Prepared:
    """Tokenize in slices, so that a request gets its turn between those of a large one; a small one at once.

    Equal inputs are embedded once, as the library does it.

    Raises:
        InputError: an input cannot be tokenized, or is too long and not to be cut.
    """
    started = time.monotonic()
    characters = sum(map(len, work.inputs)) + len(work.inputs) * len(work.options.prompt)
    if len(work.inputs) <= _SLICE_TEXTS and characters <= _HASHED_ON_LOOP:
        first, row_of = _different(work.inputs)
    else:
        first, row_of = await pool.run(work.client, _different, work.inputs)
    if work.options.on_overflow == "windows":
        return await _prepare_windows(tokenizer, pool, work, first, row_of, started)
    token_ids: list[NDArray[np.int32]] = []
    counts: list[int] = []
    for part in _slices(work.inputs, first, tokenizer.part_characters):
        if characters <= _TOKENIZED_ON_LOOP:
            ids, lengths = _tokenize(tokenizer, work, part)
        else:
            ids, lengths = await pool.run(work.client, _tokenize, tokenizer, work, part)
        token_ids += ids
        counts += lengths
    return Prepared(token_ids, row_of, [counts[row] for row in row_of], time.monotonic() - started)


async def _prepare_windows(
    tokenizer: TextTokenizer, pool: Pool, work: Work, first: list[int], row_of: list[int], started: float
) -> Prepared:
    """The same, where texts over the limit are read in windows; no more is tokenized than the request may have."""
    check_lengths(work.inputs)
    token_ids: list[NDArray[np.int32]] = []
    weights: list[list[int]] = []
    counts: list[int] = []
    total = 0
    for part in _slices(work.inputs, first, WINDOWS_CHARACTERS):
        found, lengths = await pool.run(work.client, _tokenize_windows, tokenizer, work, part)
        for one in found:
            token_ids += one.ids
            weights.append(one.weights)
            total += sum(map(len, one.ids))
        counts += lengths
        if work.most_tokens is not None and total > work.most_tokens:
            raise too_many_tokens(f"{total} or more, windows included", work.most_tokens)
    return Prepared(token_ids, row_of, [counts[row] for row in row_of], time.monotonic() - started, weights)


def check_lengths(inputs: Sequence[str | list[int]]) -> None:
    """Refuse texts that are too long to be read in windows: ServeError, 413."""
    for i, given in enumerate(inputs):
        if isinstance(given, str) and len(given) > WINDOWS_CHARACTERS:
            raise ServeError(
                "too_large",
                f"text {i}: has {len(given)} characters, and a text that is read in windows may have "
                f"{WINDOWS_CHARACTERS} (windows_characters); split it, or have it cut (on_overflow: truncate)",
                param=f"input[{i}]",
            )


async def prepare_pictures(embedder: Embedder, pool: Pool, work: Work) -> Prepared:
    """Decode and resize pictures, one at a time in the pool, so that others get their turn; equal ones once.

    Raises:
        PictureError: one cannot be read, or has more than `work.max_pixels` pixels.
    """
    started = time.monotonic()
    first, row_of = await pool.run(work.client, _different, work.inputs)
    patches = []
    for i in first:
        try:
            read = partial(embedder.prepare_picture, str(work.inputs[i]), max_pixels=work.max_pixels)
            patches.append(await pool.run(work.client, read))
        except PictureError as exc:
            raise PictureError(exc.reason, index=i) from exc
    count = embedder.picture_rows
    return Prepared(patches, row_of, [count] * len(row_of), time.monotonic() - started)


def _slices(inputs: Sequence[str | list[int]], indices: Sequence[int], most: int) -> Iterator[list[int]]:
    """The indices in slices of not too many texts and characters; of each text at most so many are tokenized."""
    part: list[int] = []
    characters = 0
    for i in indices:
        size = min(len(inputs[i]), most)
        if part and (len(part) == _SLICE_TEXTS or characters + size > _SLICE_CHARACTERS):
            yield part
            part, characters = [], 0
        part.append(i)
        characters += size
    if part:
        yield part


def _different(inputs: Sequence[str | list[int]]) -> tuple[list[int], list[int]]:
    """The first of each sort of equal inputs, and for each input the place of its sort."""
    place: dict[object, int] = {}
    first: list[int] = []
    row_of: list[int] = []
    for i, given in enumerate(inputs):
        row = place.setdefault(_key(given), len(place))
        if row == len(first):
            first.append(i)
        row_of.append(row)
    return first, row_of


class _Long:
    """A long text among the keys of a dict: told from others by comparing, and not by a hash over all of it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __hash__(self) -> int:
        return hash((len(self.text), self.text[:_HASHED_CHARACTERS], self.text[-_HASHED_CHARACTERS:]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Long) and self.text == other.text


def _key(given: str | list[int]) -> object:
    if isinstance(given, list):
        return tuple(given)
    return given if len(given) <= 2 * _HASHED_CHARACTERS else _Long(given)


def _tokenize(
    tokenizer: TextTokenizer, work: Work, indices: Sequence[int]
) -> tuple[list[NDArray[np.int32]], list[int]]:
    """Ids of the inputs at `indices`, cut, and their lengths before that."""
    if (short := _tokenize_short(tokenizer, work)) is not None:
        return [short[0]], [short[1]]
    rows: list[NDArray[np.int32]] = [_NO_IDS] * len(indices)
    counts = [0] * len(indices)
    places = [k for k, i in enumerate(indices) if isinstance(work.inputs[i], str)]
    texts = [work.options.prompt + check_text(work.inputs[indices[k]], indices[k]) for k in places]
    longest = max(UNBROKEN_CHARACTERS, tokenizer.part_characters)
    try:
        done = tokenizer(texts, keep_end=work.keep_end, longest_part=longest)
    except UnbrokenTextError as exc:
        raise unbroken(indices[places[exc.position]], exc.characters, longest) from exc
    for position, k in enumerate(places):
        rows[k], counts[k] = done.token_ids[position], done.num_tokens[position]
    for k, i in enumerate(indices):
        given = work.inputs[i]
        if isinstance(given, list):
            ids = np.array(tokenizer.with_special(given), np.int32)
            rows[k], counts[k] = tokenizer.cut(ids, keep_end=work.keep_end), len(ids)
    more = {places[position] for position in done.at_least}
    for k, i in enumerate(indices):
        if not work.truncate and counts[k] > tokenizer.max_tokens:
            many = f"{counts[k]}{' or more' * (k in more)}"
            raise TokenLimitError(f"has {many} tokens, the model takes {tokenizer.max_tokens}", index=i)
        tokenizer.check(rows[k], i)  # here, so that no other request shares a batch with what cannot be run
    return rows, counts


def _tokenize_short(tokenizer: TextTokenizer, work: Work) -> tuple[NDArray[np.int32], int] | None:
    """The same of one short text, in a third of the time; None where it is another work, or something is wrong."""
    if len(work.inputs) > 1 or not isinstance(given := work.inputs[0], str):
        return None
    ids = tokenizer.short_ids(work.options.prompt + check_text(given, 0))
    if ids is None or (len(ids) > tokenizer.max_tokens and not work.truncate):
        return None
    return tokenizer.cut(ids, keep_end=work.keep_end), len(ids)


def _tokenize_windows(tokenizer: TextTokenizer, work: Work, indices: Sequence[int]) -> tuple[list[Parts], list[int]]:
    """What is run for the inputs at `indices`, as the library has it, and their tokens."""
    prompt = work.options.prompt
    found: list[Parts] = []
    counts: list[int] = []
    for i in indices:
        given = work.inputs[i]
        if isinstance(given, str):
            text = check_text(given, i)
            (ids,) = tokenizer([prompt + text], cut=False).token_ids
        else:
            text, ids = "", np.array(tokenizer.with_special(given), np.int32)
        tokenizer.check(ids, i)
        found.append(parts_of(tokenizer, ids, text, prompt))
        counts.append(len(ids))
    return found, counts


def unbroken(index: int, characters: int, limit: int) -> ServeError:
    """The error for a text with a stretch that would have to be tokenized at once and is too long for that."""
    return ServeError(
        "too_large",
        f"text {index}: {characters} characters have no single space or newline between letters or digits where a text "
        f"can be cut, and the limit (unbroken_characters) is {limit}; split the text",
        param=f"input[{index}]",
    )
