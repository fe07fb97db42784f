"""Rerankers, SPLADE, ColBERT and BGE-M3: ours, sentence-transformers, and encoders of peers with a head around them.

`encode_texts` is the whole call that a user makes. Of a reranker the first text is the query; the answer is a score for
each of the others (N,). Of SPLADE it is a matrix of weights (N, V), scipy's CSR; of ColBERT a list of (n, D).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.systems.base import GraphSystem, load_tokenizer, pad

Floats = NDArray[np.float32]
_BATCH = 32  # texts of peers without batching of their own, sorted by length; sentence-transformers' default too


class OursReranker:
    """`option` is the variant."""

    def __init__(self, option: str) -> None:
        self.option = option

    def load(self, artifact: Path, model: Path, threads: int) -> None:
        from embedrt import Reranker

        del model
        self._model = Reranker(artifact, variant=self.option, num_threads=threads)

    def encode_texts(self, texts: Sequence[str], batching: str) -> Floats:
        del batching
        query, *passages = texts
        scores = np.empty(len(passages), np.float32)
        for hit in self._model.rank(query, passages, activation_fn="identity"):
            scores[hit["corpus_id"]] = hit["score"]
        return scores

    def describe(self) -> str:
        return f"embedrt, {self._model.variant}, {self._model.executor_description}"

    def close(self) -> None:
        self._model.close()


class OursOutputs:
    """`option` is the variant, and after a slash the outputs, joined by plus signs."""

    def __init__(self, option: str) -> None:
        self.variant, _, names = option.partition("/")
        self.outputs = tuple(names.split("+"))

    def load(self, artifact: Path, model: Path, threads: int) -> None:
        from embedrt import Model

        del model
        self._model = Model(artifact, variant=self.variant, num_threads=threads)

    def encode_texts(self, texts: Sequence[str], batching: str) -> Any:
        del batching
        found = self._model.encode(list(texts), outputs=self.outputs)
        first = getattr(found, self.outputs[0])
        return first.to_scipy() if self.outputs[0] == "sparse" else first

    def describe(self) -> str:
        return f"embedrt, {self._model.variant}, {self._model.executor_description}; {', '.join(self.outputs)}"

    def close(self) -> None:
        self._model.close()


class SentenceTransformers:
    """The reference: its class for the kind that `option` says, fp32 in PyTorch, its own batching."""

    def __init__(self, option: str) -> None:
        self.kind = option

    def load(self, artifact: Path, model: Path, threads: int) -> None:
        import sentence_transformers as library
        import torch

        del model
        torch.set_num_threads(threads)
        names = {"rerank": "CrossEncoder", "splade": "SparseEncoder", "colbert": "MultiVectorEncoder"}
        options = {"model_kwargs": {"dtype": torch.float32}}
        self._model = getattr(library, names[self.kind])(str(artifact), device="cpu", **options)
        self._said = f"sentence-transformers {library.__version__}, torch fp32, {threads} threads"

    def encode_texts(self, texts: Sequence[str], batching: str) -> Any:
        import torch

        del batching
        if self.kind == "rerank":
            query, *passages = texts
            pairs = [(query, passage) for passage in passages]
            return np.asarray(self._model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False))
        if self.kind == "splade":
            from scipy.sparse import csr_matrix

            made = self._model.encode_document(list(texts), show_progress_bar=False).coalesce()
            return csr_matrix((made.values().numpy(), made.indices().numpy()), shape=tuple(made.shape))
        return [np.asarray(row) for row in self._model.encode_document(list(texts), show_progress_bar=False)]

    def describe(self) -> str:
        return self._said

    def close(self) -> None:
        del self._model


class Peer:
    """An encoder's graph with the kind's head around it; `option` is "kind/how", what runs it."""

    def __init__(self, option: str) -> None:
        self.kind, _, self.how = option.partition("/")

    def load(self, artifact: Path, model: Path, threads: int) -> None:
        self._tokenizer = load_tokenizer(model)
        self._pad = int(json.loads((model / "config.json").read_text())["pad_token_id"])
        self._graph = _graph_of(self.how)
        self._graph.open(artifact, threads)
        self._head = _head(self.kind, model)

    def encode_texts(self, texts: Sequence[str], batching: str) -> Any:
        del batching
        inputs = [(texts[0], text) for text in texts[1:]] if self.kind == "rerank" else list(texts)
        encodings = self._tokenizer.encode_batch(inputs)
        order = sorted(range(len(encodings)), key=lambda i: -len(encodings[i].ids))
        found: dict[int, Any] = {}
        for begin in range(0, len(order), _BATCH):
            some = order[begin : begin + _BATCH]
            ids, mask = pad([encodings[i].ids for i in some], self._pad)
            types, _ = pad([encodings[i].type_ids for i in some], 0)
            found.update(zip(some, self._head(self._graph.run(ids, mask, types), mask), strict=True))
        rows = [found[i] for i in range(len(encodings))]
        return _gather(self.kind, rows)

    def describe(self) -> str:
        return self._graph.describe()

    def close(self) -> None:
        del self._graph


def _gather(kind: str, rows: list[Any]) -> Any:
    if kind == "rerank":
        return np.array(rows, np.float32)
    if kind == "splade":
        from scipy.sparse import vstack

        return vstack(rows, format="csr")
    return rows


def _graph_of(how: str) -> GraphSystem:
    """What runs graphs; imports only its own library."""
    if how == "openvino":
        from bench.systems.openvino_ import OpenVino

        return OpenVino("f32")
    from bench.systems.onnxruntime_ import OnnxRuntime

    return OnnxRuntime("")


def _head(kind: str, model: Path) -> Any:
    """From an encoder's output and the mask (B, S) to a row per text."""
    if kind == "splade":  # the graph goes up to the weights (B, V)
        from scipy.sparse import csr_matrix

        return lambda weights, _mask: [csr_matrix(row) for row in weights]
    if kind == "colbert":
        from safetensors.numpy import load_file

        (path,) = model.glob("*_Dense/model.safetensors")
        weight = load_file(path)["linear.weight"]
        return lambda hidden, mask: [
            _unit(row[seen.astype(bool)] @ weight.T) for row, seen in zip(hidden, mask, strict=True)
        ]
    layers = _classifier(model)
    return lambda hidden, _mask: _scores(hidden[:, 0], layers)


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _classifier(model: Path) -> list[tuple[Floats, Floats]]:
    """Two dense layers, a tanh between them: BERT's pooler and classifier, or XLM-R's head."""
    from safetensors.numpy import load_file

    tensors = load_file(model / "model.safetensors")
    names = ("classifier.dense", "classifier.out_proj")
    if "classifier.dense.weight" not in tensors:
        names = ("bert.pooler.dense", "classifier")
    return [
        (tensors[f"{name}.weight"].astype(np.float32), tensors[f"{name}.bias"].astype(np.float32)) for name in names
    ]


def _scores(first: Floats, layers: list[tuple[Floats, Floats]]) -> Floats:
    (dense, bias), (last, offset) = layers
    scores: Floats = (np.tanh(first @ dense.T + bias) @ last.T + offset)[:, 0]
    return scores
