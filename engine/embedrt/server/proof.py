"""Whether a model that is loaded still is what it was: the files that it reads, and the vectors that it gives.

Weights are mapped, not copied: what is written into their file changes vectors under a running server, and where the
file ends too early the next look at it is SIGBUS, the end of the process. Sizes and times are therefore compared before
a batch, if that was not done within the last 50 ms; only a file that is cut within these still ends the process. A copy
would not end, but cost each process the memory that mapping saves, and locked pages (mlock, MAP_POPULATE) are taken
away by a truncation like any others.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.embedder import Embedder
from embedrt.errors import EmbedrtError
from embedrt.facts import ModelFacts
from embedrt.model import Model
from embedrt.parity.files import read_parity_files, read_parity_texts
from embedrt.parity.pairs import read_pairs
from embedrt.reranker import Reranker
from embedrt.server.logs import log

_TEXTS = 4  # of the parity texts, in turn
_BUSY_TIMES = 10  # a model that is never idle is proven so many times as rarely
# Executors other than the native one promise no bits from one run to the next (several threads, another device).
_LEAST_COSINE = 0.99999
_MOST_LOGIT = 1e-3  # of a reranker's logits, where a cosine of one number would say nothing


@dataclass(frozen=True)
class Told:
    """What a proof runs again."""

    noun: str  # "text" or "pair"
    inputs: Sequence[Any]  # tokenized
    run: Callable[[Any], NDArray[np.float32]]  # one input -> its vector, or its logits
    is_near: Callable[[NDArray[np.float32], NDArray[np.float32]], bool]  # where an executor promises no bits


@dataclass
class _File:
    """A file that is open as the model has it mapped, whatever its name stands for by now."""

    path: Path
    sha256: str | None  # by the manifest
    number: int  # file descriptor
    mark: tuple[int, int]  # size and time of the last change, at which its content was as loaded
    replaced: bool = False


class Weights:
    """The files that a loaded model goes on reading.

    Args:
        files: path -> hex sha256, None where nobody knows it.

    Raises:
        OSError: a file cannot be opened.
    """

    def __init__(self, files: dict[Path, str | None]) -> None:
        self._files: list[_File] = []
        self._bad: tuple[list[tuple[int, int]], str] | None = None  # what the marks were when it was found, and it
        for path, sha256 in files.items():
            number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
            self._files.append(_File(path, sha256, number, _mark(number)))

    def are_untouched(self) -> bool:
        """Whether their sizes and times are what they were; where not, `what_changed` says if that matters."""
        return all(_mark(file.number) == file.mark for file in self._files)

    def what_changed(self) -> str | None:
        """What is wrong with them, None while all are as they were loaded.

        One that was written but has the manifest's sha256 still, or again, is as it was.
        """
        marks = [_mark(file.number) for file in self._files]
        if self._bad is not None and marks == self._bad[0]:
            return self._bad[1]
        self._bad = None
        for file, mark in zip(self._files, marks, strict=True):
            if mark != file.mark:
                if mark[0] != file.mark[0]:
                    found = f"{file.path} was changed under the running server: {file.mark[0]} bytes became {mark[0]}"
                elif file.sha256 is None or _sha256(file.number) != file.sha256:
                    found = f"{file.path} was written to under the running server"
                else:
                    file.mark = mark
                    continue
                self._bad = marks, f"{found}; restore the bundle and start the server again"
                return self._bad[1]
        return None

    def say_replaced(self, name: str) -> None:
        """Log, once, a file whose name stands for another one now: this process serves on what it has loaded."""
        for file in self._files:
            try:
                same = os.path.samestat(file.path.stat(), os.fstat(file.number))
            except OSError:
                same = False
            if not same and not file.replaced:
                log("a file was replaced: this process serves what it loaded, start it again to serve the new one",
                    level=30, model=name, path=str(file.path))  # fmt: skip
            file.replaced = not same

    def close(self) -> None:
        """Close them."""
        for file in self._files:
            os.close(file.number)
        self._files.clear()


class Proof:
    """Embeds parity texts again from time to time, and compares with what the same process gave at first.

    Args:
        model: what was just loaded and found right; a few inputs run now, one by one.
        every_s: between two proofs of an idle model; 0 is never.
        told: what is run again, `texts_of`, `outputs_told` or `pairs_of`.
    """

    def __init__(self, model: ModelFacts, every_s: float, told: Callable[[Any], Told]) -> None:
        self.weights = Weights(_files_of(model))
        self._exact = model.executor == "native"
        self._every_s = every_s
        self._wrong: str | None = None
        self._last = time.monotonic()
        self._turn = 0
        self._told = told(model) if every_s else None
        self._rows = [self._told.run(one) for one in self._told.inputs] if self._told else []

    def is_due(self, *, idle: bool) -> bool:
        """Whether it is time for a proof."""
        wait_s = self._every_s * (1 if idle else _BUSY_TIMES)
        return bool(self._rows) and time.monotonic() - self._last >= wait_s

    def prove(self) -> bool:
        """Compute one input again; whether the outcome is what it was. Call it where batches run."""
        told = self._told
        assert told is not None  # it was due
        turn = self._turn = (self._turn + 1) % len(self._rows)
        before, begin = self._rows[turn], time.monotonic()
        try:
            row = told.run(told.inputs[turn])
        except EmbedrtError as exc:
            self._wrong = f"parity {told.noun} {turn} cannot be computed anymore: {exc}"
            return False
        finally:
            self._last = time.monotonic()
        same = np.array_equal(row, before) or (not self._exact and told.is_near(row, before))
        self._wrong = None if same else (
            f"parity {told.noun} {turn} does not get what it got when the model was loaded (cosine "
            f"{_cosine(row, before):.6f}, largest difference {_difference(row, before):.2g}, "
            f"{1e3 * (self._last - begin):.1f} ms): memory or weights are damaged; start the server again"
        )  # fmt: skip
        return same

    def what_is_wrong(self) -> str | None:
        """Why nothing is to be computed with this model anymore; None while there is no reason."""
        return self._wrong or self.weights.what_changed()


def texts_of(model: Embedder) -> Told:
    """The first of an embedder's parity texts."""
    options = model.resolve(prompt="")
    texts = read_parity_files(model.bundle).texts[:_TEXTS]
    ids = model.tokenizer(list(texts)).token_ids if texts else ()
    return Told(
        "text",
        ids,
        lambda one: model.embed_tokens([one], options)[0],
        lambda row, before: _cosine(row, before) >= _LEAST_COSINE,
    )


def outputs_told(model: Model) -> Told:
    """The first of the parity texts of a bundle of several outputs: all of these end to end."""
    options = model.resolve(kind="document", prompt="")
    texts = read_parity_texts(model.bundle)[:_TEXTS]

    def run(one: NDArray[np.int32]) -> NDArray[np.float32]:
        (row,) = model.embed_tokens([one], options)
        parts = [row.dense, None if row.sparse is None else row.sparse.to_dense(), row.tokens]
        return np.concatenate([part.ravel() for part in parts if part is not None])

    ids = model.tokenizer_for(options)(texts).token_ids if texts else ()
    return Told("text", ids, run, lambda row, before: _cosine(row, before) >= _LEAST_COSINE)


def pairs_of(model: Reranker) -> Told:
    """The first of a reranker's parity pairs."""
    pairs, _ = read_pairs(model.bundle)
    return Told(
        "pair",
        model.tokenizer(pairs[:_TEXTS]),
        lambda one: model.score_tokens([one])[0],
        lambda row, before: _difference(row, before) <= _MOST_LOGIT,
    )


def _files_of(embedder: ModelFacts) -> dict[Path, str | None]:
    """What the variant has mapped: its files, and what the native executor packed."""
    bundle = embedder.bundle
    files: dict[Path, str | None] = {
        bundle.path(entry.path): entry.sha256 for entry in bundle.variant(embedder.variant).files
    }
    return files | dict.fromkeys(embedder.packed_files)


def _mark(number: int) -> tuple[int, int]:
    found = os.fstat(number)
    return found.st_size, found.st_mtime_ns


def _sha256(number: int) -> str:
    """By reading, since a file that is mapped may end meanwhile."""
    with open(number, "rb", closefd=False, buffering=0) as stream:
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")


def _cosine(a: Sequence[float] | NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.dot(a, b)) / max(1e-12, float(np.linalg.norm(a) * np.linalg.norm(b)))
