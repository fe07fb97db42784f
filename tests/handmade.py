"""A bundle written by hand: right in everything the manifest says, with files that are no graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from embedrt.bundle import MANIFEST_NAME, Bundle, describe_file
from embedrt.heads import Pipeline, Stage
from embedrt.manifest import Architecture, Manifest, ParitySummary, Prompts, Source, TensorEntry, Variant
from embedrt.manifest_json import dump_manifest
from embedrt.opening import open_bundle

CONTENTS = {
    "tokenizer.json": b"{}",
    "parity/texts.json": b'["a", "b"]',
    "fp32/model.onnx": b"graph of fp32",
    "fp32/weights.bin": bytes(4096),
    "int8/model.onnx": b"graph of int8",
}
PARITY = ParitySummary(2, 0.9999, 0.999, 0.998, 0.99, 1e-6, 0.9999, 1.0, True)
PROMPTS = Prompts({"query": "query: ", "passage": "passage: "}, None, None, "embedrt table: E5")


def make_manifest(root: Path) -> Manifest:
    """The manifest of the files that `write_bundle` puts at `root`."""

    def variant(name: str, tensors: tuple[TensorEntry, ...] = ()) -> Variant:
        return Variant(
            graph=f"{name}/model.onnx",
            graph_cuda=None,
            inputs=("input_ids", "attention_mask"),
            output="last_hidden_state",
            fused={"Attention": 2},
            recipe={"per_channel": True, "kept": ["embeddings"]},
            files=tuple(describe_file(root, path) for path in CONTENTS if path.startswith(name)),
            tensors=tensors,
            parity=PARITY,
        )

    tensor = TensorEntry("weight", "float32", (32, 32), "fp32/weights.bin", 0, 4096)
    return Manifest(
        format_version=1,
        name="handmade",
        created="2026-11-24T00:00:00Z",
        source=Source("somebody/handmade", None, "0" * 64),
        architecture=Architecture("bert", 32, 2, 2, 64, 100, 64, 2, "gelu", 1e-12, 0),
        max_tokens=64,
        tokenizer="tokenizer.json",
        pipeline=Pipeline(("mean",), True, (Stage("normalize"),), 32),
        prompts=PROMPTS,
        similarity="cosine",
        variants={"fp32": variant("fp32", (tensor,)), "int8": variant("int8")},
        files=tuple(describe_file(root, path) for path in ("tokenizer.json", "parity/texts.json")),
        tools={"onnxruntime": "1.32.0"},
        notes=("made by hand",),
    )


def write_bundle(root: Path, changes: Mapping[str, object] = {}) -> Bundle:
    """Write the files and the manifest, with fields of it replaced by `changes`, and open it."""
    for path, content in CONTENTS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    manifest = replace(make_manifest(root), **changes)  # type: ignore[arg-type]  # any field may be changed
    (root / MANIFEST_NAME).write_text(dump_manifest(manifest), encoding="utf-8")
    return open_bundle(root)
