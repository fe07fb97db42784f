"""NomicBERT, GTE's "new" and JinaBERT in a few lines of torch, written from their papers and published code, whose own
classes are code beside the weights: the reference where that code is not to be run, and a second opinion on what their
families say. One text at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

State = Mapping[str, Tensor]
Config = Mapping[str, Any]
_GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "swiglu": functional.silu,
    "geglu": functional.gelu,
    "reglu": functional.relu,
}


def heads_of(x: Tensor, count: int) -> Tensor:
    """(T, heads * size) to (heads, T, size)."""
    return x.unflatten(-1, (count, -1)).transpose(0, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """(heads, T, size) to (T, H)."""
    out = functional.scaled_dot_product_attention(q[None], k[None], v[None], None if bias is None else bias[None])
    return out[0].transpose(0, 1).flatten(1)


def turn(x: Tensor, frequencies: Tensor, interleaved: bool = False) -> Tensor:
    """Rotary positions as multiplications of complex numbers."""
    turned, rest = x.split([2 * len(frequencies), x.shape[-1] - 2 * len(frequencies)], dim=-1)
    pairs = turned.unflatten(-1, (-1, 2)) if interleaved else torch.stack(turned.chunk(2, dim=-1), dim=-1)
    angles = torch.arange(x.shape[1])[:, None] * frequencies
    there = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angles), angles))
    back = there.flatten(-2) if interleaved else torch.cat(there.unbind(-1), dim=-1)
    return torch.cat((back, rest), dim=-1)


def nomic(config: Config, state: State, ids: list[int]) -> Tensor:
    """nomic-ai/nomic-bert-2048, modeling_hf_nomic_bert.py."""
    layer, norm = _readers(state, config["n_embd"], config["layer_norm_epsilon"])
    head = config["n_embd"] // config["n_head"]
    size = int(head * config["rotary_emb_fraction"])
    frequencies = config["rotary_emb_base"] ** (-torch.arange(0, size, 2) / size)
    x = state["embeddings.word_embeddings.weight"][ids] + state["embeddings.token_type_embeddings.weight"][0]
    x = norm("emb_ln", x)
    for i in range(config["n_layer"]):
        name = f"encoder.layers.{i}"
        q, k, v = (heads_of(part, config["n_head"]) for part in layer(f"{name}.attn.Wqkv", x).chunk(3, dim=-1))
        q, k = (turn(part, frequencies, config["rotary_emb_interleaved"]) for part in (q, k))
        x = norm(f"{name}.norm1", x + layer(f"{name}.attn.out_proj", attend(q, k, v)))
        act = _GATES[config["activation_function"]]
        y = layer(f"{name}.mlp.fc11", x) * act(layer(f"{name}.mlp.fc12", x))
        x = norm(f"{name}.norm2", x + layer(f"{name}.mlp.fc2", y))
    return x


def gte(config: Config, state: State, ids: list[int]) -> Tensor:
    """Alibaba-NLP/new-impl, modeling.py."""
    layer, norm = _readers(state, config["hidden_size"], config["layer_norm_eps"])
    count = config["num_attention_heads"]
    size, scaling = config["hidden_size"] // count, config["rope_scaling"] or {"factor": 1.0}
    factor, mixed = scaling["factor"], scaling.get("mixed_b")
    base = config["rope_theta"] * (factor if mixed is None else 1)
    frequencies = 1.0 / (base ** (torch.arange(0, size, 2) / size))
    if mixed is None:
        frequencies = frequencies / factor ** (2 / size)
    else:
        steps = torch.arange(1, size // 2 + 1)
        frequencies = frequencies / (math.log(factor) / (size / 2) ** mixed * steps**mixed).exp()
    x = state["embeddings.word_embeddings.weight"][ids]
    if config["type_vocab_size"]:
        x = x + state["embeddings.token_type_embeddings.weight"][0]
    x = norm("embeddings.LayerNorm", x)
    for i in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{i}"
        if config["pack_qkv"]:
            parts = layer(f"{name}.attention.qkv_proj", x).chunk(3, dim=-1)
        else:
            parts = tuple(layer(f"{name}.attention.{part}_proj", x) for part in "qkv")
        q, k, v = (heads_of(part, count) for part in parts)
        context = attend(turn(q, frequencies), turn(k, frequencies), v)
        x = norm(f"{name}.attn_ln", x + layer(f"{name}.attention.o_proj", context))
        up, gate = layer(f"{name}.mlp.up_gate_proj", x).chunk(2, dim=-1)
        x = norm(f"{name}.mlp_ln", x + layer(f"{name}.mlp.down_proj", functional.gelu(gate) * up))
    return x


def jina(config: Config, state: State, ids: list[int]) -> Tensor:
    """jinaai/jina-bert-implementation, modeling_bert.py."""
    layer, norm = _readers(state, config["hidden_size"], config["layer_norm_eps"])
    count = config["num_attention_heads"]
    far = (torch.arange(len(ids))[:, None] - torch.arange(len(ids))).abs()
    bias = -torch.tensor(_slopes(count))[:, None, None] * far
    x = state["embeddings.word_embeddings.weight"][ids] + state["embeddings.token_type_embeddings.weight"][0]
    x = norm("embeddings.LayerNorm", x)
    for i in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{i}"
        q, k, v = (heads_of(layer(f"{name}.attention.self.{p}", x), count) for p in ("query", "key", "value"))
        y = layer(f"{name}.attention.output.dense", attend(q, k, v, bias))
        x = norm(f"{name}.attention.output.LayerNorm", x + y)
        gate, up = layer(f"{name}.mlp.gated_layers", x).chunk(2, dim=-1)
        act = _GATES[config["feed_forward_type"]]
        x = norm(f"{name}.mlp.layernorm", x + layer(f"{name}.mlp.wo", act(gate) * up))
    return x


def _slopes(count: int) -> list[float]:
    """ALiBi's, by the recursion of its authors' code."""
    if math.log2(count).is_integer():
        start = 2 ** (-(2 ** -(math.log2(count) - 3)))
        return [start * start**i for i in range(count)]
    below = 2 ** math.floor(math.log2(count))
    return _slopes(below) + _slopes(2 * below)[0::2][: count - below]


def _readers(
    state: State, width: int, epsilon: float
) -> tuple[Callable[[str, Tensor], Tensor], Callable[[str, Tensor], Tensor]]:
    def layer(name: str, x: Tensor) -> Tensor:
        return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], epsilon)

    return layer, norm


FORMULAS: dict[str, Callable[[Config, State, list[int]], Tensor]] = {
    "NomicBertModel": nomic,
    "NewModel": gte,
    "JinaBertModel": jina,
}
"""Class of the authors' code -> hidden states (T, H) of one text's token ids, from config.json and its weights."""
