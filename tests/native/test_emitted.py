"""Encoders as the exporter emits them: the same file on ONNX Runtime and on the native executor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from embedrt import Embedder
from embedrt_export.emit import emit
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import Int8Recipe, to_int8
from embedrt_export.weights import ROLES
from tests.export.encoders import run, session
from tests.native import door, made, specs
from tests.native.specs import SPECS

pytestmark = pytest.mark.exports
RECIPE = Int8Recipe(ffn_outliers=16, max_wide=0, optimize=False, gptq=False)


def cosine(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


FIRST_FFN = ("layers.0.ffn_up", "layers.0.ffn_down")  # as `embedrt_export.int8.repeated` keeps it wide


@pytest.mark.parametrize(
    ("name", "wide"), [*((name, ()) for name in SPECS), ("mpnet", FIRST_FFN), ("qwen3", FIRST_FFN)]
)
def test_int8_agrees_with_onnxruntime(
    native_isas: dict[str, bool], name: str, wide: tuple[str, ...], tmp_path: Path
) -> None:
    """To roundings that flip, which bfloat16 makes more of."""
    spec, rng = SPECS[name], np.random.default_rng(3)
    calibration = [rng.integers(3, specs.VOCABULARY, n).tolist() for n in rng.integers(2, 40, 60)]
    graph = EncoderGraph(emit(spec, specs.float_tensors(spec)), None, {}, (), spec)
    model, _ = to_int8(graph, calibration, recipe=replace(RECIPE, kept_float32=wide))
    every = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    tensors = {key: value for key, value in every.items() if key.startswith(ROLES) and ".of." not in key}
    batch = made.random_batch([1, 5, 17, 64, 40], specs.VOCABULARY)
    texts = [made.text(batch, i).token_ids.tolist() for i in range(5)]
    theirs = run(session(model, tmp_path), texts)
    for isa in [name for name, available in native_isas.items() if available]:
        hidden = specs.load(spec, tensors, isa=isa).run(batch)
        ours = np.split(hidden, batch.offsets[1:-1])
        least = min(cosine(a.mean(axis=0), b.mean(axis=0)) for a, b in zip(ours, theirs, strict=True))
        assert least > (0.999 if isa in door.NARROW else 0.9999), (isa, least)


@pytest.mark.parametrize("family", ["modernbert"])
def test_bundles_of_format_2_run_natively(
    native_isas: dict[str, bool], make_bundle: Callable[..., Path], family: str
) -> None:
    root = make_bundle(family, variants=("fp32", "int8"))
    texts = ["The quick brown fox.", "서울은 대한민국의 수도이다.", "a", "How much protein should a female eat?"]
    variants = ["int8", "bf16"] if native_isas.get("avx512bf16", False) else ["int8"]
    for variant in variants:
        reference = "fp32" if variant == "bf16" else variant
        with (
            Embedder(root, variant=variant, num_threads=2) as native,
            Embedder(root, variant=reference, executor="onnxruntime", num_threads=1) as onnx,
        ):
            assert native.executor == "native"
            cosines = [cosine(a, b) for a, b in zip(native.encode(texts), onnx.encode(texts), strict=True)]
        assert min(cosines) > 0.999, (variant, cosines)
