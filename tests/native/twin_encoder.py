"""A whole encoder in numpy as the native executor runs it, int8 as `embedrt_export.int8.emitted` says it.

float64 but for what is rounded to 8 bits, and to bfloat16 where that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Attention, Block, EncoderSpec, FeedForward, Norm
from tests.native import twin
from tests.native.twin import Floats

_CENTRE = 128
_LOG2_E = float(np.log2(np.e))


@dataclass(frozen=True)
class Twin:
    """An encoder with its tensors."""

    spec: EncoderSpec
    tensors: Mapping[str, NDArray[Any]]
    narrow: bool = False  # attention in bfloat16
    narrow_products: bool = False  # float32 products alike
    first_value_twice: bool = True
    activation_zero: int = 24

    def __call__(self, ids: NDArray[np.int32], second: int | None = None) -> Floats:
        """Hidden states (n, H) of one text; tokens from `second` on have type 1."""
        return self._run_all(*self._embed(ids, len(ids) if second is None else second))

    def picture(self, pixels: NDArray[np.float32]) -> Floats:
        """Hidden states (n, H) of one picture's patches (count, size)."""
        patches, spec = self.spec.patches, self.spec.embeddings
        assert patches is not None
        rows = np.concatenate([np.zeros((int(patches.has_first_row), patches.size), np.float32), pixels])
        x = self._linear("embeddings.patch", rows.astype(np.float64)) + self.tensors["embeddings.position"]
        return self._run_all(self._norm("embeddings.norm", spec.norm, x) if spec.norm else x, None)

    def _run_all(self, x: Floats, made_by: str | None) -> Floats:
        for i, block in enumerate(self.spec.blocks):
            x, made_by = self._run(block, x, made_by, last=i + 1 == len(self.spec.blocks))
        return self._norm("final_norm", self.spec.final_norm, x) if self.spec.final_norm else x

    def _embed(self, ids: NDArray[np.int32], second: int) -> tuple[Floats, str | None]:
        """What goes into the first block, and the name of what made it."""
        spec, tensors = self.spec.embeddings, self.tensors
        x = tensors["embeddings.word"][ids].astype(np.float64)
        if "embeddings.word.scale" in tensors:
            x *= tensors["embeddings.word.scale"][ids]
        if "embeddings.word_rest" in tensors:
            row = tensors["embeddings.word_rest.row"][ids, 0]
            x += tensors["embeddings.word_rest"][row] * tensors["embeddings.word_rest.scale"][row].astype(np.float64)
        x = x * spec.scale
        if spec.num_positions:
            x = x + tensors["embeddings.position"][positions(spec.pad_position, ids)]
        if spec.has_token_types:
            x = x + tensors["embeddings.token_type"][(np.arange(len(ids)) >= second).astype(int)]
        made_by = None
        if spec.norm:
            x, made_by = self._norm("embeddings.norm", spec.norm, x), "embeddings.norm"
        if spec.size != self.spec.hidden_size:
            x, made_by = self._linear("embeddings.projection", x), "embeddings.projection"
        return x, made_by

    def _run(self, block: Block, x: Floats, made_by: str | None, *, last: bool) -> tuple[Floats, str | None]:
        name = f"layers.{block.weights}"
        into = x
        if block.norms != "post" and block.attention_is_normed:
            into = self._norm(f"{name}.attention_norm", block.norm, x)
        y = self._attend(block.attention, name, into)
        x, made_by = self._add(block, f"{name}.attention", f"{name}.attention_norm", x, y, made_by)
        into = x if block.norms == "post" else self._norm(f"{name}.ffn_norm", block.norm, x)
        y = self._feed(block.feed_forward, name, into)
        own = last and "output_norm.gamma" in self.tensors
        return self._add(block, f"{name}.ffn", "output_norm" if own else f"{name}.ffn_norm", x, y, made_by)

    def _add(
        self, block: Block, part: str, post: str, x: Floats, y: Floats, made_by: str | None
    ) -> tuple[Floats, str | None]:
        """The states with what a block's half makes of them, and what made these."""
        if block.norms == "sandwich":
            y = self._norm(f"{part}_after_norm", block.norm, y)
        x = y + x * self.tensors.get(f"{made_by}.restore", np.float32(1))
        return (self._norm(post, block.norm, x), post) if block.norms == "post" else (x, None)

    def _attend(self, spec: Attention, name: str, x: Floats) -> Floats:
        # Q's factor is multiplied into its weight, or its norm, before anything is rounded to bfloat16
        factor = _LOG2_E * spec.scale
        into_weight = 1.0 if spec.head_norm else factor
        q = self._linear(f"{name}.query", x, factor=into_weight)
        k, v = self._linear(f"{name}.key", x), self._linear(f"{name}.value", x)
        finished = spec.head_norm is not None or spec.rotary is not None
        if self.first_value_twice and f"{name}.value.scale" in self.tensors:
            value = twin.bfloat16(v[:1]) if self.narrow and not finished else v[:1]
            v[:1] = value + self._multiply(f"{name}.value", twin.remainder_of(x[:1]))
        split = {"query": self._heads(q, spec), "key": self._heads(k, spec)}
        for part, heads in split.items():
            if spec.head_norm:
                heads[:] = [self._norm(f"{name}.{part}_norm", spec.head_norm, one) for one in heads]
            if spec.rotary is not None:
                heads[:] = [
                    twin.rotate(one, self._turn(spec, len(x)), interleaved=spec.rotary_interleaved) for one in heads
                ]
        group = spec.num_heads // spec.num_kv_heads
        values = self._heads(v, spec)
        out = [
            twin.attention(
                one, split["key"][h // group], values[h // group], self.narrow,
                factor=factor / into_weight, bias=self._bias(spec, h, len(x)), seen=seen(spec, len(x)),
            )
            for h, one in enumerate(split["query"])
        ]  # fmt: skip
        return self._linear(f"{name}.attention_output", np.concatenate(out, axis=1))

    def _heads(self, x: Floats, spec: Attention) -> list[Floats]:
        return [x[:, h : h + spec.head_size] for h in range(0, x.shape[1], spec.head_size)]

    def _turn(self, spec: Attention, length: int) -> Floats:
        places = np.arange(length, dtype=np.float32)
        angles = (places[:, None] * self.tensors[f"rotary.{spec.rotary}.frequencies"]).astype(np.float64)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def _bias(self, spec: Attention, head: int, length: int) -> Floats | None:
        far = distances(length)
        if spec.distance_bias == "none":
            return None
        if spec.distance_bias == "slopes":
            return np.asarray(-self.tensors["attention.slopes"][head] * np.abs(far), np.float64)
        table = self.tensors["attention.distance_bias"][head]
        reach = len(table) // 2
        return np.asarray(table[np.clip(far, -reach, reach) + reach], np.float64)

    def _feed(self, spec: FeedForward, name: str, x: Floats) -> Floats:
        lopsided = not spec.gated and spec.activation != "silu"
        y = self._linear(
            f"{name}.ffn_down", self._activated(spec, name, "", x), self.activation_zero if lopsided else _CENTRE
        )
        if f"{name}.ffn_up_outlier.weight" in self.tensors:
            few = self._activated(spec, name, "_outlier", x)
            y = y + few @ self.tensors[f"{name}.ffn_down_outlier.weight"].astype(np.float64)
        return y

    def _activated(self, spec: FeedForward, name: str, which: str, x: Floats) -> Floats:
        function, up = twin.ACTIVATIONS[spec.activation], self._linear(f"{name}.ffn_up{which}", x)
        return function(self._linear(f"{name}.ffn_gate{which}", x)) * up if spec.gated else function(up)

    def _linear(self, name: str, x: Floats, zero: int = _CENTRE, factor: float = 1.0) -> Floats:
        y = self._multiply(name, x, zero, factor)
        layer, _, part = name.rpartition(".")
        places = {"query": 0, "key": 1, "value": 2}
        if f"{layer}.qkv.bias" in self.tensors and part in places:
            return y + factor * np.split(self.tensors[f"{layer}.qkv.bias"], 3)[places[part]]
        return y + factor * self.tensors.get(f"{name}.bias", np.float32(0))

    def _multiply(self, name: str, x: Floats, zero: int = _CENTRE, factor: float = 1.0) -> Floats:
        weight, scale = self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.scale")
        if scale is None and self.narrow_products:
            return twin.bfloat16(x) @ twin.bfloat16(weight * np.float32(factor))
        return factor * twin.product(x, zero, weight, scale)

    def _norm(self, name: str, norm: Norm, x: Floats) -> Floats:
        function = twin.layer_norm if norm.kind == "layer" else twin.rms_norm
        beta = self.tensors.get(f"{name}.beta", np.zeros(1, np.float32))
        return function(x, self.tensors[f"{name}.gamma"], beta, norm.epsilon)


def positions(pad: int | None, ids: NDArray[np.int32]) -> NDArray[np.int64]:
    """Rows of the position table (n,)."""
    if pad is None:
        return np.arange(len(ids))
    real = ids != pad
    return np.asarray(np.cumsum(real) * real + pad)


def distances(length: int) -> NDArray[np.int64]:
    """Key minus query, queries in rows."""
    return np.arange(length)[None] - np.arange(length)[:, None]


def seen(spec: Attention, length: int) -> NDArray[np.bool_]:
    """Which keys a query sees."""
    far = distances(length)
    out = np.ones_like(far, bool)
    if spec.causal:
        out &= far <= 0
    if spec.window is not None:
        out &= np.abs(far) <= spec.window
    return out
