"""The shapes of a spec's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedrt.encoder import Block, EncoderSpec
from embedrt.errors import SourceError

Shape = tuple[int | None, ...]  # None: any size


def shapes_of(spec: EncoderSpec) -> dict[str, Shape]:
    """Every tensor that a file of `spec` may have; of these, biases, betas and the projection may lack."""
    hidden, embeddings = spec.hidden_size, spec.embeddings
    shapes: dict[str, Shape] = {"embeddings.word": (spec.vocab_size, embeddings.size)}
    if spec.patches is not None:
        shapes = {"embeddings.patch.weight": (spec.patches.size, hidden)}
    if embeddings.num_positions:
        shapes["embeddings.position"] = (embeddings.num_positions, embeddings.size)
    if embeddings.has_token_types:
        shapes["embeddings.token_type"] = (None, embeddings.size)
    if embeddings.norm:
        shapes |= _norm("embeddings.norm", embeddings.size)
    shapes |= _linear("embeddings.projection", embeddings.size, hidden)
    for block in spec.blocks:
        shapes |= {f"layers.{block.weights}.{name}": shape for name, shape in _block(block, hidden).items()}
    if spec.final_norm:
        shapes |= _norm("final_norm", hidden)
    return shapes


def check_shapes(model: str, spec: EncoderSpec, tensors: Mapping[str, Any]) -> None:
    """Refuse tensors of other shapes than the spec's.

    Raises:
        SourceError: the message names the first, its shape and the right one.
    """
    for name, shape in shapes_of(spec).items():
        found = tensors[name].shape if name in tensors else shape
        if len(found) != len(shape) or any(want not in (None, have) for want, have in zip(shape, found, strict=True)):
            raise SourceError(
                f"{model}: {name} has the shape {tuple(found)} and should have {shape}, as config.json says; that "
                "belongs to another model, or has been changed"
            )


def _block(block: Block, hidden: int) -> dict[str, Shape]:
    attention, inner = block.attention, block.feed_forward.size
    shapes = _linear("query", hidden, attention.num_heads * attention.head_size)
    for part in ("key", "value"):
        shapes |= _linear(part, hidden, attention.num_kv_heads * attention.head_size)
    shapes |= _linear("attention_output", attention.num_heads * attention.head_size, hidden)
    shapes |= _linear("ffn_up", hidden, inner) | _linear("ffn_down", inner, hidden)
    if block.feed_forward.gated:
        shapes |= _linear("ffn_gate", hidden, inner)
    if attention.head_norm:
        shapes |= _norm("query_norm", attention.head_size) | _norm("key_norm", attention.head_size)
    shapes |= _norm("attention_norm", hidden) | _norm("ffn_norm", hidden)
    if block.norms == "sandwich":
        shapes |= _norm("attention_after_norm", hidden) | _norm("ffn_after_norm", hidden)
    return shapes


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> dict[str, Shape]:
    return {f"{name}.gamma": (size,), f"{name}.beta": (size,)}
