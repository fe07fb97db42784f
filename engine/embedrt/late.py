"""Late chunking: the encoder reads long contexts, and pieces are pooled out of them (arXiv:2409.04701)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedrt.encoding import Encoding
from embedrt.errors import NonFiniteError
from embedrt.options import EncodeOptions
from embedrt.pieces import Context, Span, plan_contexts, tokens_of
from embedrt.tokenization import WholeText


@dataclass(frozen=True)
class Split:
    """A text in tokens, and its pieces in characters."""

    whole: WholeText
    pieces: list[Span]


class _Run(NamedTuple):
    """What the encoder reads at once."""

    text: int
    context: Context
    tokens: list[Span]  # of each of the text's pieces


def late_vectors(encoding: Encoding, texts: Sequence[Split], options: EncodeOptions) -> NDArray[Any]:
    """Vectors (P, D) of all pieces in their order.

    Raises:
        InputError: the model has no row for a token; `.index` says of which text.
        NonFiniteError: a vector came out with NaN or infinity.
    """
    first = [0, *accumulate(len(text.pieces) for text in texts)]
    rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * first[-1]
    runs = [run for i, text in enumerate(texts) for run in _runs(encoding, i, text)]
    for run, hidden in _hidden(encoding, texts, runs, options):
        for place in range(*run.context.pieces):
            row = _pooled(encoding, texts[run.text], run, place, hidden, options)
            if not np.isfinite(row).all():
                raise NonFiniteError(encoding.runner.not_finite, index=run.text)
            rows[first[run.text] + place] = row
    found: NDArray[Any] = encoding.shape(rows, options, single=False)
    return found


def _runs(encoding: Encoding, index: int, text: Split) -> list[_Run]:
    whole = text.whole
    room = whole.room(encoding.settings.max_tokens)
    if len(text.pieces) == 1:  # fits, or is a prompt that fills the model: read as `encode` reads it
        room = max(room, len(whole.ids))
    tokens = [tokens_of(whole.ends, piece) for piece in text.pieces]
    return [_Run(index, context, tokens) for context in plan_contexts(tokens, len(whole.ids), room)]


def _hidden(
    encoding: Encoding, texts: Sequence[Split], runs: Sequence[_Run], options: EncodeOptions
) -> Iterator[tuple[_Run, NDArray[np.float32]]]:
    """Each run with its hidden states (n, H), head and tail included."""
    tokenizer = encoding.runner.tokenizer
    token_ids = [tokenizer.shaped(tokenizer.cut(texts[run.text].whole.part(*run.context.tokens))) for run in runs]
    for run, ids in zip(runs, token_ids, strict=True):
        tokenizer.check(ids, run.text)
    executor = encoding.runner.executor.held()
    for group, found in encoding.runner.groups(token_ids, options, executor, hidden=True):
        yield from zip((runs[k] for k in group), found, strict=True)


def _pooled(
    encoding: Encoding, text: Split, run: _Run, place: int, hidden: NDArray[np.float32], options: EncodeOptions
) -> NDArray[np.float32]:
    """The vector (D,) of one piece: of its own tokens, or of all where it is the whole text, as `encode` has it."""
    runner = encoding.runner
    is_whole = len(text.pieces) == 1
    begin = len(text.whole.head) - run.context.tokens.start
    tokens = run.tokens[place]
    rows = hidden if is_whole else hidden[begin + tokens.start : begin + tokens.end]
    (vector,) = runner.pool(rows, np.array([0, len(rows)], np.int32), options, whole=is_whole)
    return np.asarray(vector)
