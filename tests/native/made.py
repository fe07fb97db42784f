"""Bundles with seeded weights of any shape, without a graph: what the native executor reads, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import MANIFEST_NAME, Bundle, describe_file
from embedrt.executors import TokenBatch
from embedrt.heads import Pipeline
from embedrt.manifest import Architecture, Manifest, Prompts, Source, TensorEntry, Variant
from embedrt.manifest_json import dump_manifest
from embedrt.opening import open_bundle

_PAGE = 4096


@dataclass(frozen=True)
class Shape:
    """An encoder's numbers; `outliers` neurons of each FFN are kept float32, products in `wide` as a whole."""

    hidden: int = 64
    layers: int = 1
    heads: int = 2
    ffn: int = 128
    outliers: int = 16
    vocabulary: int = 50
    positions: int = 70
    model_type: str = "bert"
    activation: str = "gelu"
    token_types: bool = True
    restore: bool = True
    twice: bool = True  # V of each text's first token in two rows
    activation_zero: int = 24
    says_settings: bool = True  # False: a bundle from before recipes said these
    wide: frozenset[str] = frozenset()  # of qkv, attention_output, ffn_up, ffn_down, embeddings


def write_bundle(root: Path, shape: Shape, seed: int = 0, variant: str = "int8") -> Bundle:
    """Write manifest, weights and stand-ins for the other files, and open it; fp32 has Q, K and V in one tensor."""
    (root / variant).mkdir(parents=True)
    weights = f"{variant}/weights.bin"
    tensors = make_tensors(shape, seed)
    if variant == "fp32":
        for i in range(shape.layers):
            parts = [tensors.pop(f"layers.{i}.{part}.weight") for part in ("query", "key", "value")]
            tensors[f"layers.{i}.qkv.weight"] = np.concatenate(parts, axis=1)
    entries: list[TensorEntry] = []
    with (root / weights).open("wb") as stream:
        for name, value in tensors.items():
            stream.write(bytes(-stream.tell() % _PAGE))
            at = stream.tell()
            stream.write(value.tobytes())
            entries.append(TensorEntry(name, value.dtype.name, value.shape, weights, at, value.nbytes))
    for name in ("tokenizer.json", f"{variant}/model.onnx"):
        (root / name).write_bytes(b"{}")
    manifest = _manifest(root, shape, variant, tuple(entries))
    (root / MANIFEST_NAME).write_text(dump_manifest(manifest), encoding="utf-8")
    return open_bundle(root)


def make_tensors(shape: Shape, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Tensors under the names of `embedrt_export.int8.fused`; values near 1 everywhere, so that nothing vanishes."""
    rng = np.random.default_rng(seed)
    out: dict[str, NDArray[Any]] = {}
    hidden, main = shape.hidden, shape.ffn - shape.outliers

    def floats(*size: int, scale: float = 1.0) -> NDArray[np.float32]:
        return (rng.standard_normal(size, dtype=np.float32)) * np.float32(scale)

    def product(name: str, k: int, n: int, kind: str) -> None:
        if kind in shape.wide:
            out[f"{name}.weight"] = floats(k, n, scale=k**-0.5)
        else:
            out[f"{name}.weight"] = rng.integers(-127, 128, (k, n), dtype=np.int8)
            out[f"{name}.scale"] = np.abs(1 + floats(n, scale=0.2)) * np.float32(k**-0.5 / 73)

    def norm(name: str, restored: bool = True) -> None:
        out[f"{name}.gamma"] = 1 + floats(hidden, scale=0.1)
        out[f"{name}.beta"] = floats(hidden, scale=0.1)
        if restored and shape.restore:
            out[f"{name}.restore"] = 1 + floats(hidden, scale=0.1)

    if "embeddings" in shape.wide:
        out["embeddings.word"] = floats(shape.vocabulary, hidden)
    else:
        out["embeddings.word"] = rng.integers(-127, 128, (shape.vocabulary, hidden), dtype=np.int8)
        out["embeddings.word.scale"] = np.abs(1 + floats(shape.vocabulary, 1, scale=0.2)) / np.float32(73)
    out["embeddings.position"] = floats(shape.positions, hidden, scale=0.3)
    if shape.token_types:
        out["embeddings.token_type"] = floats(2, hidden, scale=0.1)
    norm("embeddings.norm")
    for i in range(shape.layers):
        name = f"layers.{i}"
        for part in ("query", "key", "value"):
            product(f"{name}.{part}", hidden, hidden, "qkv")
        out[f"{name}.qkv.bias"] = floats(3 * hidden, scale=0.1)
        product(f"{name}.attention_output", hidden, hidden, "attention_output")
        product(f"{name}.ffn_up", hidden, main, "ffn_up")
        product(f"{name}.ffn_down", main, hidden, "ffn_down")
        if shape.outliers:
            product(f"{name}.ffn_up_outlier", hidden, shape.outliers, "ffn_up")
            out[f"{name}.ffn_up_outlier.bias"] = floats(shape.outliers, scale=0.1)
            out[f"{name}.ffn_down_outlier.weight"] = floats(shape.outliers, hidden, scale=0.1)
        for part, width in (("attention_output", hidden), ("ffn_up", main), ("ffn_down", hidden)):
            out[f"{name}.{part}.bias"] = floats(width, scale=0.1)
        norm(f"{name}.attention_norm")
        norm(f"{name}.ffn_norm", restored=i + 1 < shape.layers)
    return out


def random_batch(lengths: list[int], vocabulary: int, seed: int = 0) -> TokenBatch:
    """Texts of these lengths, with token ids from 3 on (no padding)."""
    ids = np.random.default_rng(seed).integers(3, vocabulary, sum(lengths)).astype(np.int32)
    return TokenBatch(ids, np.cumsum([0, *lengths]).astype(np.int32))


def text(batch: TokenBatch, i: int) -> TokenBatch:
    """Text i alone."""
    ids = batch.token_ids[batch.offsets[i] : batch.offsets[i + 1]]
    return TokenBatch(ids, np.array([0, len(ids)], np.int32))


def _manifest(root: Path, shape: Shape, variant: str, tensors: tuple[TensorEntry, ...]) -> Manifest:
    graph = f"{variant}/model.onnx"
    settings = {"first_value_twice": shape.twice, "activation_zero": shape.activation_zero}
    recipe = {"settings": settings} if variant == "int8" and shape.says_settings else {}
    files = tuple(describe_file(root, f"{variant}/{name}") for name in ("model.onnx", "weights.bin"))
    pad = 1 if "roberta" in shape.model_type else 0
    return Manifest(
        format_version=1,
        name="seeded",
        created="2026-11-24T00:00:00Z",
        source=Source("seeded", None, "0" * 64),
        architecture=Architecture(
            shape.model_type, shape.hidden, shape.layers, shape.heads, shape.ffn, shape.vocabulary, shape.positions,
            2, shape.activation, 1e-5, pad,
        ),
        max_tokens=shape.positions - (pad + 1 if "roberta" in shape.model_type else 0),
        tokenizer="tokenizer.json",
        pipeline=Pipeline(("mean",), True, (), shape.hidden),
        prompts=Prompts({}, None, None, "none"),
        similarity="cosine",
        variants={
            variant: Variant(graph, None, ("input_ids",), "last_hidden_state", {}, recipe, files, tensors, None)
        },
        files=(describe_file(root, "tokenizer.json"),),
        tools={},
    )  # fmt: skip
