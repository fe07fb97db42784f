"""Late interaction: the score of two texts out of the vectors of their tokens.

MaxSim: for each token of the query the largest dot product with a token of the document, summed (Khattab and Zaharia,
2020, arXiv:2004.12832).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError
from embedrt.tensors import as_array

Floats = NDArray[np.float32]

_BLOCK_NUMBERS = 1 << 22  # token similarities that are in memory at once: 16 MB
_QUERY_TOKENS = 4096
MAXSIM, MEAN_MAXSIM = "maxsim", "meanmaxsim"
SIMILARITIES = (MAXSIM, MEAN_MAXSIM)


def maxsim(queries: Any, documents: Any, *, mean: bool = False) -> Floats:
    """Scores (N, M) of queries with documents, a block of documents at a time.

    Args:
        queries, documents: arrays (n, D) of any lengths, one per text; a single array is one text.
        mean: divide each score by the number of the query's tokens (MeanMaxSim).

    Returns:
        float32; with a document without tokens -inf, or 0 where the query has none either.

    Raises:
        OptionError: what is given is no vectors of tokens, or their dimensions differ.
    """
    asked, given = token_rows(queries, "queries"), token_rows(documents, "documents")
    _check_widths(asked, given)
    out = np.zeros((len(asked), len(given)), np.float32)
    lengths = [len(document) for document in given]
    for some in _blocks([len(query) for query in asked], _QUERY_TOKENS):
        rows = sum(len(asked[i]) for i in some)
        for block in _blocks(lengths, _BLOCK_NUMBERS // max(1, rows)):
            out[some.start : some.stop, block.start : block.stop] = _scores(
                asked[some.start : some.stop], given[block.start : block.stop]
            )
    if mean:
        out /= np.array([max(1, len(query)) for query in asked], np.float32)[:, None]
    return out


def _scores(asked: Sequence[Floats], given: Sequence[Floats]) -> Floats:
    """Scores (N, M), all token similarities at once."""
    out = np.zeros((len(asked), len(given)), np.float32)
    queries = [i for i, query in enumerate(asked) if len(query)]
    documents = [k for k, document in enumerate(given) if len(document)]
    if not queries:
        return out
    rows = np.concatenate([asked[i] for i in queries])
    best = np.full((len(rows), len(given)), -np.inf, np.float32)
    if documents:
        products = rows @ np.concatenate([given[k] for k in documents]).T  # (query tokens, document tokens)
        best[:, documents] = np.maximum.reduceat(products, _starts(given, documents), axis=1)
    out[queries] = np.add.reduceat(best, _starts(asked, queries), axis=0)
    return out


def _starts(rows: Sequence[Floats], kept: Sequence[int]) -> list[int]:
    """Where the rows of those that are kept begin; reduceat wants no empty ones."""
    return [0, *accumulate(len(rows[i]) for i in kept)][:-1]


def maxsim_pairwise(queries: Any, documents: Any, *, mean: bool = False) -> Floats:
    """Scores (N,) of query i with document i; as `maxsim` gives them."""
    asked, given = token_rows(queries, "queries"), token_rows(documents, "documents")
    if len(asked) != len(given):
        raise OptionError(f"{len(asked)} queries and {len(given)} documents cannot be compared in pairs")
    pairs = zip(asked, given, strict=True)
    return np.array([maxsim(query, document, mean=mean)[0, 0] for query, document in pairs], np.float32)


def token_rows(vectors: Any, what: str) -> list[Floats]:
    """Vectors of tokens as a list of float32 arrays (n, D).

    Raises:
        OptionError: they are something else; `what` names them.
    """
    vectors = as_array(vectors)
    if isinstance(vectors, np.ndarray) and vectors.ndim == 2 and vectors.dtype.kind == "f":
        vectors = [vectors]
    try:
        rows = [np.asarray(as_array(row)) for row in vectors]
    except TypeError:
        rows = [np.empty(0)]
    for row in rows:
        if row.ndim != 2 or row.dtype.kind != "f":
            raise OptionError(
                f"{what} must be what MultiVectorEncoder.encode gives, an array (n, D) for each text, not "
                f"{type(vectors).__name__}" + (f" with an array {row.dtype} {row.shape}" if row.ndim else "")
            )
    return [row.astype(np.float32, copy=False) for row in rows]


def _check_widths(asked: Sequence[Floats], given: Sequence[Floats]) -> None:
    widths = {row.shape[1] for row in (*asked, *given)}
    if len(widths) > 1:
        raise OptionError(f"vectors of {' and '.join(map(str, sorted(widths)))} dimensions cannot be compared")


def _blocks(lengths: Sequence[int], most_tokens: int) -> Iterator[range]:
    """Runs of texts of at most so many tokens, or of one text."""
    begin = tokens = 0
    for i, length in enumerate(lengths):
        if i > begin and tokens + length > most_tokens:
            yield range(begin, i)
            begin, tokens = i, 0
        tokens += length
    if begin < len(lengths):
        yield range(begin, len(lengths))
