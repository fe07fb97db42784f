"""The structs of the native module's C door, as embedrt_native.h has them, and what fills them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Attention, Block, EncoderSpec, Norm, Patches
from embedrt.executors.mapped import DTYPES

_NORMS = {"layer": 1, "rms": 2}  # 0: none
_PLACES = {"post": 0, "pre": 1, "sandwich": 2}
ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1, "relu": 2, "silu": 3, "quick_gelu": 4}
"""Names as in `embedrt.encoder` -> the module's."""
_LANES = 16
_BIASES = {"none": 0, "table": 1, "slopes": 2}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
    )


class NormStruct(ctypes.Structure):
    """A norm, or none."""

    _fields_ = (("kind", ctypes.c_int32), ("epsilon", ctypes.c_float))


class _Embeddings(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_int32),
        ("num_positions", ctypes.c_int32),
        ("pad_position", ctypes.c_int32),
        ("has_token_types", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("norm", NormStruct),
    )


class _Patches(ctypes.Structure):
    _fields_ = (("size", ctypes.c_int32), ("rows", ctypes.c_int32))


class _Attention(ctypes.Structure):
    _fields_ = (
        ("num_heads", ctypes.c_int32),
        ("num_kv_heads", ctypes.c_int32),
        ("head_size", ctypes.c_int32),
        ("causal", ctypes.c_int32),
        ("window", ctypes.c_int32),
        ("rotary_interleaved", ctypes.c_int32),
        ("distance_bias", ctypes.c_int32),
        ("head_norm", NormStruct),
        ("scale", ctypes.c_double),
        ("rotary", ctypes.c_char_p),
    )


class _FeedForward(ctypes.Structure):
    _fields_ = (("size", ctypes.c_int32), ("activation", ctypes.c_int32), ("gated", ctypes.c_int32))


class _Block(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_int32),
        ("norms", ctypes.c_int32),
        ("attention_is_normed", ctypes.c_int32),
        ("norm", NormStruct),
        ("feed_forward", _FeedForward),
        ("attention", _Attention),
    )


class _Config(ctypes.Structure):
    _fields_ = (
        ("hidden_size", ctypes.c_int32),
        ("max_tokens", ctypes.c_int32),
        ("embeddings", _Embeddings),
        ("patches", _Patches),
        ("final_norm", NormStruct),
        ("blocks", ctypes.POINTER(_Block)),
        ("num_blocks", ctypes.c_int32),
        ("num_threads", ctypes.c_int32),
        ("available_threads", ctypes.c_int32),
        ("bfloat16", ctypes.c_int32),
        ("first_value_twice", ctypes.c_int32),
        ("activation_zero", ctypes.c_int32),
        ("isa", ctypes.c_char_p),
    )


@dataclass(frozen=True)
class Running:
    """How an encoder runs, beside what it computes."""

    num_threads: int  # of one call, the caller's own included
    available_threads: int  # that calls at once have together, where that is more
    bfloat16: bool  # whether float32 weights must run in bfloat16
    first_value_twice: bool  # of int8, as the recipe says, and so the next
    activation_zero: int
    isa: str  # "auto", or one of `available_isas`


def as_config(spec: EncoderSpec, running: Running) -> _Config:
    """What `embedrt_create` reads beside the tensors; it keeps what it points to."""
    embeddings = spec.embeddings
    return _Config(
        hidden_size=spec.hidden_size,
        max_tokens=-1 if spec.max_tokens is None else spec.max_tokens,
        embeddings=_Embeddings(
            size=embeddings.size,
            num_positions=embeddings.num_positions,
            pad_position=-1 if embeddings.pad_position is None else embeddings.pad_position,
            has_token_types=embeddings.has_token_types,
            scale=embeddings.scale,
            norm=as_norm(embeddings.norm),
        ),
        patches=_as_patches(spec.patches),
        final_norm=as_norm(spec.final_norm),
        blocks=(_Block * len(spec.blocks))(*map(_as_block, spec.blocks)),
        num_blocks=len(spec.blocks),
        num_threads=running.num_threads,
        available_threads=running.available_threads,
        bfloat16=running.bfloat16,
        first_value_twice=running.first_value_twice,
        activation_zero=running.activation_zero,
        isa=running.isa.encode(),
    )


def as_norm(norm: Norm | None) -> NormStruct:
    """A norm as the module takes it."""
    return NormStruct(0, 0.0) if norm is None else NormStruct(_NORMS[norm.kind], norm.epsilon)


def patch_width(patches: Patches) -> int:
    """Numbers of a patch as the module reads them, zeros behind its own: a multiple of 16."""
    return -(-patches.size // _LANES) * _LANES


def _as_patches(patches: Patches | None) -> _Patches:
    return _Patches(0, 0) if patches is None else _Patches(patch_width(patches), patches.count + patches.has_first_row)


def _as_block(block: Block) -> _Block:
    ffn = block.feed_forward
    return _Block(
        weights=block.weights,
        norms=_PLACES[block.norms],
        attention_is_normed=block.attention_is_normed,
        norm=as_norm(block.norm),
        feed_forward=_FeedForward(ffn.size, ACTIVATIONS[ffn.activation], ffn.gated),
        attention=_as_attention(block.attention),
    )


def _as_attention(attention: Attention) -> _Attention:
    return _Attention(
        num_heads=attention.num_heads,
        num_kv_heads=attention.num_kv_heads,
        head_size=attention.head_size,
        causal=attention.causal,
        window=-1 if attention.window is None else attention.window,
        rotary_interleaved=attention.rotary_interleaved,
        distance_bias=_BIASES[attention.distance_bias],
        head_norm=as_norm(attention.head_norm),
        scale=attention.scale,
        rotary=None if attention.rotary is None else attention.rotary.encode(),
    )


def as_tensors(arrays: Mapping[str, NDArray[Any]]) -> ctypes.Array[_Tensor]:
    """The arrays by name; they must outlive it."""
    out = (_Tensor * len(arrays))()
    for tensor, (name, array) in zip(out, arrays.items(), strict=True):
        tensor.name = name.encode()
        tensor.data = array.ctypes.data
        tensor.rows = int(np.prod(array.shape[:-1], dtype=np.int64))
        tensor.columns = array.shape[-1] if array.ndim else 1
        tensor.dtype = DTYPES[array.dtype.name]
    return out
