"""The int8 variant: weights per output channel, activations per token row, on stock ONNX Runtime.

`fused` says what the graph of a known family computes, `generic` is for every other graph, `linear` has the numpy twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import onnx

from embedrt.errors import ExportError
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import fused, generic
from embedrt_export.int8.calibration import InputStats, Session, collect, pooled
from embedrt_export.int8.recipe import RECIPES, Int8Recipe

__all__ = ["DEFAULT", "RECIPES", "Int8Recipe", "to_int8"]

DEFAULT = RECIPES["default"]
_HELD_OUT = 5  # every fifth calibration text takes no part in the calibration and is measured on

Progress = Callable[[str], None]
Emit = Callable[[frozenset[str]], onnx.ModelProto]


def to_int8(
    graph: EncoderGraph,
    calibration: Sequence[Sequence[int]],
    *,
    recipe: Int8Recipe = DEFAULT,
    progress: Progress | None = None,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The int8 graph, and a report: settings, local errors, products kept float32 and what was measured.

    `calibration` holds the token ids of each text, special tokens included, none empty.

    Raises:
        ExportError: there are fewer than 10 calibration texts.
    """
    if len(calibration) < 2 * _HELD_OUT:
        raise ExportError(f"int8 needs at least {2 * _HELD_OUT} calibration texts, got {len(calibration)}")
    say = progress or (lambda _message: None)
    held_out = [ids for index, ids in enumerate(calibration) if index % _HELD_OUT == 0]
    seen = [ids for index, ids in enumerate(calibration) if index % _HELD_OUT]
    values = (fused if graph.family else generic).product_values(graph.model)
    say(f"running {len(seen)} calibration texts")
    by_value = collect(graph.model, dict.fromkeys(values.values(), recipe.gptq), seen)
    stats = {product: by_value[value] for product, value in values.items()}
    prepare = _prepare_fused if graph.family else _prepare_generic
    emit, errors = prepare(graph, stats, recipe, say)
    model, report = _widen(graph, emit, errors, held_out, recipe, say)
    return model, {"settings": asdict(recipe), **report}


def _prepare_fused(
    graph: EncoderGraph, stats: dict[str, InputStats], recipe: Int8Recipe, say: Progress
) -> tuple[Emit, dict[str, float]]:
    layers: list[fused.Layer] = []
    count = fused.num_layers(graph.model)
    for index in range(count):
        say(f"quantizing layer {index + 1} of {count}")
        layers.append(fused.prepare(graph, index, stats, recipe))
    errors = {name: error for layer in layers for name, error in layer.errors.items()}
    return lambda wide: fused.emit(graph, layers, recipe, wide), errors


def _prepare_generic(
    graph: EncoderGraph, stats: dict[str, InputStats], recipe: Int8Recipe, say: Progress
) -> tuple[Emit, dict[str, float]]:
    readers: dict[str, list[str]] = {}
    for product, value in generic.product_values(graph.model).items():
        readers.setdefault(value, []).append(product)
    groups: dict[str, generic.Group] = {}
    for number, (value, products) in enumerate(readers.items(), 1):
        say(f"quantizing the readers of value {number} of {len(readers)}")
        groups[value] = generic.prepare(graph.model, products, stats[products[0]], recipe)
    errors = {name: error for group in groups.values() for name, error in group.errors.items()}
    return lambda wide: generic.emit(graph.model, groups, wide), errors


def _widen(
    graph: EncoderGraph,
    emit: Emit,
    errors: dict[str, float],
    held_out: Sequence[Sequence[int]],
    recipe: Int8Recipe,
    say: Progress,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Measure; while the target is missed, keep the product with the largest local error float32."""
    reference = pooled(Session(graph.model), held_out)
    ranked = sorted(errors, key=lambda name: -errors[name])
    wide: list[str] = []
    history: list[dict[str, Any]] = []
    while True:
        say(f"measuring with {len(wide)} products kept float32")
        model = emit(frozenset(wide))
        cosines = (pooled(Session(model), held_out) * reference).sum(axis=1)
        history.append({"kept": len(wide), "cosine_min": float(cosines.min()), "cosine_mean": float(cosines.mean())})
        if cosines.min() >= recipe.target_cosine or len(wide) >= min(recipe.max_wide, len(ranked)):
            break
        wide.append(ranked[len(wide)])
    local = {name: round(error, 6) for name, error in errors.items()}
    return model, {"kept_float32": wide, "local_error": local, "measured": history}
