"""The one seam: a ragged batch of token ids in, ragged hidden states out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["WANTS", "Batch", "Executor", "PatchBatch", "TokenBatch", "Want"]

Want = Literal["all", "first", "last", "mean"]
"""The rows of a result: all, or each text's or picture's first or last, or the mean of each one's."""

WANTS: dict[tuple[str, ...], Want] = {("cls",): "first", ("lasttoken",): "last", ("mean",): "mean"}
"""Poolings that executors do themselves, with the bits of `embedrt.pooling.pool`."""


@dataclass(frozen=True)
class TokenBatch:
    """B texts of T tokens in all, end to end, never padded. Text i is token_ids[offsets[i]:offsets[i + 1]]."""

    token_ids: NDArray[np.int32]  # (T,)
    offsets: NDArray[np.int32]  # (B + 1,), offsets[0] == 0, strictly increasing
    keys: NDArray[np.int32] | None = None  # (B,): how many of its first tokens a text's tokens see; None: all
    seconds: NDArray[np.int32] | None = None
    """(B,) where in each text its tokens of type 1 begin, or its length where it has none; None: all have type 0."""


@dataclass(frozen=True)
class PatchBatch:
    """B pictures in patches, of an encoder that reads these (`embedrt.encoder.Patches`); T is B times its rows."""

    pixels: NDArray[np.float32]  # (B, count, size)


Batch: TypeAlias = TokenBatch | PatchBatch


class Executor(Protocol):
    """Runs the encoder. Several threads may call `run` at once, and `close` while others run."""

    @property
    def description(self) -> str:
        """What runs where, e.g. "onnxruntime 1.32.0, CPUExecutionProvider, 2 threads"."""

    @property
    def pads(self) -> bool:
        """Whether a batch costs as if all its texts were as long as the longest."""

    def run(self, batch: Batch, *, want: Want = "all") -> NDArray[np.float32]:
        """Hidden states (T, H), or only each text's or picture's first or last row, or the mean of its rows (B, H).

        Raises:
            ExecutorError: the run failed.
        """

    def held(self) -> Executor:
        """The same encoder for one call of several runs: a close meanwhile does not end it.

        Raises:
            ExecutorError: it was closed.
        """

    def close(self) -> None:
        """Let go of the encoder: calls that run finish, and the last of them frees it; later ones fail."""
