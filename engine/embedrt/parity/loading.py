"""What verification loads of a variant: an embedder, a reranker, or a model of other outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from embedrt.bundle import Bundle
from embedrt.embedder import Embedder
from embedrt.executors.native import VARIANTS as NATIVE_VARIANTS
from embedrt.model import Model
from embedrt.reranker import Reranker
from embedrt.results import EncodeResult

M = TypeVar("M")
Made = TypeVar("Made", covariant=True)


class ParityEmbedder(Protocol):
    """What verification needs of an embedder; embedrt.Embedder has it."""

    @property
    def executor_description(self) -> str:
        """What runs the encoder."""

    @property
    def max_tokens(self) -> int:
        """Tokens that a text may have."""

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


default_embedder = partial(_made, Embedder)
default_reranker = partial(_made, Reranker)
default_model = partial(_made, Model)
