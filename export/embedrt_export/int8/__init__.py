"""The int8 variant: weights per output channel, activations per token row, on stock ONNX Runtime.

`fused` says what the graph of a fused family computes, `emitted` what that of a spec does, `generic` is for every other
graph, `linear` has the numpy twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from embedrt.encoder import EncoderSpec
from embedrt.errors import ExportError
from embedrt.parity.gates import METRICS, find_failures, gate_set, with_reserve
from embedrt.parity.metrics import Deviation, compare, corpus_center, mean_pairwise_cosine
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import emitted, emitted_graph, fused, generic
from embedrt_export.int8.calibration import (
    HELD_OUT,
    Ids,
    InputStats,
    Observed,
    Session,
    Wanted,
    held_out,
    observe,
    pooled,
)
from embedrt_export.int8.recipe import RECIPES, Int8Recipe
from embedrt_export.int8.repeated import Repeats, first_ffns
from embedrt_export.int8.sharing import without_aliases
from embedrt_export.int8.sums import long_sums
from embedrt_export.int8.table import NAME as TABLE
from embedrt_export.int8.table import quantize_table
from embedrt_export.lanes import in_lanes

__all__ = ["DEFAULT", "RECIPES", "Int8Recipe", "check_calibration", "to_int8", "wanted"]

DEFAULT = RECIPES["default"]

Array = NDArray[np.float32]
Progress = Callable[[str], None]
Emit = Callable[[frozenset[str]], onnx.ModelProto]

_MAX_CORRECTED = 240  # texts that int8 is fitted to, by whose vectors the mean error is found


def to_int8(
    graph: EncoderGraph,
    calibration: Sequence[Ids],
    *,
    token: int | None = None,
    recipe: Int8Recipe = DEFAULT,
    progress: Progress | None = None,
    observed: Observed | None = None,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The int8 graph, and a report: settings, local errors, products kept float32 and what was measured.

    `calibration` holds the token ids of each text, special tokens and the model's own prompt included, none empty; of
    pictures their patches (count, size).
    Vectors are measured as means of a text's states, or as the state of its `token`, 0 or -1.
    `observed`: what `observe` showed of `wanted`, where that was done already.

    Raises:
        ExportError: there are fewer than 10 calibration texts.
    """
    check_calibration(calibration)
    say = progress or (lambda _message: None)
    if observed is None:
        say(f"running {len(calibration)} calibration texts")
        observed = observe(graph.model, wanted(graph, recipe, token), calibration)
    stats = {product: observed.fitted[value] for product, value in _product_values(graph).items()}
    emit, errors = _prepare(graph, stats, recipe, say, token=calibration[0][0] if graph.spec is None else 0)
    measure = _Measure(calibration, observed.vectors, token)
    model, report = _widen(measure, emit, errors, recipe, say)
    texts = [ids for ids in held_out(calibration)[1] if not isinstance(ids, np.ndarray)]  # the others are pictures
    if graph.spec is not None and graph.spec.blocks and recipe.max_wide and texts:
        repeats = Repeats(graph.spec, graph.model, texts, token)
        model, report = _widen_for_repeats(repeats, measure, emit, model, report, recipe, say)
    return model, {"settings": asdict(recipe), **report}


def check_calibration(calibration: Sequence[Ids]) -> None:
    """Raise ExportError where there are too few texts to hold some out."""
    if len(calibration) < 2 * HELD_OUT:
        raise ExportError(f"int8 needs at least {2 * HELD_OUT} calibration texts, got {len(calibration)}")


def wanted(graph: EncoderGraph, recipe: Int8Recipe, token: int | None) -> Wanted:
    """What `to_int8` needs to know of the calibration texts."""
    return Wanted(dict.fromkeys(_product_values(graph).values(), recipe.gptq), token=token)


def _product_values(graph: EncoderGraph) -> dict[str, str]:
    """Product -> the value that it reads."""
    if graph.spec is not None:
        return emitted.product_values(graph.spec, graph.model)
    return fused.product_values(graph.model) if graph.family else generic.product_values(graph.model)


def _prepare(
    graph: EncoderGraph, stats: dict[str, InputStats], recipe: Int8Recipe, say: Progress, *, token: int
) -> tuple[Emit, dict[str, float]]:
    """What makes the graph with some products kept float32, and each product's local error."""
    if graph.spec is not None:
        return _prepare_emitted(graph, graph.spec, stats, recipe, say)
    if graph.family:
        return _prepare_fused(graph, stats, recipe, say)
    return _prepare_generic(graph, stats, recipe, say, token=token)


def _prepare_emitted(
    graph: EncoderGraph, spec: EncoderSpec, stats: dict[str, InputStats], recipe: Int8Recipe, say: Progress
) -> tuple[Emit, dict[str, float]]:
    tensors = emitted.spec_tensors(graph.model)
    layers: dict[int, emitted.Layer] = {}
    every = sorted({block.weights for block in spec.blocks})
    made = in_lanes(lambda weights: emitted.prepare(spec, weights, tensors, stats, recipe), every)
    for number, (weights, layer) in enumerate(zip(every, made, strict=True), 1):
        say(f"quantized layer {number} of {len(every)}")
        layers[weights] = layer
    errors = {name: error for layer in layers.values() for name, error in layer.errors.items()}
    has_table = recipe.embeddings_int8 and spec.patches is None
    table = quantize_table(tensors[TABLE], recipe.table_rest_share) if has_table else None
    if table is not None:
        errors[TABLE] = table.error
    return partial(emitted_graph.emit, spec, graph.model, layers, table, recipe), errors


def _prepare_fused(
    graph: EncoderGraph, stats: dict[str, InputStats], recipe: Int8Recipe, say: Progress
) -> tuple[Emit, dict[str, float]]:
    layers: list[fused.Layer] = []
    count = fused.num_layers(graph.model)
    folds = list(in_lanes(lambda index: fused.input_fold(graph, index, stats, recipe), range(count + 1)))
    for layer in in_lanes(lambda i: fused.prepare(graph, i, (folds[i], folds[i + 1]), stats, recipe), range(count)):
        layers.append(layer)
        say(f"quantized layer {len(layers)} of {count}")
    errors = {name: error for layer in layers for name, error in layer.errors.items()}
    return lambda wide: fused.emit(graph, layers, recipe, wide), errors


def _prepare_generic(
    graph: EncoderGraph, stats: dict[str, InputStats], recipe: Int8Recipe, say: Progress, *, token: int
) -> tuple[Emit, dict[str, float]]:
    tied = generic.groups_of(graph.model)
    groups: list[generic.Group] = []
    for group in in_lanes(lambda group: generic.prepare(graph.model, group, stats, recipe), tied):
        groups.append(group)
        say(f"quantized group {len(groups)} of {len(tied)} of the products that share a value or a weight")
    tables = generic.table_errors(graph.model) if recipe.unfused_embeddings_int8 else {}
    blocks = long_sums(graph.model, without_aliases(graph.model), token)
    errors = {name: error for group in groups for name, error in group.errors.items()}
    return partial(generic.emit, graph.model, groups, tables, blocks), errors | tables


class _Measure:
    """Pooled vectors of an int8 graph against those of the fp32 graph."""

    def __init__(self, calibration: Sequence[Ids], reference: Array, token: int | None) -> None:
        seen, others = held_out(calibration)
        some = range(0, len(seen), -(-len(seen) // _MAX_CORRECTED))
        self._texts, self._num_seen, self._token = [*(seen[i] for i in some), *others], len(some), token
        self._reference = reference[[*some, *range(len(seen), len(reference))]]
        self._center = corpus_center(self._reference)
        self.gates = gate_set("int8", mean_pairwise_cosine(self._reference))

    def correct(self, model: onnx.ModelProto, *, output: bool) -> Deviation:
        """How far held-out texts are off; with `output`, after what the others are off by is taken off `model`."""
        vectors = pooled(Session(model), self._texts, token=self._token)
        shift = (vectors - self._reference)[: self._num_seen].mean(axis=0)
        if output and _subtract_from_output(model, shift):
            vectors = vectors - shift
        others = slice(self._num_seen, None)
        return compare(self._reference[others], vectors[others], center=self._center)


def _widen(
    measure: _Measure, emit: Emit, errors: dict[str, float], recipe: Int8Recipe, say: Progress
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """What the recipe keeps float32; then, while a gate's reserve is touched, one product more each time."""
    gates = with_reserve(measure.gates, recipe.reserve)
    named = [name for name in errors if {name, name.rpartition(".")[2]}.intersection(recipe.kept_float32)]
    others = sorted((name for name in errors if name not in named), key=lambda name: -errors[name])
    order = [*named, *others]
    least = len(named) + round(recipe.float32_share * len(others))
    history: list[dict[str, Any]] = []
    for count in range(least, min(least + recipe.max_wide, len(order)) + 1):
        wide = order[:count]
        say(f"measuring with {count} products kept float32")
        model = emit(frozenset(wide))
        found = measure.correct(model, output=recipe.output_correction)
        history.append({"kept": count, **{name: metric.read(found) for name, metric in METRICS.items()}})
        if not find_failures("int8", gates, found):
            break
    local = {name: round(error, 6) for name, error in errors.items()}
    return model, {"kept_float32": wide, "local_error": local, "measured": history}


def _widen_for_repeats(
    repeats: Repeats,
    measure: _Measure,
    emit: Emit,
    model: onnx.ModelProto,
    report: dict[str, Any],
    recipe: Int8Recipe,
    say: Progress,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """While those texts are further off than the gate of the smallest cosine allows: one FFN more float32."""
    limits = [gate.limit for gate in with_reserve(measure.gates, recipe.reserve).gates if gate.metric == "cosine_min"]
    wide, history = list(report["kept_float32"]), list(report["measured"])
    wider = first_ffns(repeats.spec, recipe.repeated_ffns)
    while True:
        found = repeats.cosine(model)
        history[-1] = {**history[-1], "repeated_min": found}
        products = next(wider, None) if any(found < limit for limit in limits) else None
        if products is None:
            return model, {**report, "kept_float32": wide, "measured": history}
        wide = [*report["kept_float32"], *(name for name in products if name not in report["kept_float32"])]
        say(f"measuring with {len(wide)} products kept float32")
        model = emit(frozenset(wide))
        others = measure.correct(model, output=recipe.output_correction)
        history.append({"kept": len(wide), **{name: metric.read(others) for name, metric in METRICS.items()}})


def _subtract_from_output(model: onnx.ModelProto, shift: Array) -> bool:
    """Take `shift` (H,) off every state the graph gives, in the bias of its last norm; False where there is none.

    Bias correction (Nagel et al., 2019, arXiv:1906.04721) of the whole encoder at once: what all texts' vectors are
    off by. The products' own corrections only see rounded weights, and tokens of every position alike.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    node = producers[model.graph.output[0].name]
    if node.op_type == "Reshape":
        node = producers[node.input[0]]
    place = {"LayerNormalization": 2, "Add": 1}.get(node.op_type)  # an RMS norm's beta is added after it
    if place is None or len(node.input) <= place:
        return False
    name = node.input[place]
    beta = next((tensor for tensor in model.graph.initializer if tensor.name == name), None)
    if beta is None:
        return False
    shifted = numpy_helper.to_array(beta) - shift.astype(np.float32)
    if sum(list(other.input).count(name) for other in model.graph.node) > 1:  # layers share their norms: ALBERT's do
        name = node.input[place] = f"{node.output[0]}.beta"
        beta = model.graph.initializer.add()
    beta.CopyFrom(numpy_helper.from_array(shifted, name))
    return True
