"""How the graph computes products and norms: in float32 here, in int8 by `embedrt_export.int8.emitted`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Block, FeedForward, Norm
from embedrt_export.nodes import MICROSOFT, Nodes

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """A block: its nodes are called by its index, its tensors by its weights."""

    nodes: str  # layers.{index}
    weights: str  # layers.{block.weights}

    def __truediv__(self, role: str) -> Place:
        """A part of it."""
        return Place(f"{self.nodes}.{role}", f"{self.weights}.{role}")

    @staticmethod
    def of(index: int, block: Block) -> Place:
        """The block at `index`."""
        return Place(f"layers.{index}", f"layers.{block.weights}")

    @staticmethod
    def only(name: str) -> Place:
        """A part that is there once."""
        return Place(name, name)


class Arithmetic:
    """Float32. Values are rows (T, K) by name; `states` of them are (B, S, K)."""

    def __init__(self, out: Nodes, tensors: Mapping[str, Array]) -> None:
        self.out = out
        self.source = tensors

    def word(self, ids: str) -> str:
        """The token table's rows (B, S, E)."""
        return self.out.add("Gather", [self.tensor("embeddings.word"), ids], "embeddings.word.rows")

    def patches(self, pixels: str) -> str:
        """Patches (B, count, size) as (B, count, H)."""
        return self.out.add("MatMul", [pixels, self.tensor("embeddings.patch.weight")], "embeddings.patch.product")

    def norm(self, place: Place, x: str, norm: Norm) -> str:
        """Layer or RMS norm of the rows."""
        gamma, beta = self.norm_tensors(place.weights)
        return self.write_norm(place, x, norm, gamma, beta)

    def projection(self, x: str) -> str:
        """From the tables' width to the encoder's."""
        return self.product(Place.only("embeddings.projection"), x)

    def attention_inputs(self, place: Place, x: str) -> tuple[str, str, str]:
        """Query, key and value (B, S, heads * head_size)."""
        query, key, value = (
            self.states(self.product(place / part, x), self.width(place / part)) for part in ("query", "key", "value")
        )
        return query, key, value

    def attention_output(self, place: Place, x: str) -> str:
        """The product after attention."""
        return self.product(place / "attention_output", x)

    def ffn(self, place: Place, x: str, forward: FeedForward) -> str:
        """Both products, or the three of a gated FFN."""
        h = self.product(place / "ffn_up", x)
        if forward.gated:
            gate = self.activation(self.product(place / "ffn_gate", x), forward.activation, place.nodes)
            h = self.out.add("Mul", [gate, h], f"{place.nodes}.gated")
        else:
            h = self.activation(h, forward.activation, place.nodes)
        return self.product(place / "ffn_down", h)

    def add(self, place: Place, y: str, x: str) -> str:
        """What attention or the FFN gives, and the residual x."""
        return self.out.add("Add", [y, x], f"{place.nodes}.sum")

    def product(self, place: Place, x: str) -> str:
        """x @ weight + bias."""
        name = f"{place.nodes}.product"
        y = self.out.add("MatMul", [x, self.tensor(f"{place.weights}.weight")], name)
        if f"{place.weights}.bias" not in self.source:
            return y
        return self.out.add("Add", [y, self.tensor(f"{place.weights}.bias")], f"{place.nodes}.output")

    def width(self, place: Place) -> int:
        """Columns of a product."""
        return int(self.source[f"{place.weights}.weight"].shape[1])

    def in_blocks(self, head_size: int) -> bool:
        """Whether the scores' sums are cut up, see `embedrt_export.int8.sums`; in float32 nobody sees their order."""
        del head_size
        return False

    def tensor(self, name: str) -> str:
        """A tensor of the spec as it is."""
        return name if name in self.out.tensors else self.out.tensor(name, self.source[name])

    def norm_tensors(self, name: str) -> tuple[str, str | None]:
        """Names of gamma and beta."""
        beta = self.tensor(f"{name}.beta") if f"{name}.beta" in self.source else None
        return self.tensor(f"{name}.gamma"), beta

    def write_norm(self, place: Place, x: str, norm: Norm, gamma: str, beta: str | None) -> str:
        """The node of a norm; an RMS norm's beta is added."""
        name = f"{place.nodes}.output"
        if norm.kind == "layer":
            inputs = [x, gamma] if beta is None else [x, gamma, beta]
            return self.out.add("LayerNormalization", inputs, name, axis=-1, epsilon=norm.epsilon)
        scaled = name if beta is None else f"{place.nodes}.scaled"
        self.out.add("SimplifiedLayerNormalization", [x, gamma], scaled, axis=-1, epsilon=norm.epsilon, stash_type=1)
        return scaled if beta is None else self.out.add("Add", [scaled, beta], name)

    def activation(self, x: str, kind: str, prefix: str) -> str:
        """An activation function by its name in the spec."""
        name, out = f"{prefix}.activation", self.out
        if kind in ("gelu", "gelu_tanh"):
            return out.add("Gelu", [x], name, approximate="tanh" if kind == "gelu_tanh" else "none")
        if kind == "relu":
            return out.add("Relu", [x], name)
        alpha = {"silu": 1.0, "quick_gelu": 1.702}[kind]  # x * sigmoid(alpha * x)
        return out.add("QuickGelu", [x], name, MICROSOFT, alpha=alpha)

    def states(self, rows: str, width: int) -> str:
        """Rows (T, width) as (B, S, width)."""
        return self.out.add("Reshape", [rows, self.states_shape(width)], f"{rows}.states")

    def states_shape(self, width: int) -> str:
        """The shape (B, S, width)."""
        name = f"states.shape.{width}"
        if not self.out.has(name):
            if not self.out.has("states.batch"):
                self.out.add("Shape", ["input_ids"], "states.batch")
            size = self.out.constant("const.width", np.array([width]), str(width))
            self.out.add("Concat", ["states.batch", size], name, axis=0)
        return name

    def rows(self, states: str, width: int, name: str) -> str:
        """Anything as rows (T, width)."""
        return self.out.add("Reshape", [states, self.flat(width)], name)

    def flat(self, width: int) -> str:
        """The shape (-1, width)."""
        return self.out.constant("const.flat", np.array([-1, width]), str(width))
