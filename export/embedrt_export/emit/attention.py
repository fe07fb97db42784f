"""Attention of one block: heads, rotation, masks and biases, which are made once for all blocks that have the same."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from embedrt.encoder import Attention
from embedrt_export.emit.arithmetic import Arithmetic, Place
from embedrt_export.emit.positions import token_positions
from embedrt_export.nodes import MICROSOFT, Nodes
from embedrt_export.sums import add_in_blocks

MASKED = -30000.0
"""Added to the scores of tokens that are not looked at: enough for exp to give zero, and finite in half as well, so
that a row of padding that looks at nothing has no NaN."""


class AttentionWriter:
    """Writes the attention of blocks into one graph; not `is_padded`: of pictures, which all have as many rows."""

    def __init__(self, out: Nodes, arithmetic: Arithmetic, *, is_padded: bool = True) -> None:
        self._out = out
        self._arithmetic = arithmetic
        self._is_padded = is_padded

    def write(self, place: Place, attention: Attention, x: str) -> str:
        """attention(x), rows (T, H)."""
        query, key, value = self._arithmetic.attention_inputs(place, x)
        heads, kv_heads = attention.num_heads, attention.num_kv_heads
        query = self._placed(place / "query", attention, query, heads)
        key = self._placed(place / "key", attention, key, kv_heads)
        key, value = (
            self._repeated(states, attention, f"{place.nodes}.{part}.repeated")
            for part, states in (("key", key), ("value", value))
        )
        name = f"{place.nodes}.attention"
        self._attend(name, attention, query, key, value)
        width = heads * attention.head_size
        return self._arithmetic.attention_output(place, self._arithmetic.rows(name, width, f"{name}.rows"))

    def _placed(self, place: Place, attention: Attention, states: str, heads: int) -> str:
        """Queries or keys (B, S, heads * head_size), normed and rotated."""
        if attention.head_norm is not None:
            norm = Place(f"{place.nodes}_norm", f"{place.weights}_norm")
            rows = self._arithmetic.rows(states, attention.head_size, f"{place.nodes}.heads")
            rows = self._arithmetic.norm(norm, rows, attention.head_norm)
            shape = self._arithmetic.states_shape(heads * attention.head_size)
            states = self._out.add("Reshape", [rows, shape], f"{norm.nodes}.states")
        if attention.rotary is not None:
            states = self._rotated(place, attention, states, heads)
        return states

    def _rotated(self, place: Place, attention: Attention, states: str, heads: int) -> str:
        cosines, sines = self._angles(str(attention.rotary))
        pairs = len(self._arithmetic.source[f"rotary.{attention.rotary}.frequencies"])
        part = 0 if 2 * pairs == attention.head_size else 2 * pairs
        inputs = [states, self._out.once("const.first", np.array([0])), cosines, sines]
        return self._out.add(
            "RotaryEmbedding", inputs, f"{place.nodes}.rotated", MICROSOFT, num_heads=heads,
            rotary_embedding_dim=part, interleaved=int(attention.rotary_interleaved),
        )  # fmt: skip

    def _angles(self, rotary: str) -> tuple[str, str]:
        """Cosines and sines (S, F), made once for each set of frequencies."""
        out, name = self._out, f"rotary.{rotary}"
        if not out.has(f"{name}.cosines"):
            places = out.add("Cast", [token_positions(out)], f"{name}.positions", to=TensorProto.FLOAT)
            column = out.add("Unsqueeze", [places, out.once("const.second_axis", np.array([1]))], f"{name}.column")
            angles = out.add("Mul", [column, self._arithmetic.tensor(f"{name}.frequencies")], f"{name}.angles")
            out.add("Cos", [angles], f"{name}.cosines")
            out.add("Sin", [angles], f"{name}.sines")
        return f"{name}.cosines", f"{name}.sines"

    def _repeated(self, states: str, attention: Attention, name: str) -> str:
        """Keys or values with a copy of each head for every query head that reads it."""
        copies = attention.num_heads // attention.num_kv_heads
        if copies == 1:
            return states
        rows = self._arithmetic.rows(states, attention.head_size, f"{name}.rows")
        self._out.add("Concat", [rows] * copies, f"{name}.copies", axis=1)
        shape = self._arithmetic.states_shape(attention.num_heads * attention.head_size)
        return self._out.add("Reshape", [f"{name}.copies", shape], name)

    def _attend(self, name: str, attention: Attention, query: str, key: str, value: str) -> None:
        bias = self._bias(attention, in_operator=not self._arithmetic.in_blocks(attention.head_size))
        if self._arithmetic.in_blocks(attention.head_size):
            self._attend_in_blocks(name, attention, (query, key, value), bias)
            return
        inputs = [query, key, value, "", self._key_mask(), *([bias] if bias else [])]
        self._out.add(
            "MultiHeadAttention", inputs, name, MICROSOFT, num_heads=attention.num_heads, scale=attention.scale,
            mask_filter_value=MASKED, unidirectional=int(attention.causal and not bias),
        )  # fmt: skip

    def _attend_in_blocks(self, name: str, attention: Attention, states: tuple[str, str, str], bias: str) -> None:
        """The same in plain operators, with the sums of the scores in an order that padding does not change."""
        out, heads, size = self._out, attention.num_heads, attention.head_size
        shape = out.constant("const.heads", np.array([0, 0, heads, size]), f"{heads}.{size}")
        sides = [
            out.add(
                "Transpose", [out.add("Reshape", [value, shape], f"{name}.{part}.heads")], f"{name}.{part}", perm=perm
            )
            for part, value, perm in zip(
                ("q", "k", "v"), states, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True
            )
        ]
        add_in_blocks(out, sides[:2], f"{name}.scores", f"{name}.products", size)
        scale = out.scalar(f"const.scale.{attention.scale}", np.float32(attention.scale))
        scores = out.add("Mul", [f"{name}.products", scale], f"{name}.scaled")
        for part, value in (("bias", bias), ("padding", self._padding_bias())):
            scores = out.add("Add", [scores, value], f"{name}.with_{part}") if value else scores
        out.add("Softmax", [scores], f"{name}.probabilities", axis=-1)
        out.add("MatMul", [f"{name}.probabilities", sides[2]], f"{name}.context")
        out.add("Transpose", [f"{name}.context"], f"{name}.context.states", perm=[0, 2, 1, 3])
        out.add("Reshape", [f"{name}.context.states", self._arithmetic.states_shape(heads * size)], name)

    def _padding_bias(self) -> str:
        """What is added to the scores of padding (B, 1, 1, S); "" where there is none."""
        if not self._is_padded:
            return ""
        out, name = self._out, "states.padding"
        if not out.has(name):
            seen = out.add("Cast", ["attention_mask"], f"{name}.seen", to=TensorProto.BOOL)
            none, masked = out.scalar("const.unmasked", np.float32(0)), out.scalar("const.masked", np.float32(MASKED))
            out.add("Where", [seen, none, masked], f"{name}.rows")
            out.add("Unsqueeze", [f"{name}.rows", out.constant("const.axes", np.array([1, 2]), "padding")], name)
        return name

    def _key_mask(self) -> str:
        if not self._is_padded:
            return ""
        name = "states.mask"
        if not self._out.has(name):
            self._out.add("Cast", ["attention_mask"], name, to=TensorProto.INT32)
        return name

    def _bias(self, attention: Attention, *, in_operator: bool) -> str:
        """What is added to the scores (1, heads or 1, S, S); "" where that is nothing, or what the operator's own
        causal mask does, `in_operator`."""
        kind, window = attention.distance_bias, attention.window
        if kind == "none" and window is None and (in_operator or not attention.causal):
            return ""
        out = self._out
        name = f"attention.bias.{kind}.{'causal' if attention.causal else 'both'}.{'all' if window is None else window}"
        if out.has(name):
            return name
        seen = self._seen(attention, name)
        bias = "" if kind == "none" else self._distance_bias(kind)
        if seen:
            masked = out.scalar("const.masked", np.float32(MASKED))
            bias = out.add(
                "Where", [seen, bias or out.scalar("const.unmasked", np.float32(0)), masked], f"{name}.masked"
            )
        axes = np.array([0] if kind != "none" else [0, 1])
        return out.add("Unsqueeze", [bias, out.constant("const.axes", axes, str(len(axes)))], name)

    def _seen(self, attention: Attention, name: str) -> str:
        """Whether a key is looked at (S, S); "" where all are."""
        out, found = self._out, []
        if attention.window is not None:
            limit = out.scalar(f"const.window.{attention.window}", np.int64(attention.window))
            found.append(out.add("LessOrEqual", [self._absolute(), limit], f"{name}.near"))
        if attention.causal:
            none = out.scalar("const.none", np.int64(0))
            found.append(out.add("LessOrEqual", [self._distances(), none], f"{name}.before"))
        return out.add("And", found, f"{name}.seen") if len(found) == 2 else "".join(found)

    def _distance_bias(self, kind: str) -> str:
        """The biases of the distances (heads, S, S)."""
        out, name = self._out, f"attention.distance_bias.{kind}"
        if out.has(name):
            return name
        if kind == "slopes":
            away = out.add("Cast", [self._absolute()], f"{name}.away", to=TensorProto.FLOAT)
            axes = out.constant("const.axes", np.array([1, 2]), "slopes")
            slopes = out.add("Unsqueeze", [self._arithmetic.tensor("attention.slopes"), axes], f"{name}.slopes")
            out.add("Mul", [away, slopes], f"{name}.risen")
            return out.add("Neg", [f"{name}.risen"], name)
        table = self._arithmetic.tensor("attention.distance_bias")
        last = self._arithmetic.source["attention.distance_bias"].shape[1] // 2
        low, high = (out.scalar(f"const.{end}", np.int64(value)) for end, value in (("near", -last), ("far", last)))
        near = out.add("Clip", [self._distances(), low, high], f"{name}.clipped")
        columns = out.add("Add", [near, high], f"{name}.columns")
        return out.add("Gather", [table, columns], name, axis=1)

    def _distances(self) -> str:
        """Key minus query (S, S)."""
        out, name = self._out, "states.distances"
        if not out.has(name):
            places = token_positions(out)
            column = out.add(
                "Unsqueeze", [places, out.once("const.second_axis", np.array([1]))], "states.positions.column"
            )
            out.add("Sub", [places, column], name)
        return name

    def _absolute(self) -> str:
        name = "states.distances.absolute"
        return name if self._out.has(name) else self._out.add("Abs", [self._distances()], name)
