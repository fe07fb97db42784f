"""`python -m bench.int8_parts`: how much of int8's error is weights', how much activations', and of which products.

all-MiniLM-L6-v2's fused int8 graph is computed again in PyTorch, where each product can read its rows rounded to 8 bits
or as they are, and its weights alike. Numbers are cosine distances to the float32 path, in millionths, of sentences of
STS-B English; what all calibration texts' vectors are off by is taken off first, as the exporter does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bench import models
from bench.accuracy import read_stsb
from embedrt.tokenization import TextTokenizer
from embedrt_export import roles
from embedrt_export.calibration import calibration_ids
from embedrt_export.encoder_graph import build_graph
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import DEFAULT, fused, wanted
from embedrt_export.int8.calibration import batches, held_out, in_order, observe
from embedrt_export.int8.linear import Linear, activation_floor
from embedrt_export.int8.weights import quantize_rows
from embedrt_export.pipeline import encoder_of, write_tokenizer
from embedrt_export.reference import load_reference, tokenizer_of
from embedrt_export.source import resolve

_EVERY = 3  # of STS-B's sentences
_PARTS = {"qkv": ("query", "key", "value"), "attention_output": ("attention_output",),
          "ffn_up": ("ffn_up",), "ffn_down": ("ffn_down",)}  # fmt: skip


@dataclass(frozen=True)
class Rounded:
    """What is rounded to 8 bits: rows that products read, weights, and the token table."""

    rows: frozenset[str] = frozenset()  # of `_PARTS`
    weights: frozenset[str] = frozenset()
    table: bool = False


@dataclass
class Twin:
    """The int8 graph in PyTorch."""

    layers: list[fused.Layer]
    arrays: dict[str, torch.Tensor]
    heads: int
    epsilon: float = 1e-12
    table8: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        rows, scales = quantize_rows(self.arrays["embeddings.word"].numpy())
        self.table8 = torch.from_numpy(rows * scales)

    def states(self, ids: torch.Tensor, what: Rounded) -> torch.Tensor:
        """Hidden states (B, S, H) of texts of one length (B, S)."""
        word = self.table8 if what.table else self.arrays["embeddings.word"]
        x = word[ids] + self.arrays["embeddings.position"][: ids.shape[1]] + self.arrays["embeddings.token_type"][0]
        x = self._norm("embeddings.norm", x)
        for index, layer in enumerate(self.layers):
            name = f"layers.{index}"
            x = self._norm(f"{name}.attention_norm", x + self._attention(layer, x, what))
            x = self._norm(f"{name}.ffn_norm", x + _ffn(layer, x, what))
        return x

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        gamma, beta = self.arrays[f"{name}.gamma"], self.arrays[f"{name}.beta"]
        return functional.layer_norm(x, (x.shape[-1],), gamma, beta, self.epsilon)

    def _attention(self, layer: fused.Layer, x: torch.Tensor, what: Rounded) -> torch.Tensor:
        z = _folded(x, layer.input.scale, layer.input.shift)
        rows = _rows8(z) if "qkv" in what.rows else z
        query, key, value = (
            _product(linear, rows, part in what.weights)
            for part, linear in (("query", layer.query), ("key", layer.key), ("value", layer.value))
        )
        if "qkv" in what.rows and DEFAULT.first_value_twice:
            twice = rows[:, :1] + _rows8(z[:, :1] - rows[:, :1])
            value = torch.cat([_product(layer.value, twice, "value" in what.weights), value[:, 1:]], dim=1)
        split = (self._split(part) for part in (query, key, value))
        context = functional.scaled_dot_product_attention(*split).transpose(1, 2).reshape(x.shape)
        context = _rows8(context) if "attention_output" in what.rows else context
        return _product(layer.attention_output, context, "attention_output" in what.weights)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def _ffn(layer: fused.Layer, x: torch.Tensor, what: Rounded) -> torch.Tensor:
    assert layer.ffn_up_outlier is not None
    assert layer.outlier is not None
    z = _folded(x, layer.middle.scale, layer.middle.shift)
    rows = _rows8(z) if "ffn_up" in what.rows else z
    g = functional.gelu(_product(layer.ffn_up, rows, "ffn_up" in what.weights))
    few = functional.gelu(_product(layer.ffn_up_outlier, rows, "ffn_up" in what.weights))
    g = _rows8_activation(g, DEFAULT.activation_zero) if "ffn_down" in what.rows else g
    return _product(layer.ffn_down, g, "ffn_down" in what.weights) + few @ torch.from_numpy(layer.outlier)


def _folded(x: torch.Tensor, scale: NDArray[np.float32], shift: NDArray[np.float32]) -> torch.Tensor:
    return (x - torch.from_numpy(shift)) / torch.from_numpy(scale)


def _product(linear: Linear, rows: torch.Tensor, is_rounded: bool) -> torch.Tensor:
    weight = linear.quantized.dequantized() if is_rounded else linear.weight
    return rows @ torch.from_numpy(weight) + torch.from_numpy(linear.bias if is_rounded else linear.float_bias)


def _rows8(z: torch.Tensor) -> torch.Tensor:
    scale = z.abs().amax(dim=-1, keepdim=True).clamp_min(1e-30) / 127
    return (z / scale).round() * scale


def _rows8_activation(g: torch.Tensor, zero: int) -> torch.Tensor:
    scale = g.amax(dim=-1, keepdim=True).clamp_min(float(activation_floor(zero))) / (255 - zero)
    return (g / scale).round().clamp(-zero, 255 - zero) * scale


def main() -> int:
    """The command; 0 when something was measured."""
    torch.set_num_threads(1)  # products this small wait for their threads, above all beside other programs
    graph, tokenizer = load_minilm()
    calibration = calibration_ids(None, tokenizer, "", graph.model)
    twin = _make_twin(graph, calibration)
    first, second, _gold = read_stsb()
    texts = [ids.tolist() for ids in tokenizer([*first, *second][::_EVERY]).token_ids]
    fitted, _others = held_out(calibration)
    exact = [_pooled(twin, some, Rounded()) for some in (fitted, texts)]
    print("| rounded | mean | 99th percentile | max |", "|---|---|---|---|", sep="\n")
    for name, what in _choices().items():
        shift = (_pooled(twin, fitted, what) - exact[0]).mean(dim=0)
        vectors = _pooled(twin, texts, what) - shift
        far = 1e6 * (1 - functional.cosine_similarity(exact[1].double(), vectors.double()).numpy())
        print(f"| {name} | {far.mean():,.0f} | {np.percentile(far, 99):,.0f} | {far.max():,.0f} |", flush=True)
    return 0


def _choices() -> dict[str, Rounded]:
    every = frozenset(part for parts in _PARTS.values() for part in parts)
    return {
        "all": Rounded(frozenset(_PARTS), every, table=True),
        "weights": Rounded(weights=every),
        "rows": Rounded(frozenset(_PARTS)),
        "token table": Rounded(table=True),
        **{f"weights of {part}": Rounded(weights=frozenset({part})) for part in sorted(every)},
        **{f"rows that {name} reads": Rounded(frozenset({name})) for name in _PARTS},
    }


def load_minilm() -> tuple[EncoderGraph, TextTokenizer]:
    """all-MiniLM-L6-v2's fp32 graph and its tokenizer, as an export has them."""
    reference = load_reference(resolve(models.minilm()))
    with tempfile.TemporaryDirectory() as folder:
        graph = build_graph(encoder_of(reference.model), reference.source.config, reference.source.name, Path(folder))
        file = Path(folder) / "tokenizer.json"
        write_tokenizer(tokenizer_of(reference.model), file)
        return graph, TextTokenizer(file, reference.max_tokens)


def _make_twin(graph: EncoderGraph, calibration: Sequence[Sequence[int]]) -> Twin:
    seen = observe(graph.model, wanted(graph, DEFAULT, None), calibration).fitted
    stats = {product: seen[value] for product, value in fused.product_values(graph.model).items()}
    count = fused.num_layers(graph.model)
    folds = [fused.input_fold(graph, index, stats, DEFAULT) for index in range(count + 1)]
    layers = [fused.prepare(graph, i, (folds[i], folds[i + 1]), stats, DEFAULT) for i in range(count)]
    tensors = roles.Tensors(graph.model)
    names = [name for name in tensors.by_name if name.startswith("embeddings.") or "_norm." in name]
    attention = next(node for node in graph.model.graph.node if node.op_type == "Attention")
    heads = next(a.i for a in attention.attribute if a.name == "num_heads")
    return Twin(layers, {name: torch.from_numpy(np.array(tensors.array(name))) for name in names}, heads)


def _pooled(twin: Twin, texts: Sequence[Sequence[int]], what: Rounded) -> torch.Tensor:
    """Means of the texts' states (N, H)."""
    with torch.inference_mode():
        found = [twin.states(torch.tensor(batch), what).mean(dim=1).numpy() for batch in batches(texts)]
    return torch.from_numpy(in_order(texts, found))


if __name__ == "__main__":
    raise SystemExit(main())
