"""SigLIP's two towers (Zhai et al., 2023, arXiv:2303.15343), and those of SigLIP 2 that read pictures of one size."""

from __future__ import annotations

from embedrt.encoder import Embeddings, EncoderSpec, FeedForward, Patches
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.clip import TEXT_ENDS, layers_of, patch_weight, patches_of
from embedrt_export.families.family import Family
from embedrt_export.families.settings import Config, Settings, layer_norm
from embedrt_export.families.sources import Array, Source, Sources, norm


def text_spec(config: Config) -> EncoderSpec:
    """What the text's config says. Every token sees all, padding included."""
    s = Settings("siglip_text_model", config)
    positions = int(s.get("max_position_embeddings", 64))
    s.ignore("projection_size")  # of the head behind the encoder
    embeddings = Embeddings(_hidden(s), positions, None, has_token_types=False, scale=1.0, norm=None)
    return _spec(s, embeddings, int(s.get("vocab_size", 32000)), positions)


def vision_spec(config: Config) -> EncoderSpec:
    """What the pictures' config says."""
    s = Settings("siglip_vision_model", config)
    s.only("vision_use_head", True)
    patches = patches_of(s, default_edge=16, has_first_row=False)
    embeddings = Embeddings(_hidden(s), patches.count, None, has_token_types=False, scale=1.0, norm=None)
    return _spec(s, embeddings, 0, patches.count, patches)


def _spec(
    s: Settings, embeddings: Embeddings, vocabulary: int, rows: int, patches: Patches | None = None
) -> EncoderSpec:
    """What both towers have in common; every setting has been read behind it."""
    hidden, heads = embeddings.size, int(s.get("num_attention_heads", 12))
    every_norm = layer_norm(s.get("layer_norm_eps", 1e-6))
    forward = FeedForward(int(s.get("intermediate_size", 3072)), s.activation("hidden_act", "gelu_pytorch_tanh"), False)
    looks = [attention(heads, s.shared("hidden_size", hidden, heads))] * int(s.get("num_hidden_layers", 12))
    every_block = blocks("pre", every_norm, looks, forward)
    s.finish()
    return EncoderSpec(hidden, vocabulary, rows, embeddings, every_block, every_norm, patches=patches)


def _hidden(s: Settings) -> int:
    return int(s.get("hidden_size", 768))


def text_sources(config: Config) -> Sources:
    """Where the text's tensors come from."""
    return {**TEXT_ENDS, **layers_of(text_spec(config))}


def vision_sources(config: Config) -> Sources:
    """Where the pictures' tensors come from."""
    return {
        "embeddings.patch.weight": Source(("embeddings.patch_embedding.weight",), patch_weight),
        "embeddings.position": Source(
            ("embeddings.position_embedding.weight",), _with_bias, beside=("embeddings.patch_embedding.bias",)
        ),
        **norm("final_norm", "post_layernorm"),
        **layers_of(vision_spec(config)),
    }


def _with_bias(positions: Array, bias: Array) -> Array:
    """What the patches' product adds, where each row has a position of its own."""
    return positions + bias


_HEAD = (r"^head\.",)  # pooling and product behind the encoder
TEXT = Family("SigLIP's text tower", ("siglip_text_model",), (), text_spec, text_sources, _HEAD)
VISION = Family("SigLIP's picture tower", ("siglip_vision_model",), (), vision_spec, vision_sources, _HEAD)
