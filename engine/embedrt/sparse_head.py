"""Hidden states of texts to sparse vectors: the words of a masked language model, or a weight per token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.errors import BundleFormatError
from embedrt.executors.mapped import map_tensors
from embedrt.executors.words import NativeWords, WordPooling
from embedrt.heads import SparseHead, WeightHead, WordHead
from embedrt.loading import LoadedModel
from embedrt.machine import available_threads
from embedrt.manifest import BF16
from embedrt.sparse_vectors import SparseVector
from embedrt.words import DECODER, PREFIX, TRANSFORM, NumpyWords, Words, texts_at_once

Floats = NDArray[np.float32]
Ids = Sequence[NDArray[np.int32]]
# Hidden states (T, H) of texts at offsets (B + 1,), and their token ids -> a vector for each.
SparseRows = Callable[[Floats, NDArray[np.int32], Ids], list[SparseVector]]

_TABLE = "embeddings.word"
_POOLINGS: dict[str, WordPooling] = {
    "max": "largest",
    "max_of_twice": "largest",
    "sum": "sum",
    "sum_of_twice": "sum_of_twice",
}


@dataclass(frozen=True)
class WordRows:
    """SPLADE's: every word of the vocabulary."""

    words: Words
    pooling: str  # one of heads.WORD_POOLINGS

    def __call__(self, hidden: Floats, offsets: NDArray[np.int32], token_ids: Ids) -> list[SparseVector]:
        """As `SparseRows`; `texts_at_once` of them together."""
        del token_ids
        out: list[SparseVector] = []
        size = texts_at_once(self.words.dimension)
        for start in range(0, len(offsets) - 1, size):
            some = offsets[start : start + size + 1]
            found = self.words(hidden[some[0] : some[-1]], some - some[0], _POOLINGS[self.pooling])
            out += [self._row(row) for row in found]
        return out

    def _row(self, numbers: Floats) -> SparseVector:
        indices = np.flatnonzero(numbers > 0).astype(np.int32)
        values = numbers[indices]
        if self.pooling in ("max", "max_of_twice"):
            values = np.log1p(values)
            values = np.log1p(values) if self.pooling == "max_of_twice" else values
        return SparseVector(indices, values, self.words.dimension)


@dataclass(frozen=True)
class WeightRows:
    """BGE-M3's: the words that a text has."""

    weight: Floats  # (H,)
    bias: float
    skip: NDArray[np.int32]
    dimension: int

    def __call__(self, hidden: Floats, offsets: NDArray[np.int32], token_ids: Ids) -> list[SparseVector]:
        """As `SparseRows`."""
        return [
            self._row(hidden[begin : begin + len(ids)], ids)
            for begin, ids in zip(offsets[:-1].tolist(), token_ids, strict=True)
        ]

    def _row(self, rows: Floats, ids: NDArray[np.int32]) -> SparseVector:
        weights = np.maximum(rows @ self.weight + np.float32(self.bias), 0)
        words, places = np.unique(ids, return_inverse=True)
        largest = np.zeros(len(words), np.float32)
        np.maximum.at(largest, places, weights)
        kept = (largest > 0) & ~np.isin(words, self.skip)
        return SparseVector(words[kept].astype(np.int32), largest[kept], self.dimension)


@dataclass(frozen=True)
class TableRows:
    """The tokens that a text has, each at its weight in a table: no encoder runs."""

    weight: Floats  # (V,)

    def __call__(self, ids: NDArray[np.int32]) -> SparseVector:
        """Of one text's tokens, without special ones."""
        words = np.unique(ids)
        values = self.weight[words]
        return SparseVector(words[values != 0].astype(np.int32), values[values != 0], len(self.weight))


def load_sparse(model: LoadedModel, head: SparseHead) -> SparseRows:
    """What makes sparse vectors of a loaded model's hidden states.

    Raises:
        BundleFormatError: the bundle's tensors are not those of its head.
    """
    if head.weights is not None:
        return _load_weights(model.bundle, head.weights, head.dimension)
    assert head.words is not None
    return WordRows(_load_words(model, head.words, head.dimension), head.words.pooling)


def load_table(bundle: Bundle, head: SparseHead) -> TableRows | None:
    """What makes the vectors of queries without the encoder; None where they are read as documents are."""
    if head.table is None:
        return None
    weight = _arrays(bundle, head.table)["weight"]
    _check(bundle, weight.shape == (head.dimension,), head.table)
    return TableRows(weight)


def _load_weights(bundle: Bundle, head: WeightHead, dimension: int) -> WeightRows:
    arrays = _arrays(bundle, head.path)
    hidden = bundle.manifest.architecture.hidden_size
    _check(bundle, arrays["weight"].shape == (1, hidden) and arrays["bias"].shape == (1,), head.path)
    return WeightRows(arrays["weight"][0], float(arrays["bias"][0]), np.array(head.skip, np.int32), dimension)


def _load_words(model: LoadedModel, head: WordHead, dimension: int) -> Words:
    """On the native module where the encoder runs there, else in numpy."""
    bundle, variant = model.bundle, model.bundle.variant(model.variant)
    entries = [entry for entry in variant.tensors if entry.name.startswith(PREFIX)]
    tied = f"{DECODER}.weight" not in {entry.name for entry in entries}
    entries += [entry for entry in variant.tensors if entry.name == _TABLE and tied]
    arrays = dict(map_tensors(bundle, tuple(entries)).arrays)
    if tied and _TABLE in arrays:
        arrays[f"{DECODER}.weight"] = arrays.pop(_TABLE).T
    _check_words(bundle, arrays, dimension)
    arrays = {name: array.ravel() if array.ndim == 2 and len(array) == 1 else array for name, array in arrays.items()}
    native = model.chosen.name == "native" and (model.variant == BF16 or arrays[f"{DECODER}.weight"].dtype == np.int8)
    if not native:
        return NumpyWords(arrays, head.activation, head.norm)
    return NativeWords(
        arrays,
        activation=head.activation,
        norm=head.norm,
        num_threads=model.num_threads,
        available_threads=available_threads(),
        isa=model.asked.isa,
    )


def _check_words(bundle: Bundle, arrays: dict[str, NDArray[Any]], dimension: int) -> None:
    transform, decoder = (arrays.get(f"{name}.weight", np.empty(0)) for name in (TRANSFORM, DECODER))
    hidden = bundle.manifest.architecture.hidden_size
    _check(bundle, transform.ndim == 2 and transform.shape[0] == hidden, f"{TRANSFORM}.weight")
    fits = decoder.ndim == 2 and decoder.shape == (transform.shape[1], dimension)
    _check(bundle, fits, f"{DECODER}.weight")
    _check(bundle, (decoder.dtype == np.int8) == (f"{DECODER}.scale" in arrays), f"{DECODER}.scale")
    widths = {f"{TRANSFORM}.bias": transform.shape[1], "words.norm.gamma": transform.shape[1]}
    widths |= {"words.norm.beta": transform.shape[1], f"{DECODER}.bias": dimension, f"{DECODER}.scale": dimension}
    for name, width in widths.items():
        _check(bundle, name not in arrays or arrays[name].size == width, name)
    _check(bundle, "words.norm.gamma" in arrays, "words.norm.gamma")


def _arrays(bundle: Bundle, path: str) -> dict[str, Floats]:
    with np.load(bundle.path(path), allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[name], np.float32) for name in arrays.files}


def _check(bundle: Bundle, fits: bool, what: str) -> None:
    if not fits:
        raise BundleFormatError(f"{bundle.root}: {what} is not what the manifest says; export the bundle again")
