"""Emitted graphs of pictures' encoders against the numpy interpreter: fp32, fp16 and int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from embedrt.encoder import EncoderSpec
from embedrt_export.emit import emit
from embedrt_export.fp16 import to_fp16
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import Int8Recipe, to_int8
from embedrt_export.int8.calibration import Session
from tests.encoders import make_pictures, make_pictures_spec, make_tensors
from tests.export.encoders import cosine, session
from tests.interpreter import run_picture

SPECS: dict[str, EncoderSpec] = {
    "CLIP's": make_pictures_spec(),
    "SigLIP's": make_pictures_spec(
        has_first_row=False, norm=None, feed_forward={"activation": "gelu_tanh"}, edge=5, count=16
    ),
}


def run(model: onnx.ModelProto, pictures: NDArray[np.float32], folder: Path) -> NDArray[np.float32]:
    folder.mkdir()
    (found,) = session(model, folder).run(None, {"pixels": pictures})
    return np.asarray(found)


@pytest.mark.parametrize("name", SPECS)
def test_the_graph_computes_what_the_spec_says(name: str, tmp_path: Path) -> None:
    spec, tensors = SPECS[name], make_tensors(SPECS[name])
    model = emit(spec, tensors)
    assert [value.name for value in model.graph.input] == ["pixels"]
    pictures = make_pictures(spec, 3)
    for got, picture in zip(run(model, pictures, tmp_path / "a"), pictures, strict=True):
        want = run_picture(spec, tensors, picture)
        assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()


@pytest.mark.parametrize("name", SPECS)
def test_int8_is_near_fp32_and_alone_equals_in_a_batch(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    graph = EncoderGraph(emit(spec, make_tensors(spec)), None, {}, (), spec)
    recipe = Int8Recipe(ffn_outliers=4, max_wide=0, optimize=False, gptq=False)
    model, report = to_int8(graph, list(make_pictures(spec, 40, seed=2)), token=0, recipe=recipe)
    names = {tensor.name for tensor in model.graph.initializer}
    assert {"embeddings.patch.weight", "layers.0.query.weight", "layers.0.query.scale"} <= names
    assert not any(name.startswith("embeddings.word") for name in names | set(report["local_error"]))
    pictures = make_pictures(spec, 5)
    want, got = run(graph.model, pictures, tmp_path / "a"), run(model, pictures, tmp_path / "b")
    alone = np.concatenate([run(model, pictures[i : i + 1], tmp_path / f"c{i}") for i in range(5)])
    for k in range(5):
        assert cosine(got[k], want[k]) > 0.998
        assert cosine(got[k], alone[k]) > 0.999999


def test_fp16_halves_the_weights_of_patches(tmp_path: Path) -> None:
    spec = SPECS["CLIP's"]
    graph = EncoderGraph(emit(spec, make_tensors(spec)), None, {}, (), spec)
    pictures = make_pictures(spec, 12)
    on_cpu, _on_cuda, report = to_fp16(graph, list(pictures))
    halves = {t.name for t in on_cpu.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert "embeddings.patch.weight" in halves
    assert not report["products_kept_float32_on_cuda"]
    want, got = run(graph.model, pictures, tmp_path / "a"), run(on_cpu, pictures, tmp_path / "b")
    assert min(map(cosine, got, want)) > 0.99999


def test_calibration_runs_pictures() -> None:
    spec = SPECS["SigLIP's"]
    states: dict[str, Any]
    states, mask = Session(emit(spec, make_tensors(spec))).run(list(make_pictures(spec, 2)))
    assert mask.shape == (2, 16)
    assert mask.all()
    assert states["last_hidden_state"].shape == (2, 16, spec.hidden_size)
