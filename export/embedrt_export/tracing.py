"""An encoder's graph as torch.onnx traces it, the way for every encoder that no other way is known for.

A trace follows the branches that one batch takes, so none may depend on the batch: transformers skips the attention
mask where nothing is padded, and builds it by vmap or from booleans. While it traces, masks are built here, as numbers
that are added to the scores, from the padding and from what a layer lets through (causal, a window).
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
import transformers
from torch import Tensor

from embedrt.errors import EmbedrtError, ExportError
from embedrt_export.graph import EncoderGraph, count_operators, finish

EXPORT_OPSET = 18

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What a text gives."""

OUTPUT = "last_hidden_state"
_TEXTS, _TOKENS = 2, 16  # of the batch that is traced; any would do


def trace_encoder(encoder: Any, work: Path) -> EncoderGraph:
    """The fp32 graph of a transformers PreTrainedModel, as torch writes it. No file is left in `work`.

    Raises:
        ExportError: torch could not follow the model's code.
    """
    path = work / "model.onnx"
    trace(encoder, path)
    model = onnx.load(str(path))
    for file in work.iterdir():
        file.unlink()
    finish(model)
    note = f"architecture {encoder.config.model_type!r} is not one of the fused families; the graph runs unfused"
    return EncoderGraph(model, None, count_operators(model), (note,))


def trace(encoder: Any, path: Path) -> None:
    """Write the graph to `path`; over 2 GB, its weights lie beside it."""
    names = graph_inputs(encoder)
    axes = {0: "batch_size", 1: "sequence_length"}
    call = _Call(encoder, names)
    try:
        with quiet(), torch.no_grad(), _forward_by(encoder, call), _masks_by(call.additive_mask, encoder):
            torch.onnx.export(
                encoder,
                _batch(names),
                str(path),
                input_names=list(names),
                output_names=[OUTPUT],
                dynamic_axes={name: dict(axes) for name in (*names, OUTPUT)},
                opset_version=EXPORT_OPSET,
                dynamo=False,  # the other exporter decomposes into many small operators
            )
    except (EmbedrtError, OSError, MemoryError):  # a full disk says so itself
        raise
    except Exception as exc:  # whatever tracing a model's code may raise
        raise ExportError(
            f"tracing the architecture {encoder.config.model_type!r} failed ({type(exc).__name__}: {exc}); this "
            "architecture is supported, so it is something in this model's config"
        ) from exc


def graph_inputs(encoder: Any) -> tuple[str, ...]:
    """Those of `INPUTS` that the encoder reads; of token types only where it has more than one."""
    known = inspect.signature(encoder.forward).parameters
    types = int(getattr(encoder.config, "type_vocab_size", 0) or 0)
    return tuple(name for name in INPUTS if name != "token_type_ids" or (name in known and types > 1))


class _Call:
    """A forward of tensors alone, in the encoder's place while it is traced: the graph keeps the encoder's names."""

    def __init__(self, encoder: Any, names: tuple[str, ...]) -> None:
        self.forward = encoder.forward
        self.names = names
        self.padding: Tensor | None = None  # (B, S), of the call that runs
        known = inspect.signature(encoder.forward).parameters
        self.options = {"use_cache": False} if "use_cache" in known else {}

    def __call__(self, *tensors: Tensor) -> Tensor:
        batch = dict(zip(self.names, tensors, strict=True))
        self.padding = batch["attention_mask"]
        hidden: Tensor = self.forward(**batch, **self.options, return_dict=True).last_hidden_state
        return hidden

    def additive_mask(
        self,
        *,
        kv_length: int,
        mask_function: Callable[..., Tensor],
        dtype: torch.dtype = torch.float32,
        **_: Any,
    ) -> Tensor:
        """What transformers' mask functions are called with -> float32 (B, 1, 1 or S, S), 0 or the least number.

        The padding is the call's own.
        """
        from transformers import masking_utils

        assert self.padding is not None
        visible = self.padding[:, None, None, :].to(dtype)
        if mask_function is not getattr(masking_utils, "bidirectional_mask_function", None):
            place = torch.arange(kv_length)
            seen = mask_function(torch.zeros_like(place[:1]), 0, place[None, None, :, None], place[None, None, None])
            visible = visible * seen.to(dtype)
        hidden = 1.0 - visible
        return hidden.masked_fill(hidden.to(torch.bool), torch.finfo(dtype).min)


def _batch(names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """Two texts of different lengths, the shorter one padded."""
    ids = torch.arange(_TEXTS * _TOKENS).reshape(_TEXTS, _TOKENS) % 8 + 3
    mask = torch.ones_like(ids)
    mask[0, _TOKENS // 2 :] = 0
    every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return tuple(every[name] for name in names)


@contextlib.contextmanager
def _forward_by(encoder: Any, call: Callable[..., Tensor]) -> Iterator[None]:
    encoder.forward = call
    try:
        yield
    finally:
        del encoder.forward


@contextlib.contextmanager
def _masks_by(function: Callable[..., Tensor], encoder: Any) -> Iterator[None]:
    """Let transformers build masks by `function`; before 4.53 each model built its own, which can be traced.

    Since 5 every encoder computes attention by what its config names, and the fusion knows the plain formula.
    """
    try:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as FUNCTIONS
    except ImportError:
        yield
        return
    kind = str(encoder.config._attn_implementation)
    plain = "eager" if int(transformers.__version__.partition(".")[0]) >= 5 else kind
    FUNCTIONS[plain] = function
    encoder.config._attn_implementation = plain
    try:
        yield
    finally:
        encoder.config._attn_implementation = kind
        del FUNCTIONS[plain]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' warnings and logs: they speak of their own internals."""
    names = ("transformers", "onnxruntime", "fusion_base", "onnx_model", "torch.onnx")
    every = [*names, *(n for n in logging.root.manager.loggerDict if n.startswith(("fusion_", "onnx_model")))]
    levels = {name: logging.getLogger(name).level for name in every}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    root = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(root)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
