"""Bundles of format 1 have no encoder's specification: it follows from their architecture, for the families that format
1 fuses.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Literal

from embedrt.encoder import Attention, Block, Embeddings, EncoderSpec, FeedForward, Norm
from embedrt.errors import UnsupportedByNativeError

if TYPE_CHECKING:
    from embedrt.manifest import Architecture

_ROBERTA = ("roberta", "xlm-roberta", "camembert")  # positions count the tokens that are not padding
FAMILIES = ("bert", "distilbert", *_ROBERTA)

_Activation = Literal["gelu", "gelu_tanh", "relu"]
ACTIVATIONS: dict[str, _Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_BIASES = ("qkv", "attention_output", "ffn_up", "ffn_down")


def encoder_of_format_1(numbers: Architecture, *, has_token_types: bool) -> EncoderSpec:
    """The encoder of a fused bundle of format 1.

    Args:
        has_token_types: whether the variant has the tensor embeddings.token_type, which the architecture does not say.

    Raises:
        UnsupportedByNativeError: it is not of a family that format 1 fuses.
    """
    if numbers.model_type not in FAMILIES:
        raise UnsupportedByNativeError(f"it runs {', '.join(FAMILIES)}, not {numbers.model_type}")
    if numbers.activation not in ACTIVATIONS:
        raise UnsupportedByNativeError(f"it has {', '.join(ACTIVATIONS)}, not {numbers.activation}")
    if numbers.num_heads < 1 or numbers.hidden_size % numbers.num_heads != 0:
        raise UnsupportedByNativeError("the heads do not divide the hidden size")
    norm = Norm("layer", numbers.layer_norm_eps)
    pad = numbers.pad_token_id if numbers.model_type in _ROBERTA else None
    head_size = numbers.hidden_size // numbers.num_heads
    attention = Attention(
        num_heads=numbers.num_heads,
        num_kv_heads=numbers.num_heads,
        head_size=head_size,
        scale=head_size**-0.5,
        causal=False,
        window=None,
        rotary=None,
        rotary_interleaved=False,
        head_norm=None,
        distance_bias="none",
    )
    ffn = FeedForward(numbers.intermediate_size, ACTIVATIONS[numbers.activation], gated=False)
    return EncoderSpec(
        hidden_size=numbers.hidden_size,
        vocab_size=numbers.vocab_size,
        max_tokens=numbers.max_positions - (0 if pad is None else pad + 1),
        embeddings=Embeddings(numbers.hidden_size, numbers.max_positions, pad, has_token_types, 1.0, norm),
        blocks=tuple(Block(i, "post", norm, True, attention, ffn) for i in range(numbers.num_layers)),
        final_norm=None,
    )


def check_complete(numbers: Architecture, tensors: Container[str]) -> None:
    """In format 1 no product is without its bias, which a spec may leave out as zero.

    Raises:
        UnsupportedByNativeError: one is missing.
    """
    for i in range(numbers.num_layers):
        for product in _BIASES:
            name = f"layers.{i}.{product}.bias"
            if name not in tensors:
                raise UnsupportedByNativeError(f"the bundle has no tensor {name}")
