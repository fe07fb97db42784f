"""The fp32 graph: torch.onnx traces the loaded encoder, onnxruntime's transformer optimizer fuses it, and the fused
operators are counted.

Known families (BERT, RoBERTa with XLM-R and CamemBERT, DistilBERT) must come out fully fused, per layer one Attention,
one fused activation and two SkipLayerNormalization; otherwise the export fails with both counts. Every other
architecture of `embedrt_export.architectures` stays as it was traced ("unfused"), with a note.

EmbedLayerNormalization is left alone on purpose: it takes no position ids of XLM-R's kind (counted over the tokens that
are not padding), is int32-only, and the embedding lookup is under 1 % of the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from embedrt.encoder import EncoderSpec
from embedrt.errors import UnsupportedModelError
from embedrt_export import roles
from embedrt_export.architectures import ARCHITECTURES, FUSED_ACTIVATIONS
from embedrt_export.tracing import few_token_rows, quiet, trace

GRAPH_OPSET = 21  # QuantizeLinear with block_size; no operator used here changed its meaning between 18 and 21
IR_VERSION = 10

_COUNTED = (
    "Attention", "MultiHeadAttention", "RotaryEmbedding", "BiasGelu", "FastGelu", "Gelu", "QuickGelu",
    "SkipLayerNormalization", "LayerNormalization", "SimplifiedLayerNormalization", "EmbedLayerNormalization", "Relu",
    "MatMul", "Gemm", "MatMulIntegerToFloat", "QuantizeLinear", "Softmax", "Gather",
)  # fmt: skip

Progress = Callable[[str], None]


@dataclass(frozen=True)
class EncoderGraph:
    """An encoder as ONNX, its weights in memory.

    Inputs input_ids, attention_mask[, token_type_ids], int64 (B, S); output last_hidden_state, float32 (B, S, H).
    Initializers and nodes of the known families are named by role, see `embedrt_export.roles`; emitted ones as in
    `embedrt_export.emit`.
    """

    model: onnx.ModelProto
    family: str | None  # "bert" | "roberta" | "distilbert" | None (unfused)
    fused: dict[str, int]  # operator -> count
    notes: tuple[str, ...]
    spec: EncoderSpec | None = None  # of an emitted graph


def build_fp32(
    encoder: Any, work_dir: Path, progress: Progress | None = None, *, own_code: bool = False
) -> EncoderGraph:
    """Export a transformers PreTrainedModel in fp32, and fuse it, unless it is code of its own.

    `work_dir` must exist and have room for the weights once; files left in it can be deleted afterwards.

    Raises:
        UnsupportedModelError: a known family did not fuse.
        ExportError: tracing failed; which architectures can be traced was asked long before.
    """
    say = progress or (lambda _message: None)
    path = work_dir / "model.onnx"
    config = encoder.config
    family = None if own_code else ARCHITECTURES[config.model_type].family
    notes: tuple[str, ...] = ()
    say("exporting the graph")
    if family is None:
        trace(encoder, path)
        model = onnx.load(str(path))
        notes = (f"architecture {config.model_type!r} is not one of the fused families; the graph runs unfused",)
    else:
        with few_token_rows(encoder) as table:
            trace(encoder, path)
        say("fusing operators")
        model = _fuse(path, int(config.num_attention_heads), int(config.hidden_size))
        check_fused(model, int(config.num_hidden_layers), _activation(config), config.model_type)
        roles.name_by_role(model, int(config.num_hidden_layers))
        roles.put(model, "embeddings.word", table)
    _delete_files(work_dir)
    finish(model)
    return EncoderGraph(model, family, count_operators(model), notes)


def count_operators(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator of interest occurs."""
    counts = Counter(node.op_type for node in model.graph.node)
    return {name: counts[name] for name in _COUNTED if counts[name]}


def check_fused(model: onnx.ModelProto, num_layers: int, activation: str, what: str) -> None:
    """Raise UnsupportedModelError unless every layer is fused: counts expected and found are in the message."""
    act = FUSED_ACTIVATIONS.get(activation)
    if act is None:
        known = ", ".join(FUSED_ACTIVATIONS)
        raise UnsupportedModelError(f"{what}: activation {activation!r} has no fused operator; known: {known}")
    expected = {"Attention": num_layers, act: num_layers, "SkipLayerNormalization": 2 * num_layers, "Softmax": 0}
    found = Counter(node.op_type for node in model.graph.node)
    if any(found[name] != count for name, count in expected.items()):
        wrong = ", ".join(f"{name}: expected {count}, found {found[name]}" for name, count in expected.items())
        raise UnsupportedModelError(f"{what}: the graph is not fully fused ({wrong})")


def finish(model: onnx.ModelProto) -> None:
    """Drop unused initializers and shape hints that no longer hold, and set the opsets."""
    used = {name for node in model.graph.node for name in node.input}
    used |= {output.name for output in model.graph.output}
    keep = [tensor for tensor in model.graph.initializer if tensor.name in used]
    if len(keep) < len(model.graph.initializer):
        kept = [onnx.TensorProto() for _ in keep]
        for new, old in zip(kept, keep, strict=True):
            new.CopyFrom(old)
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    set_opset(model)


def set_opset(model: onnx.ModelProto) -> None:
    """State opset `GRAPH_OPSET` and com.microsoft 1."""
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", GRAPH_OPSET), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = IR_VERSION


def _fuse(path: Path, num_heads: int, hidden_size: int) -> onnx.ModelProto:
    """The fused graph of the file at `path`, in memory."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False
    options.enable_gelu_approximation = False  # would put the tanh formula in place of the exact gelu
    options.use_raw_attention_mask(True)  # a mask index would only be right for padding on the right
    with quiet():
        fused = optimizer.optimize_model(
            str(path),
            model_type="bert",
            num_heads=num_heads,
            hidden_size=hidden_size,
            optimization_options=options,
            opt_level=0,
        )
    model: onnx.ModelProto = fused.model
    return model


def _activation(config: Any) -> str:
    name = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    return str(name)


def _delete_files(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_file():
            path.unlink()
