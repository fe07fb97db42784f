"""CLIP's two towers (Radford et al., 2021, arXiv:2103.00020): texts, causal, and pictures in patches (ViT,
Dosovitskiy et al., 2020, arXiv:2010.11929).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from embedrt.encoder import Embeddings, EncoderSpec, FeedForward, Patches
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.family import Family
from embedrt_export.families.settings import Config, Settings, layer_norm
from embedrt_export.families.sources import Array, Source, Sources, linear, norm, numbered, table

_CHANNELS = 3


def text_spec(config: Config) -> EncoderSpec:
    """What the text's config says; transformers' defaults are those of ViT-B/32."""
    s = Settings("clip_text_model", config)
    _check(s)
    hidden, heads = int(s.get("hidden_size", 512)), int(s.get("num_attention_heads", 8))
    positions, vocabulary = int(s.get("max_position_embeddings", 77)), int(s.get("vocab_size", 49408))
    every_norm = layer_norm(s.get("layer_norm_eps", 1e-5))
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=vocabulary,
        max_tokens=positions,
        embeddings=Embeddings(hidden, positions, None, has_token_types=False, scale=1.0, norm=None),
        blocks=blocks(
            "pre",
            every_norm,
            [attention(heads, s.shared("hidden_size", hidden, heads), causal=True)] * _layers(s),
            FeedForward(int(s.get("intermediate_size", 2048)), s.activation("hidden_act", "quick_gelu"), gated=False),
        ),
        final_norm=every_norm,
    )
    s.finish()
    return spec


def vision_spec(config: Config) -> EncoderSpec:
    """What the pictures' config says; transformers' defaults are those of ViT-B/32."""
    s = Settings("clip_vision_model", config)
    _check(s)
    hidden, heads = int(s.get("hidden_size", 768)), int(s.get("num_attention_heads", 12))
    every_norm = layer_norm(s.get("layer_norm_eps", 1e-5))
    patches = patches_of(s, default_edge=32, has_first_row=True)
    rows = patches.count + 1
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=0,
        max_tokens=rows,
        embeddings=Embeddings(hidden, rows, None, has_token_types=False, scale=1.0, norm=every_norm),
        blocks=blocks(
            "pre",
            every_norm,
            [attention(heads, s.shared("hidden_size", hidden, heads))] * _layers(s),
            FeedForward(int(s.get("intermediate_size", 3072)), s.activation("hidden_act", "quick_gelu"), gated=False),
        ),
        final_norm=every_norm,
        patches=patches,
    )
    s.finish()
    return spec


def patches_of(s: Settings, *, default_edge: int, has_first_row: bool) -> Patches:
    """The patches of square pictures; what is over at the right and below is not read, as by a convolution."""
    s.only("num_channels", _CHANNELS)
    edge, image = s.get("patch_size", default_edge), s.get("image_size", 224)
    for key, value in (("patch_size", edge), ("image_size", image)):
        if not isinstance(value, int):
            raise s.unsupported(key, value, "one number of pixels")
    return Patches(_CHANNELS * edge**2, edge, (image // edge) ** 2, has_first_row)


def text_sources(config: Config) -> Sources:
    """Where the text's tensors come from."""
    return {**TEXT_ENDS, **layers_of(text_spec(config))}


def vision_sources(config: Config) -> Sources:
    """Where the pictures' tensors come from."""
    return {
        "embeddings.patch.weight": Source(("embeddings.patch_embedding.weight",), patch_weight),
        "embeddings.position": Source(
            ("embeddings.position_embedding.weight",), _with_class, beside=("embeddings.class_embedding",)
        ),
        **norm("embeddings.norm", "pre_layrnorm"),
        **norm("final_norm", "post_layernorm"),
        **layers_of(vision_spec(config)),
    }


def layers_of(spec: EncoderSpec) -> Sources:
    """Where the tensors of either tower's blocks come from."""
    out: Sources = {}
    for i in range(len(spec.blocks)):
        out |= numbered(BLOCK, i, f"encoder.layers.{i}")
    return out


def patch_weight(convolution: Array) -> Array:
    """A convolution whose steps are as wide as its kernel (H, 3, P, P), as a product (3 * P * P, H)."""
    return convolution.reshape(len(convolution), -1).T


def _with_class(positions: Array, token: Array) -> Array:
    """The class token in the row that stands for no patch."""
    return np.concatenate([positions[:1] + token.reshape(1, -1), positions[1:]])


def _check(s: Settings) -> None:
    s.only("add_cross_attention", False)
    s.ignore("projection_dim")  # of the projection behind the encoder, which the checkpoint has the shape of


def _layers(s: Settings) -> int:
    return int(s.get("num_hidden_layers", 12))


BLOCK: dict[str, Any] = {
    **linear("query", "self_attn.q_proj"),
    **linear("key", "self_attn.k_proj"),
    **linear("value", "self_attn.v_proj"),
    **linear("attention_output", "self_attn.out_proj"),
    **norm("attention_norm", "layer_norm1"),
    **linear("ffn_up", "mlp.fc1"),
    **linear("ffn_down", "mlp.fc2"),
    **norm("ffn_norm", "layer_norm2"),
}
"""A block of either tower."""
TEXT_ENDS: Sources = {
    "embeddings.word": table("embeddings.token_embedding.weight"),
    "embeddings.position": table("embeddings.position_embedding.weight"),
    **norm("final_norm", "final_layer_norm"),
}
"""What a tower of texts has beside its blocks."""

TEXT = Family("CLIP's text tower", ("clip_text_model",), (), text_spec, text_sources)
VISION = Family("CLIP's picture tower", ("clip_vision_model",), (), vision_spec, vision_sources)
