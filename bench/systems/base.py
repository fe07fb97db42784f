"""What every adapter does, and what those without batching of their own share: tokenize, batch, pad, pool, normalize.

The work is the same for everyone: all hidden states, masked mean over the text's tokens, L2 norm, float32 out.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Vectors = NDArray[np.float32]  # (B, D), rows of length 1
Rows = Sequence[Sequence[int]]  # B lists of token ids, special tokens included


class System(Protocol):
    """One system, inside its own process."""

    def load(self, artifact: Path, model: Path, threads: int) -> None:
        """Ready to encode; `model` holds the tokenizer. Everything that takes time happens here."""

    def encode_ids(self, rows: Rows) -> Vectors:
        """One batch as it is, without tokenizing."""

    def encode_texts(self, texts: Sequence[str], batching: str) -> Vectors:
        """The whole call a user makes: tokenize, batch, encode, in the input's order."""

    def describe(self) -> str:
        """Library, version and what it says it runs on."""

    def close(self) -> None:
        """Free the model."""


class PlainSystem(ABC):
    """An encoder without batching of its own: the tokenizer and batches of 8 or 32 are put around it here."""

    def __init__(self, option: str) -> None:
        self.option = option
        self.threads = 1
        self.pad_token = 0
        self._tokenizer: Tokenizer | None = None

    def load(self, artifact: Path, model: Path, threads: int) -> None:
        self.threads = threads
        self.pad_token = int(json.loads((model / "config.json").read_text())["pad_token_id"])
        self._tokenizer = load_tokenizer(model)
        self._load(artifact)

    def encode_texts(self, texts: Sequence[str], batching: str) -> Vectors:
        order, _, size = batching.partition("-")
        assert self._tokenizer is not None, "load() comes first"
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        positions = list(range(len(rows)))
        if order == "sorted":
            positions.sort(key=lambda i: len(rows[i]))
        parts = [
            self.encode_ids([rows[i] for i in positions[start : start + int(size)]])
            for start in range(0, len(rows), int(size))
        ]
        stacked = np.concatenate(parts)
        vectors = np.empty_like(stacked)
        vectors[positions] = stacked
        return vectors

    @abstractmethod
    def _load(self, artifact: Path) -> None: ...

    @abstractmethod
    def encode_ids(self, rows: Rows) -> Vectors: ...

    @abstractmethod
    def describe(self) -> str: ...

    def close(self) -> None:
        self._tokenizer = None


class GraphSystem(PlainSystem):
    """An encoder's graph, whatever runs it."""

    inputs: Sequence[str]  # their names, known once it is open

    def open(self, artifact: Path, threads: int) -> None:
        """The graph alone, for what has a tokenizer and a head of its own."""
        self.threads = threads
        self._load(artifact)

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64], types: NDArray[np.int64]) -> NDArray[np.float32]:
        """The first output, valid until the next call; inputs that the graph does not have are left out."""
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        return self._infer({name: feeds[name] for name in self.inputs})

    def encode_ids(self, rows: Rows) -> Vectors:
        ids, mask = pad(rows, self.pad_token)
        return pool(self.run(ids, mask, np.zeros_like(ids)), mask)

    @abstractmethod
    def _infer(self, feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]: ...


def load_tokenizer(model: Path) -> Tokenizer:
    """The model's tokenizer, cutting at the model's limit, adding no padding."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    said = [json.loads(path.read_text()) for path in model.glob("sentence_*_config.json")]
    limits = [one["max_seq_length"] for one in said if one.get("max_seq_length")]
    tokenizer.enable_truncation(min(limits) if limits else 512)
    return tokenizer


def pad(rows: Rows, pad_token: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask (B, S), padded on the right to the longest row."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad_token, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def pool(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> Vectors:
    """Masked mean and L2 norm of hidden states (B, S, H)."""
    if mask.all():
        mean = hidden.mean(axis=1)
    else:
        weights = mask.astype(np.float32)
        mean = np.einsum("bsh,bs->bh", hidden, weights) / weights.sum(axis=1, keepdims=True)
    norm: Vectors = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return norm
