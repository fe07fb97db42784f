"""What types alone cannot say of an encoder's spec: numbers that an executor can believe, and what must fit what."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from embedrt._schema import require
from embedrt.encoder import Embeddings

if TYPE_CHECKING:
    from embedrt.encoder import Attention, Block, EncoderSpec, Norm, Patches

_MOST = 2**31 - 1  # of any count: executors hold them in 32 bits
_MOST_BLOCKS = 4096
_CHANNELS = 3  # of a pixel
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")  # of frequencies: a part of a tensor's name


def check_encoder(spec: EncoderSpec, hidden_size: int) -> None:
    """Counts in their range, and parts that fit each other and `hidden_size`, which the manifest says elsewhere.

    Raises:
        SchemaError: with the place of the first that does not.
    """
    _count("encoder.hidden_size", spec.hidden_size)
    require(spec.hidden_size == hidden_size, "encoder.hidden_size", f"must be {hidden_size}, as in architecture")
    if spec.patches is None:
        _count("encoder.vocab_size", spec.vocab_size)
    else:
        _check_patches(spec, spec.patches)
    _check_embeddings(spec.embeddings, spec.max_tokens)
    require(len(spec.blocks) <= _MOST_BLOCKS, "encoder.blocks", f"must be at most {_MOST_BLOCKS}")
    if not spec.blocks:
        _check_table(spec)
    for i, block in enumerate(spec.blocks):
        _check_block(block, len(spec.blocks), f"encoder.blocks[{i}]")
    _check_shared(spec.blocks)
    if spec.final_norm is not None:
        check_norm(spec.final_norm, "encoder.final_norm")


def _check_embeddings(embeddings: Embeddings, max_tokens: int | None) -> None:
    where = "encoder.embeddings"
    if max_tokens is not None:
        _count("encoder.max_tokens", max_tokens)
    _count(f"{where}.size", embeddings.size)
    _count(f"{where}.num_positions", embeddings.num_positions, least=0)
    _finite(f"{where}.scale", embeddings.scale)
    if embeddings.norm is not None:
        check_norm(embeddings.norm, f"{where}.norm")
    pad, positions = embeddings.pad_position, embeddings.num_positions
    if pad is not None:
        require(0 <= pad < positions, f"{where}.pad_position", f"must be one of the {positions} positions, not {pad}")
    if positions:
        most = positions if pad is None else positions - pad - 1
        fits = max_tokens is not None and max_tokens <= most
        require(fits, "encoder.max_tokens", f"must be at most {most}, as embeddings has positions, not {max_tokens}")


def _check_table(spec: EncoderSpec) -> None:
    """Without blocks there is a table of tokens alone."""
    embeddings = spec.embeddings
    plain = Embeddings(spec.hidden_size, 0, None, has_token_types=False, scale=1.0, norm=None)
    alone = spec.patches is None and spec.final_norm is None and embeddings == plain
    require(alone, "encoder.blocks", "must not be empty where there is more than a table of tokens")


def _check_patches(spec: EncoderSpec, patches: Patches) -> None:
    where, embeddings = "encoder.patches", spec.embeddings
    require(spec.vocab_size == 0, "encoder.vocab_size", f"must be 0 where there are patches, not {spec.vocab_size}")
    _count(f"{where}.edge", patches.edge)
    size = _CHANNELS * patches.edge**2
    require(patches.size == size, f"{where}.size", f"must be {size}, as edge says, not {patches.size}")
    _count(f"{where}.size", patches.size)
    _count(f"{where}.count", patches.count)
    rows = patches.count + patches.has_first_row
    for name, value, wanted in (
        ("max_tokens", spec.max_tokens, rows),
        ("embeddings.num_positions", embeddings.num_positions, rows),
        ("embeddings.size", embeddings.size, spec.hidden_size),
        ("embeddings.pad_position", embeddings.pad_position, None),
        ("embeddings.has_token_types", embeddings.has_token_types, False),
        ("embeddings.scale", embeddings.scale, 1.0),
    ):
        require(value == wanted, f"encoder.{name}", f"must be {wanted}, as patches say, not {value}")


def _check_block(block: Block, num_blocks: int, where: str) -> None:
    require(0 <= block.weights < num_blocks, f"{where}.weights", f"must be one of {num_blocks}, not {block.weights}")
    check_norm(block.norm, f"{where}.norm")
    named = block.attention_is_normed or block.norms != "post"
    require(named, f"{where}.attention_is_normed", "must be true where norms are post")
    _check_attention(block.attention, f"{where}.attention")
    _count(f"{where}.feed_forward.size", block.feed_forward.size)


def _check_attention(attention: Attention, where: str) -> None:
    for name in ("num_heads", "num_kv_heads", "head_size"):
        _count(f"{where}.{name}", getattr(attention, name))
    fits = attention.num_heads % attention.num_kv_heads == 0
    require(fits, f"{where}.num_kv_heads", f"must divide num_heads, {attention.num_heads}")
    _count(f"{where}.head_size", attention.num_heads * attention.head_size)
    _finite(f"{where}.scale", attention.scale)
    if attention.window is not None:
        _count(f"{where}.window", attention.window, least=0)
    if attention.head_norm is not None:
        check_norm(attention.head_norm, f"{where}.head_norm")
    if attention.rotary is not None:
        plain = _NAME.fullmatch(attention.rotary) is not None
        require(plain, f"{where}.rotary", "must be a name of letters, digits and _")
        require(attention.head_size > 1, f"{where}.head_size", "must be at least 2 where heads are rotated")
    else:
        require(not attention.rotary_interleaved, f"{where}.rotary_interleaved", "must be false without rotary")


def _check_shared(blocks: tuple[Block, ...]) -> None:
    """Blocks that have the same weights, or the same biases of distances, have the same shapes."""
    shapes: dict[int, object] = {}
    heads: dict[str, int] = {}
    for i, block in enumerate(blocks):
        attention = block.attention
        numbers = (attention.num_heads, attention.num_kv_heads, attention.head_size)
        shape = (*numbers, block.feed_forward, block.norms, block.norm, block.attention_is_normed)
        same = shapes.setdefault(block.weights, shape) == shape  # and the norms, which tensors are there for
        require(same, f"encoder.blocks[{i}]", f"must have the shapes of the others with weights {block.weights}")
        if attention.distance_bias != "none":
            same = heads.setdefault(attention.distance_bias, attention.num_heads) == attention.num_heads
            require(same, f"encoder.blocks[{i}].attention.num_heads", "must be that of the others with these biases")


def check_norm(norm: Norm, where: str) -> None:
    """Refuse an epsilon that is none."""
    epsilon = norm.epsilon
    require(math.isfinite(epsilon) and 0 <= epsilon <= 1, f"{where}.epsilon", f"must be 0 to 1, not {epsilon}")


def _count(where: str, value: int, least: int = 1) -> None:
    require(least <= value <= _MOST, where, f"must be {least} to {_MOST}, not {value}")


def _finite(where: str, value: float) -> None:
    require(math.isfinite(value) and abs(value) < 1e30, where, f"must be a finite float32, not {value}")
