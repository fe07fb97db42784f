"""The int8 graph of an emitted encoder: the walk of `embedrt_export.emit` with the arithmetic of `emitted`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from embedrt.encoder import EncoderSpec, FeedForward, Norm
from embedrt_export.emit.arithmetic import Arithmetic, Place
from embedrt_export.emit.walk import walk
from embedrt_export.int8.builder import Builder
from embedrt_export.int8.emitted import Layer, makers, spec_tensors
from embedrt_export.int8.linear import CENTRE, Fold, Linear
from embedrt_export.int8.recipe import Int8Recipe
from embedrt_export.int8.table import Table8
from embedrt_export.int8.values import first_twice
from embedrt_export.sums import BLOCK

Array = NDArray[np.float32]
Rows = tuple[str, str]  # u8 rows and their scales

OUTPUT_NORM = "output_norm"


def emit(
    spec: EncoderSpec,
    source: onnx.ModelProto,
    layers: Mapping[int, Layer],
    table: Table8 | None,
    recipe: Int8Recipe,
    wide: frozenset[str] = frozenset(),
) -> onnx.ModelProto:
    """The int8 graph of the fp32 graph `source`; `layers` by their weights, products in `wide` stay float32."""
    out = Builder(source)
    return walk(spec, out, Int8Arithmetic(spec, out, layers, table, recipe, wide))


class Int8Arithmetic(Arithmetic):
    """Products in int8, norms folded; see `embedrt_export.int8.emitted`."""

    def __init__(
        self,
        spec: EncoderSpec,
        out: Builder,
        layers: Mapping[int, Layer],
        table: Table8 | None,
        recipe: Int8Recipe,
        wide: frozenset[str],
    ) -> None:
        super().__init__(out, spec_tensors(out.source.model))
        self.builder = out
        self._layers = {f"layers.{weights}": layer for weights, layer in layers.items()}
        self._table = None if "embeddings.word" in wide else table
        self._recipe, self._wide = recipe, wide
        self._folds = _folds(spec, layers)
        self._residual_shifts = _residual_shifts(spec, layers)
        self._output = _output_norm(spec)
        self._folded: dict[str, tuple[str, Fold]] = {}  # value -> what made it, and its fold

    def word(self, ids: str) -> str:
        return super().word(ids) if self._table is None else self._table.look_up(self.builder, ids)

    def norm(self, place: Place, x: str, norm: Norm) -> str:
        if place.nodes == self._output.nodes:
            return self._write_output_norm(place, x, norm)
        fold = self._folds.get(place.weights)
        if fold is None:
            return super().norm(place, x, norm)
        gamma, beta = self._gamma_beta(place.weights)
        gamma, beta = gamma / fold.scale, (beta - fold.shift) / fold.scale
        names = self.builder.once(f"{place.weights}.gamma", gamma), f"{place.weights}.beta"
        has_beta = norm.kind == "layer" or bool(np.any(beta))
        y = self.write_norm(place, x, norm, names[0], self.builder.once(names[1], beta) if has_beta else None)
        self._folded[y] = place.weights, fold
        return y

    def projection(self, x: str) -> str:
        name = "embeddings.projection"
        fold = self._folds.get(name)
        if fold is None:
            return super().projection(x)
        weight = self.source[f"{name}.weight"] / fold.scale
        bias = (self.source.get(f"{name}.bias", np.float32(0)) - fold.shift) / fold.scale
        y = self._float_product(Place.only(name), x, weight, bias)
        self._folded[y] = name, fold
        return y

    def attention_inputs(self, place: Place, x: str) -> tuple[str, str, str]:
        layer = self._layers[place.weights]
        is_wide = f"{place.weights}.qkv" in self._wide
        rows = None if is_wide else self._rows8(x, layer.linears["query"], f"{place.nodes}.qkv")
        query, key = (
            self.states(self._product(place / part, layer.linears[part], x, rows), len(layer.linears[part].bias))
            for part in ("query", "key")
        )
        value, part = layer.linears["value"], place / "value"
        if rows is None or not self._recipe.first_value_twice:
            return query, key, self.states(self._product(part, value, x, rows), len(value.bias))
        width = len(value.weight)
        y = first_twice(self.builder, part.nodes, x, rows, value.quantized, self.states_shape(width),
                        self._tensors_of(part))  # fmt: skip
        return query, key, self._biased(part, y, value.bias)

    def attention_output(self, place: Place, x: str) -> str:
        part = place / "attention_output"
        linear = self._layers[place.weights].linears["attention_output"]
        rows = None if part.weights in self._wide else self._rows8(x, linear, part.nodes)
        return self._product(part, linear, x, rows, self._residual_shifts.get(part.weights))

    def ffn(self, place: Place, x: str, forward: FeedForward) -> str:
        layer = self._layers[place.weights]
        up, down = place / "ffn_up", place / "ffn_down"
        rows = None if up.weights in self._wide else self._rows8(x, layer.linears["ffn_up"], up.nodes)
        g = self._neurons(place, x, rows, forward, "")
        linear, read = layer.linears["ffn_down"], None
        if down.weights not in self._wide and layer.zero == CENTRE:
            read = self._rows8(g, linear, down.nodes)
        elif down.weights not in self._wide:
            read = self.builder.rows8_activation(g, len(linear.weight), down.nodes, layer.zero)
        y = self._product(down, linear, g, read, self._residual_shifts.get(down.weights), layer.zero)
        if layer.outlier is None:
            return y
        weight = self.builder.once(f"{down.weights}_outlier.weight", layer.outlier)
        o = self._neurons(place, x, rows, forward, "_outlier")
        few = self.out.add("MatMul", [o, weight], f"{down.nodes}_outlier.product")
        return self.out.add("Add", [y, few], f"{down.nodes}.sum")

    def add(self, place: Place, y: str, x: str) -> str:
        made_by, fold = self._folded.get(x, ("", None))
        if fold is not None and np.any(fold.scale != 1):
            restore = self.builder.once(f"{made_by}.restore", fold.scale)
            x = self.out.add("Mul", [x, restore], f"{place.nodes}.residual")
        return super().add(place, y, x)

    def in_blocks(self, head_size: int) -> bool:
        return head_size > BLOCK

    def _neurons(self, place: Place, x: str, rows: Rows | None, forward: FeedForward, suffix: str) -> str:
        """What the FFN's last product reads (T, F - c), or its outliers (T, c)."""
        linears = self._layers[place.weights].linears
        up, gate = f"ffn_up{suffix}", f"ffn_gate{suffix}"
        h = self._product(place / up, linears[up], x, rows)
        if not forward.gated:
            return self.activation(h, forward.activation, f"{place.nodes}.{up}")
        g = self._product(place / gate, linears[gate], x, rows)
        g = self.activation(g, forward.activation, f"{place.nodes}.{gate}")
        return self.out.add("Mul", [g, h], f"{place.nodes}.{up}.gated")

    def _rows8(self, x: str, linear: Linear, name: str) -> Rows:
        return self.builder.rows8(x, len(linear.weight), name)

    def _product(
        self, place: Place, linear: Linear, x: str, rows: Rows | None, shift: Array | None = None, zero: int = CENTRE
    ) -> str:
        """The product of the 8-bit rows, or where there are none, of x; `shift` is added to the bias."""
        bias = linear.float_bias if rows is None else linear.bias
        bias = bias if shift is None else bias + shift
        if rows is None:
            return self._float_product(place, x, linear.weight, bias)
        y = self.builder.product(*rows, linear.quantized, zero, place.nodes, self._tensors_of(place))
        return self._biased(place, y, bias)

    def _float_product(self, place: Place, x: str, weight: Array, bias: Array) -> str:
        y = self.out.add("MatMul", [x, self.builder.once(f"{place.weights}.weight", weight)], f"{place.nodes}.output")
        return self._biased(place, y, bias)

    def _biased(self, place: Place, y: str, bias: Array) -> str:
        return self.out.add("Add", [y, self.builder.once(f"{place.weights}.bias", bias)], f"{place.nodes}.biased")

    def _tensors_of(self, place: Place) -> str:
        """What a product's tensors are called: by its weights, but for the later ones of equal weights."""
        return f"{place.weights}.of.{place.nodes}" if f"{place.weights}.weight" in self.out.tensors else place.weights

    def _write_output_norm(self, place: Place, x: str, norm: Norm) -> str:
        """The norm that the encoder's output comes from: not folded, and with a beta that can be corrected."""
        gamma, beta = self._gamma_beta(place.weights)
        name = self._output.weights
        names = self.out.tensor(f"{name}.gamma", gamma), self.out.tensor(f"{name}.beta", beta)
        return self.write_norm(place, x, norm, *names)

    def _gamma_beta(self, name: str) -> tuple[Array, Array]:
        gamma = self.source[f"{name}.gamma"]
        return gamma, self.source.get(f"{name}.beta", np.zeros_like(gamma))


def _folds(spec: EncoderSpec, layers: Mapping[int, Layer]) -> dict[str, Fold]:
    """The fold of what each norm makes, and of what the embeddings' projection does."""
    folds = {maker: layers[weights].input for maker, weights in makers(spec).items()}
    for block in spec.blocks:
        middle = "attention_norm" if block.norms == "post" else "ffn_norm"
        folds[f"layers.{block.weights}.{middle}"] = layers[block.weights].middle
    return folds


def _residual_shifts(spec: EncoderSpec, layers: Mapping[int, Layer]) -> dict[str, Array]:
    """Product -> the shift of the residual that is added to it, where that is folded."""
    shifts: dict[str, Array] = {}
    for block in spec.blocks:
        name, layer = f"layers.{block.weights}", layers[block.weights]
        if block.norms == "post" or not block.attention_is_normed:
            shifts[f"{name}.attention_output"] = layer.input.shift
        if block.norms == "post":
            shifts[f"{name}.ffn_down"] = layer.middle.shift
    return shifts


def _output_norm(spec: EncoderSpec) -> Place:
    """Where the encoder's output comes from, and what its tensors are called; nowhere if from a sum."""
    if spec.final_norm is not None:
        return Place.only("final_norm")
    last = spec.blocks[-1] if spec.blocks else None
    if last is None or last.norms != "post":
        return Place.only("")
    place = Place.of(len(spec.blocks) - 1, last) / "ffn_norm"
    is_shared = sum(block.weights == last.weights for block in spec.blocks) > 1
    return Place(place.nodes, OUTPUT_NORM if is_shared else place.weights)
