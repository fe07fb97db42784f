"""The pairs of texts that a reranker's parity is measured on, and how a bundle keeps the reference's logits of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.errors import BundleFormatError, BundleIntegrityError
from embedrt.pairs import Pair
from embedrt.parity.texts import builtin_texts

PAIRS_FILE, LOGITS_FILE = "parity/pairs.json", "parity/logits.npy"
NUM_QUERIES, NUM_DOCUMENTS = 10, 14
_ORDINARY = 140  # of the built-in texts: sentences in many languages, with translations and paraphrases
_QUERY_CHARACTERS = 60
_LONG_CHARACTERS = 8_000


@cache
def builtin_pairs() -> tuple[Pair, ...]:
    """Each of `NUM_QUERIES` queries with each of `NUM_DOCUMENTS` documents, query by query, then what breaks things.

    Queries and documents are of many languages and lengths; behind them stand empty texts, and texts far over a
    model's limit on either side and on both.
    """
    texts = builtin_texts()
    short = [text for text in texts[:_ORDINARY] if len(text) <= _QUERY_CHARACTERS]
    queries = [short[k] for k in np.linspace(0, len(short) - 1, NUM_QUERIES).astype(int)]
    others = [text for text in texts if text.strip() and len(text) <= 1200 and text not in queries]
    documents = [others[k] for k in np.linspace(0, len(others) - 1, NUM_DOCUMENTS).astype(int)]
    long = max((text for text in texts if len(text) <= _LONG_CHARACTERS), key=len)
    other = " ".join(reversed(long.split()))
    extremes = (("", documents[0]), (queries[0], ""), (queries[0], long), (long, documents[0]), (long, other))
    return (*((query, document) for query in queries for document in documents), *extremes)


def write_pairs(root: Path, pairs: tuple[Pair, ...], logits: NDArray[np.float32]) -> None:
    """Keep the reference's logits (N, L) of the pairs."""
    (root / PAIRS_FILE).parent.mkdir(parents=True, exist_ok=True)
    (root / PAIRS_FILE).write_text(json.dumps(pairs, indent=0) + "\n", encoding="ascii")
    np.save(root / LOGITS_FILE, np.ascontiguousarray(logits, dtype=np.float32), allow_pickle=False)


def read_pairs(bundle: Bundle) -> tuple[list[Pair], NDArray[np.float32]]:
    """The pairs that a bundle keeps, and the reference's logits (N, L).

    Raises:
        BundleIntegrityError: it lacks them.
        BundleFormatError: they are not what they must be.
    """
    try:
        pairs = json.loads(bundle.path(PAIRS_FILE).read_text(encoding="utf-8"))
        logits = np.load(bundle.path(LOGITS_FILE), allow_pickle=False)
    except FileNotFoundError as exc:
        raise BundleIntegrityError(
            f"{bundle.root} lacks {Path(str(exc.filename)).relative_to(bundle.root)}; export the bundle again"
        ) from exc
    except (OSError, ValueError, EOFError) as exc:
        raise BundleFormatError(f"{bundle.root}: the parity files cannot be read: {exc}") from exc
    fits = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
    )
    if not fits or not pairs:
        raise BundleFormatError(f"{bundle.root}: {PAIRS_FILE} must be a list of pairs of strings")
    if logits.dtype != np.float32 or logits.ndim != 2 or len(logits) != len(pairs):
        raise BundleFormatError(f"{bundle.root}: {LOGITS_FILE} must be float32, a row for each of {len(pairs)} pairs")
    return [(one, two) for one, two in pairs], logits
