"""What verification loads of a variant: an embedder, a reranker, or a model of other outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from embedrt.bundle import Bundle
from embedrt.embedder import Embedder
from embedrt.executors.devices import choose_device
from embedrt.executors.native import VARIANTS as NATIVE_VARIANTS
from embedrt.model import Model
from embedrt.reranker import Reranker
from embedrt.results import EncodeResult

M = TypeVar("M")
Made = TypeVar("Made", covariant=True)


class ParityEmbedder(Protocol):
    """What verification needs of an embedder; embedrt.Embedder has it."""

    @property
    def executor(self) -> str:
        """ "native" or "onnxruntime"."""

    @property
    def executor_description(self) -> str:
        """What runs the encoder."""

    @property
    def max_tokens(self) -> int:
        """Tokens that a text may have."""

    @property
    def num_threads(self) -> int:
        """Threads of one call; the rest of those that verification has take further calls at the same time."""

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


def default_embedder(
    bundle: Bundle, *, variant: str, device: str, num_threads: int | None, executor: str = "auto", isa: str = "auto"
) -> ParityEmbedder:
    """An embedrt.Embedder; on ONNX Runtime, on CPUs, with one thread, so that verification has several calls at once.

    ONNX Runtime's threads wait for each other at each of a graph's small products, above all beside other work.
    """
    only_there = executor == "onnxruntime" or variant not in NATIVE_VARIANTS
    threads = 1 if only_there and choose_device(device) == "cpu" else num_threads
    return _made(Embedder, bundle, variant=variant, device=device, num_threads=threads, executor=executor, isa=isa)


default_reranker = partial(_made, Reranker)
default_model = partial(_made, Model)
