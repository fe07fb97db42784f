"""The variants of a bundle: each one's graphs, written with one file of weights, and what the manifest says of it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from embedrt.bundle import describe_file
from embedrt.errors import UnsupportedModelError
from embedrt.manifest import Variant
from embedrt.progress import Progress
from embedrt_export.cpu import for_cpu, rewritten
from embedrt_export.fp16 import to_fp16
from embedrt_export.fp16 import wanted as fp16_wanted
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import Int8Recipe, check_calibration, to_int8
from embedrt_export.int8 import wanted as int8_wanted
from embedrt_export.int8.calibration import Ids, Observed, Wanted, observe
from embedrt_export.memory import give_back
from embedrt_export.trim.rows import token_tables
from embedrt_export.weights import save_graph


@dataclass(frozen=True)
class Job:
    """What variants are made of."""

    root: Path  # the staged bundle
    graph: EncoderGraph
    calibration: Sequence[Ids]  # special tokens and the model's own prompt included; of pictures their patches
    token: int | None  # whose state is a text's vector: 0 the first, -1 the last; None: the mean of all
    int8: Int8Recipe
    rows: NDArray[np.int64] | None = None  # of the token table, where only some are kept
    folder: str = ""  # of the variants in the bundle, where they are not at its root


def observe_for(job: Job, names: Sequence[str]) -> Observed | None:
    """What the calibration texts show of the fp32 graph, for all variants `names` in one pass; None if none needs it.

    Raises:
        ExportError: they are too few for int8.
    """
    needs: list[Wanted] = []
    if "int8" in names:
        check_calibration(job.calibration)
        needs.append(int8_wanted(job.graph, job.int8, job.token))
    if "fp16" in names and job.calibration:
        needs.append(fp16_wanted(job.graph.model))
    return observe(job.graph.model, functools.reduce(operator.or_, needs), job.calibration) if needs else None


def _make_fp32(job: Job, advance: Callable[[int], None], observed: Observed | None) -> Variant:
    del advance, observed
    model = job.graph.model
    recipe = {"weights": "float32", "on_cpu": rewritten(model.graph.node)}
    nodes = for_cpu(model.graph.node)
    return _write_variant(job, "fp32", model, model if recipe["on_cpu"] else None, recipe, nodes)


def _make_fp16(job: Job, advance: Callable[[int], None], observed: Observed | None) -> Variant:
    del advance
    on_cpu, on_cuda, recipe = to_fp16(job.graph, job.calibration, observed)
    return _write_variant(job, "fp16", on_cpu, on_cuda, recipe)


def _make_int8(job: Job, advance: Callable[[int], None], observed: Observed | None) -> Variant:
    model, recipe = to_int8(
        job.graph,
        job.calibration,
        token=job.token,
        recipe=job.int8,
        progress=lambda _: advance(1),
        observed=observed,
    )
    return _write_variant(job, "int8", model, None, recipe)


def make_variants(job: Job, names: Sequence[str], progress: Progress, what: str = "") -> dict[str, Variant]:
    """The variants asked for, written under the staged bundle; `what` ends the steps' titles."""
    observed = None
    if any(name != "fp32" for name in names):
        with progress.step(f"run the calibration texts{what}"):
            observed = observe_for(job, names)
            give_back()
    made: dict[str, Variant] = {}
    for name in sorted(names, key=list(_MAKERS).index):
        with progress.step(f"make {name}{what}") as advance:
            made[name] = _MAKERS[name](job, advance, observed)
        if name == "int8" and observed is not None:
            observed.forget_grams()
        give_back()
    return {name: made[name] for name in names}


def _write_variant(
    job: Job,
    name: str,
    model: onnx.ModelProto,
    on_cuda: onnx.ModelProto | None,
    recipe: dict[str, Any],
    nodes: Sequence[onnx.NodeProto] | None = None,
) -> Variant:
    """Write a variant's graphs, which share one file of weights, and describe them; `nodes` instead of `model`'s."""
    root, place = job.root, f"{job.folder}/{name}".lstrip("/")
    folder = root / place
    folder.mkdir(parents=True)
    rows = {} if job.rows is None else dict.fromkeys(_token_tables(model), job.rows)
    tensors = save_graph(model, folder / "model.onnx", folder / "weights.bin", nodes=nodes, rows=rows)
    if on_cuda is not None:
        shared = {entry.name: entry for entry in tensors}
        save_graph(on_cuda, folder / "model_cuda.onnx", folder / "weights.bin", reuse=shared, rows=rows)
    return Variant(
        graph=f"{place}/model.onnx",
        graph_cuda=f"{place}/model_cuda.onnx" if on_cuda is not None else None,
        inputs=tuple(value.name for value in model.graph.input),
        output=model.graph.output[0].name,
        fused=job.graph.fused,
        recipe=recipe,
        files=tuple(describe_file(root, f"{place}/{path.name}") for path in sorted(folder.iterdir())),
        tensors=tuple(replace(entry, path=f"{place}/{entry.path}") for entry in tensors),
        parity=None,
    )


def _token_tables(model: onnx.ModelProto) -> frozenset[str]:
    tables = token_tables(model.graph.node, (tensor.name for tensor in model.graph.initializer))
    if not tables:
        raise UnsupportedModelError("this encoder's graph has no table that token ids look up; its tokens all stay")
    return tables


_MAKERS = {"fp32": _make_fp32, "int8": _make_int8, "fp16": _make_fp16}
"""In the order in which they are made: what int8 alone needs is freed then."""
