"""What verification loads of a variant: an embedder, a reranker, or a model of other outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from embedrt.bundle import Bundle
from embedrt.embedder import Embedder
from embedrt.executors.devices import choose_device
from embedrt.executors.native import VARIANTS as NATIVE_VARIANTS
from embedrt.machine import available_threads
from embedrt.model import Model
from embedrt.reranker import Reranker
from embedrt.results import EncodeResult

M = TypeVar("M")
Made = TypeVar("Made", covariant=True)


class ParityEmbedder(Protocol):
    """What verification needs of an embedder."""

    @property
    def executor_description(self) -> str:
        """What runs the encoder."""

    @property
    def max_tokens(self) -> int:
        """Tokens that a text may have."""

    @property
    def lanes(self) -> int:
        """How many calls go side by side."""

    def encode_detailed(self, inputs: Sequence[str], /) -> EncodeResult:
        """Vectors (N, D) with the bundle's default prompt, and tokens per text."""

    def close(self) -> None:
        """Free the model."""


class Make(Protocol[Made]):
    """Makes what runs one variant."""

    def __call__(self, bundle: Bundle, *, variant: str, device: str, num_threads: int | None) -> Made:
        """Load `variant`; the hashes have been checked."""


def _made(
    kind: Callable[..., M],
    bundle: Bundle,
    *,
    variant: str,
    device: str,
    num_threads: int | None,
    executor: str = "auto",
    isa: str = "auto",
) -> M:
    """A `kind` of `variant`. What only ONNX Runtime runs is loaded there when "native" is asked for."""
    return kind(
        bundle,
        variant=variant,
        device=device,
        executor="onnxruntime" if executor == "native" and variant not in NATIVE_VARIANTS else executor,
        isa=isa,
        num_threads=num_threads,
        verify_hashes=False,
    )


@dataclass(frozen=True)
class _InLanes:
    """An embedrt.Embedder that several threads use at once, `lanes` of them."""

    embedder: Embedder
    lanes: int

    @property
    def executor_description(self) -> str:
        beside = f", {self.lanes} calls at once" if self.lanes > 1 else ""
        return f"{self.embedder.executor_description}{beside}"

    @property
    def picture_executor_description(self) -> str | None:
        return self.embedder.picture_executor_description

    @property
    def max_tokens(self) -> int:
        return self.embedder.max_tokens

    def encode_detailed(self, inputs: Sequence[Any], /) -> EncodeResult:
        return self.embedder.encode_detailed(inputs)

    def close(self) -> None:
        self.embedder.close()


def default_embedder(
    bundle: Bundle,
    *,
    variant: str,
    device: str,
    num_threads: int | None,
    executor: str = "auto",
    isa: str = "auto",
) -> ParityEmbedder:
    """An embedrt.Embedder, for several calls at once where that is faster.

    ONNX Runtime's threads wait for each other at each of a graph's small products, above all beside other work: on CPUs
    it has one thread a call here, and `num_threads` calls at once.
    """
    only_there = executor == "onnxruntime" or variant not in NATIVE_VARIANTS
    lanes = (num_threads or available_threads()) if only_there and choose_device(device) == "cpu" else 1
    embedder = _made(
        Embedder,
        bundle,
        variant=variant,
        device=device,
        num_threads=1 if lanes > 1 else num_threads,
        executor=executor,
        isa=isa,
    )
    return _InLanes(embedder, lanes)


default_reranker = partial(_made, Reranker)
default_model = partial(_made, Model)
