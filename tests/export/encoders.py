"""Tiny seeded encoders, their graphs run, and the model run by PyTorch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
import transformers

from embedrt_export.emit.encoder import emit_encoder
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import Int8Recipe
from embedrt_export.weights import save_graph
from tests.sessions import open_session

LAYERS, WIDTH, HEADS, FFN, VOCAB = 2, 64, 4, 128, 300

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FFN,
    "max_position_embeddings": 66,
}
CONFIGS: dict[str, tuple[str, Any]] = {
    "bert": ("BertModel", transformers.BertConfig(**_COMMON, type_vocab_size=2)),
    "roberta": ("XLMRobertaModel", transformers.XLMRobertaConfig(**_COMMON, type_vocab_size=1, pad_token_id=1)),
    "distilbert": (
        "DistilBertModel",
        transformers.DistilBertConfig(
            vocab_size=VOCAB, dim=WIDTH, n_layers=LAYERS, n_heads=HEADS, hidden_dim=FFN, max_position_embeddings=66
        ),
    ),
    "mpnet": ("MPNetModel", transformers.MPNetConfig(**_COMMON)),
}
QUICK = Int8Recipe(ffn_outliers=16, max_wide=0)


def make_encoder(kind: str, **changes: Any) -> Any:
    """A seeded encoder whose weights, biases and gains are all exact in fp16 and none is trivial."""
    torch.manual_seed(7)
    name, config = CONFIGS[kind]
    config = copy.deepcopy(config)
    config.update(changes)
    encoder = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return encoder.half().float()


def make_graph(encoder: Any) -> EncoderGraph:
    """The encoder's emitted graph."""
    graph = emit_encoder(encoder.config.to_dict(), encoder, "tiny")
    assert isinstance(graph, EncoderGraph)
    return graph


def session(model: onnx.ModelProto, folder: Path, nodes: Any = None) -> ort.InferenceSession:
    save_graph(model, folder / "model.onnx", folder / "weights.bin", nodes=nodes)
    return open_session(str(folder / "model.onnx"))


def run(s: ort.InferenceSession, sequences: list[list[int]], pad: int = 1) -> list[np.ndarray]:
    """The hidden states (S, H) of each text, all in one padded batch."""
    ids = np.full((len(sequences), max(map(len, sequences))), pad, np.int64)
    mask = np.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    hidden = s.run(None, {value.name: every[value.name] for value in s.get_inputs()})[0]
    return [hidden[row, : len(sequence)] for row, sequence in enumerate(sequences)]


def run_pytorch(encoder: Any, sequences: list[list[int]]) -> list[np.ndarray]:
    """The hidden states (S, H) of each text by itself."""
    with torch.no_grad():
        return [encoder(torch.tensor([sequence])).last_hidden_state[0].numpy() for sequence in sequences]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.mean(axis=0).astype(np.float64), b.mean(axis=0).astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
