"""Encoders of every family, small, with seeded tensors as the files have them: float32, or int8 with folds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Attention, Block, Embeddings, EncoderSpec, FeedForward, Norm, Patches
from embedrt.executors.library import NativeEncoder, load_library
from embedrt.executors.structs import Running
from tests.encoders import make_tensors

LAYER, RMS = Norm("layer", 1e-5), Norm("rms", 1e-6)
VOCABULARY, POSITIONS, WIDTH = 80, 300, 96
OUTLIERS = 16
Tensors = dict[str, NDArray[Any]]

_PLAIN = Attention(3, 3, 32, 32**-0.5, causal=False, window=None, rotary=None, rotary_interleaved=False,
                   head_norm=None, distance_bias="none")  # fmt: skip
_GELU = FeedForward(208, "gelu", gated=False)
_GATED = FeedForward(208, "gelu", gated=True)
_NO_POSITIONS = Embeddings(WIDTH, 0, None, has_token_types=False, scale=1.0, norm=LAYER)


def _spec(
    *blocks: Block, embeddings: Embeddings = _NO_POSITIONS, final: Norm | None = None, max_tokens: int | None = None
) -> EncoderSpec:
    return EncoderSpec(WIDTH, VOCABULARY, max_tokens, embeddings, blocks, final)


def _post(weights: int, attention: Attention, ffn: FeedForward) -> Block:
    return Block(weights, "post", LAYER, attention_is_normed=True, attention=attention, feed_forward=ffn)


def _mpnet() -> EncoderSpec:
    attention = replace(_PLAIN, distance_bias="table")
    embeddings = replace(_NO_POSITIONS, num_positions=POSITIONS, pad_position=1)
    return _spec(*(_post(i, attention, _GELU) for i in range(2)), embeddings=embeddings, max_tokens=POSITIONS - 2)


def _albert() -> EncoderSpec:
    embeddings = Embeddings(48, POSITIONS, None, has_token_types=True, scale=1.0, norm=LAYER)
    block = _post(0, _PLAIN, FeedForward(208, "gelu_tanh", gated=False))
    return _spec(*[block] * 3, embeddings=embeddings, max_tokens=POSITIONS)


def _modernbert() -> EncoderSpec:
    near, far = replace(_PLAIN, rotary="local", window=7), replace(_PLAIN, rotary="global")
    block = Block(0, "pre", LAYER, attention_is_normed=False, attention=far, feed_forward=_GATED)
    rest = (replace(block, weights=i, attention_is_normed=True, attention=near if i % 3 else far) for i in range(1, 4))
    return _spec(block, *rest, final=LAYER)


def _nomic() -> EncoderSpec:
    attention = replace(_PLAIN, rotary="all")
    embeddings = replace(_NO_POSITIONS, has_token_types=True)
    return _spec(*(_post(i, attention, FeedForward(192, "silu", gated=True)) for i in range(2)), embeddings=embeddings)


def _jina() -> EncoderSpec:
    return _spec(*(_post(i, replace(_PLAIN, distance_bias="slopes"), _GATED) for i in range(2)))


def _qwen3() -> EncoderSpec:
    attention = Attention(4, 2, 48, 48**-0.5, causal=True, window=None, rotary="all", rotary_interleaved=False,
                          head_norm=RMS, distance_bias="none")  # fmt: skip
    block = Block(0, "pre", RMS, attention_is_normed=True, attention=attention,
                  feed_forward=FeedForward(160, "silu", gated=True))  # fmt: skip
    embeddings = replace(_NO_POSITIONS, norm=None)
    return _spec(block, replace(block, weights=1), embeddings=embeddings, final=RMS, max_tokens=POSITIONS)


def _gemma3() -> EncoderSpec:
    near = Attention(3, 1, 256, 256**-0.5, causal=False, window=20, rotary="local", rotary_interleaved=False,
                     head_norm=RMS, distance_bias="none")  # fmt: skip
    block = Block(0, "sandwich", RMS, attention_is_normed=True, attention=near,
                  feed_forward=FeedForward(112, "gelu_tanh", gated=True))  # fmt: skip
    far = replace(block, weights=1, attention=replace(near, window=None, rotary="global"))
    return _spec(block, far, embeddings=replace(_NO_POSITIONS, norm=None, scale=WIDTH**0.5), final=RMS)


def _t5() -> EncoderSpec:
    attention = replace(_PLAIN, scale=1.0, distance_bias="table")
    block = Block(0, "pre", RMS, attention_is_normed=True, attention=attention,
                  feed_forward=FeedForward(208, "relu", gated=False))  # fmt: skip
    return _spec(block, replace(block, weights=1), embeddings=replace(_NO_POSITIONS, norm=None), final=RMS)


def _clip() -> EncoderSpec:
    block = Block(0, "pre", LAYER, attention_is_normed=True, attention=replace(_PLAIN, causal=True),
                  feed_forward=FeedForward(208, "quick_gelu", gated=False))  # fmt: skip
    embeddings = replace(_NO_POSITIONS, norm=None, num_positions=POSITIONS)
    return _spec(block, replace(block, weights=1), embeddings=embeddings, final=LAYER, max_tokens=POSITIONS)


def _odd() -> EncoderSpec:
    """What no family has together: causal with a window and biases, pairs side by side, silu without a gate."""
    attention = Attention(2, 1, 80, 0.2, causal=True, window=19, rotary="all", rotary_interleaved=True,
                          head_norm=LAYER, distance_bias="slopes")  # fmt: skip
    block = Block(0, "sandwich", LAYER, attention_is_normed=False, attention=attention,
                  feed_forward=FeedForward(80, "silu", gated=False))  # fmt: skip
    return _spec(block, replace(block, weights=1, norms="post", attention_is_normed=True))


def _vit(*, edge: int, count: int, has_first_row: bool) -> EncoderSpec:
    """Of pictures: CLIP's with a first row and a norm before the blocks, SigLIP's without."""
    forward = FeedForward(208, "quick_gelu" if has_first_row else "gelu_tanh", gated=False)
    block = Block(0, "pre", LAYER, attention_is_normed=True, attention=_PLAIN, feed_forward=forward)
    rows = count + has_first_row
    embeddings = replace(_NO_POSITIONS, norm=LAYER if has_first_row else None, num_positions=rows)
    spec = _spec(block, replace(block, weights=1), embeddings=embeddings, final=LAYER, max_tokens=rows)
    return replace(spec, vocab_size=0, patches=Patches(3 * edge**2, edge, count, has_first_row))


PICTURES = {
    "clip": _vit(edge=8, count=49, has_first_row=True),
    "siglip": _vit(edge=16, count=16, has_first_row=False),
    "pixels that are no multiple of 16": _vit(edge=14, count=9, has_first_row=True),
    "one patch": _vit(edge=4, count=1, has_first_row=False),
}

SPECS = {
    "mpnet": _mpnet(),
    "albert": _albert(),
    "modernbert": _modernbert(),
    "nomic": _nomic(),
    "jina": _jina(),
    "qwen3": _qwen3(),
    "gemma3": _gemma3(),
    "t5": _t5(),
    "clip": _clip(),
    "odd": _odd(),
}


def float_tensors(spec: EncoderSpec, seed: int = 0) -> Tensors:
    """As fp32 has them; scores and states of a moderate size, so that errors are not blown up."""
    out: Tensors = dict(make_tensors(spec, seed))
    for name in list(out):
        if name.endswith(("query.weight", "key.weight")) and not spec.blocks[0].attention.head_norm:
            out[name] = out[name] * np.float32(0.5)
        if name.endswith(("query_norm.gamma", "key_norm.gamma")):
            out[name] = out[name] * np.float32(0.7)
    if spec.embeddings.scale != 1:
        out["embeddings.word"] /= np.float32(spec.embeddings.scale)
    return out


def int8_tensors(spec: EncoderSpec, seed: int = 0) -> Tensors:
    """As `embedrt_export.int8.emitted` says: outlying neurons, folds, second rows of some tokens."""
    rng = np.random.default_rng(seed)
    out: Tensors = {}
    for name, value in float_tensors(spec, seed).items():
        stem, _, kind = name.rpartition(".")
        product = stem.rpartition(".")[2]
        if kind in ("weight", "bias") and product in ("ffn_up", "ffn_gate", "ffn_down"):
            _put_ffn(out, stem, kind, value)
        elif kind == "weight" and stem not in ("embeddings.projection", "embeddings.patch"):
            _put8(out, stem, value, 0)
        else:
            out[name] = value
    if spec.patches is None:
        _put8_table(out, spec, rng)
    for block in spec.blocks:
        if block.norms == "post":
            for norm in ("attention_norm", "ffn_norm"):
                out[f"layers.{block.weights}.{norm}.restore"] = _near_one(rng, spec.hidden_size)
        if block.norm.kind == "rms":
            out[f"layers.{block.weights}.ffn_norm.beta"] = _near_one(rng, spec.hidden_size) - 1
    if spec.blocks[0].norms == "post" or not spec.blocks[0].attention_is_normed:
        maker = "embeddings.norm" if spec.embeddings.size == spec.hidden_size else "embeddings.projection"
        out[f"{maker}.restore"] = _near_one(rng, spec.hidden_size)
    if len({block.weights for block in spec.blocks}) < len(spec.blocks):
        out["output_norm.gamma"], out["output_norm.beta"] = (_near_one(rng, spec.hidden_size) for _ in range(2))
    return out


def load(
    spec: EncoderSpec, tensors: Tensors, *, isa: str, threads: int = 2, bfloat16: bool = False, twice: bool = True
) -> NativeEncoder:
    """The encoder on this instruction set."""
    running = Running(threads, 2, bfloat16, twice, 24, isa)
    return NativeEncoder(load_library(), spec, running, tensors)


def _put8(out: Tensors, name: str, weight: NDArray[np.float32], axis: int) -> None:
    scale = np.abs(weight).max(axis=axis, keepdims=axis == 1) / np.float32(127)
    out[f"{name}.weight" if axis == 0 else name] = np.rint(weight / scale).astype(np.int8)
    out[f"{name}.scale"] = scale.astype(np.float32)


def _put_ffn(out: Tensors, name: str, kind: str, value: NDArray[np.float32]) -> None:
    """The last neurons are the outlying ones."""
    if name.endswith("ffn_down"):
        if kind == "bias":
            out[f"{name}.bias"] = value
            return
        _put8(out, name, value[:-OUTLIERS], 0)
        out[f"{name}_outlier.weight"] = value[-OUTLIERS:].copy()
        return
    main, few = value[..., :-OUTLIERS], value[..., -OUTLIERS:]
    for stem, part in ((name, main), (f"{name}_outlier", few)):
        if kind == "bias":
            out[f"{stem}.bias"] = part.copy()
        else:
            _put8(out, stem, part, 0)


def _put8_table(out: Tensors, spec: EncoderSpec, rng: np.random.Generator) -> None:
    table = out["embeddings.word"]
    _put8(out, "embeddings.word", table, 1)
    twice = rng.permutation(spec.vocab_size)[:7]
    rest = np.zeros((8, table.shape[1]), np.float32)
    rest[1:] = table[twice] - out["embeddings.word"][twice] * out["embeddings.word.scale"][twice]
    rest[0] = 1e-6  # no token has it; a scale is not zero
    _put8(out, "embeddings.word_rest", rest, 1)
    out["embeddings.word_rest"][0] = 0
    out["embeddings.word_rest.row"] = np.zeros((spec.vocab_size, 1), np.int32)
    out["embeddings.word_rest.row"][twice, 0] = np.arange(1, 8)


def _near_one(rng: np.random.Generator, width: int) -> NDArray[np.float32]:
    return (1 + 0.1 * rng.standard_normal(width)).astype(np.float32)
