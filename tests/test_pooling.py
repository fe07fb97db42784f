from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Pooling

from embedrt.bundle import Bundle, describe_file
from embedrt.errors import OptionError
from embedrt.heads import POOLING_MODES, Pipeline, Stage
from embedrt.pooling import ACTIVATIONS, l2_normalize, load_head, pool
from tests.handmade import write_bundle

WIDTH = 24
LENGTHS = (1, 2, 3, 7, 8, 9, 64, 1)
# A sum of n float32 numbers in another order differs by about n * 2**-24 of their size: 64 * 6e-8 = 4e-6.
TOLERANCE = {"rtol": 1e-5, "atol": 5e-6}


def ragged(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states (T, H), all different from 0 on average, and offsets (B + 1,)."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(0.3, 1.0, size=(sum(lengths), WIDTH)).astype(np.float32)
    return hidden, np.cumsum([0, *lengths]).astype(np.int32)


def reference(hidden: np.ndarray, offsets: np.ndarray, modes: tuple[str, ...], prompt_length: int = 0) -> np.ndarray:
    """sentence-transformers' Pooling over the same states, padded on the right with garbage."""
    lengths = np.diff(offsets)
    padded = torch.full((len(lengths), int(lengths.max()), WIDTH), 1e4)
    mask = torch.zeros(padded.shape[:2], dtype=torch.int64)
    for i, (begin, end) in enumerate(itertools.pairwise(offsets)):
        padded[i, : end - begin] = torch.from_numpy(hidden[begin:end])
        mask[i, : end - begin] = 1
    module = Pooling(WIDTH, pooling_mode=modes, include_prompt=prompt_length == 0)
    features: dict[str, Any] = {"token_embeddings": padded, "attention_mask": mask}
    if prompt_length:
        features["prompt_length"] = prompt_length
    return np.asarray(module(features)["sentence_embedding"].numpy())


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_equals_sentence_transformers(mode: str) -> None:
    hidden, offsets = ragged()
    got = pool(hidden, offsets, (mode,))
    assert got.shape == (len(LENGTHS), WIDTH)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, reference(hidden, offsets, (mode,)), **TOLERANCE)


@pytest.mark.parametrize("modes", [("cls", "mean"), ("mean", "cls"), ("lasttoken", "max", "cls"), POOLING_MODES])
def test_several_modes_are_joined_in_their_order(modes: tuple[str, ...]) -> None:
    hidden, offsets = ragged()
    got = pool(hidden, offsets, modes)
    assert got.shape == (len(LENGTHS), WIDTH * len(modes))
    np.testing.assert_array_equal(got, np.concatenate([pool(hidden, offsets, (m,)) for m in modes], axis=1))
    np.testing.assert_allclose(got, reference(hidden, offsets, modes), **TOLERANCE)


@pytest.mark.parametrize("mode", [mode for mode in POOLING_MODES if mode != "cls"])
@pytest.mark.parametrize("prompt_length", [1, 3, 5])
def test_a_prompt_is_left_out_like_sentence_transformers(mode: str, prompt_length: int) -> None:
    hidden, offsets = ragged((6, 9, 64, 17))
    got = pool(hidden, offsets, (mode,), skip=prompt_length)
    np.testing.assert_allclose(got, reference(hidden, offsets, (mode,), prompt_length), **TOLERANCE)
    if mode != "lasttoken":
        assert np.abs(got - pool(hidden, offsets, (mode,))).max() > 1e-2


def test_cls_after_a_prompt_is_the_first_row_that_is_left() -> None:
    hidden, offsets = ragged((6, 9))
    expected = reference(hidden, offsets, ("cls",), 4)
    np.testing.assert_allclose(pool(hidden, offsets, ("cls",), skip=4), expected, **TOLERANCE)


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_a_prompt_never_takes_the_whole_text(mode: str) -> None:
    hidden, offsets = ragged((3, 1))
    got = pool(hidden, offsets, (mode,), skip=50)
    assert np.isfinite(got).all()
    assert got.any(axis=1).all()


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_bits_do_not_depend_on_the_batch(mode: str) -> None:
    hidden, offsets = ragged()
    together = pool(hidden, offsets, (mode,))
    for i in range(len(LENGTHS)):
        rows = hidden[offsets[i] : offsets[i + 1]]
        alone = pool(np.array(rows), np.array([0, len(rows)], np.int32), (mode,))
        np.testing.assert_array_equal(alone[0], together[i])


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_a_nan_stays_in_its_own_text(mode: str) -> None:
    hidden, offsets = ragged()
    clean = pool(hidden, offsets, (mode,))
    hidden[offsets[3] : offsets[4]] = np.nan
    spoiled = pool(hidden, offsets, (mode,))
    others = [i for i in range(len(LENGTHS)) if i != 3]
    assert np.isnan(spoiled[3]).all()
    np.testing.assert_array_equal(spoiled[others], clean[others])


def test_l2_normalize_equals_torch() -> None:
    rows = np.random.default_rng(0).normal(size=(9, WIDTH)).astype(np.float32)
    rows[4] = 0
    rows[5] *= 1e-20
    expected = torch.nn.functional.normalize(torch.from_numpy(rows), dim=1).numpy()
    np.testing.assert_allclose(l2_normalize(rows), expected, rtol=1e-6, atol=1e-7)
    assert not l2_normalize(rows)[4].any()


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("identity", torch.nn.Identity()),
        ("tanh", torch.nn.Tanh()),
        ("relu", torch.nn.ReLU()),
        ("sigmoid", torch.nn.Sigmoid()),
        ("silu", torch.nn.SiLU()),
        ("gelu", torch.nn.GELU()),
    ],
)
def test_activations_equal_torch(name: str, module: torch.nn.Module) -> None:
    values = np.linspace(-90, 90, 721, dtype=np.float32)[None]
    got = ACTIVATIONS[name](values)
    np.testing.assert_allclose(got, module(torch.from_numpy(values)).numpy(), rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32


def with_stages(root: Path, pooling: tuple[str, ...], stages: tuple[Stage, ...]) -> Bundle:
    """A bundle with these stages, whose npz files lie in `root` already."""
    bundle = write_bundle(root)
    files = bundle.manifest.files + tuple(describe_file(root, s.path) for s in stages if s.path is not None)
    architecture = replace(bundle.manifest.architecture, hidden_size=WIDTH)
    pipeline = Pipeline(pooling, True, stages, WIDTH)  # heads know their own width
    return write_bundle(root, {"files": files, "architecture": architecture, "pipeline": pipeline})


def save_arrays(root: Path, path: str, module: torch.nn.Module) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    arrays = {name.rpartition(".")[2]: value.numpy() for name, value in module.state_dict().items()}
    np.savez(root / path, **arrays)


def test_a_head_of_dense_layer_norm_and_normalize_equals_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    dense, norm = Dense(2 * WIDTH, 12, activation_function=torch.nn.Tanh()), LayerNorm(12)
    torch.nn.init.normal_(norm.norm.weight)
    save_arrays(tmp_path, "pipeline/dense_1.npz", dense)
    save_arrays(tmp_path, "pipeline/layernorm_2.npz", norm)
    stages = (
        Stage("dense", "pipeline/dense_1.npz", "tanh", 2 * WIDTH, 12),
        Stage("layernorm", "pipeline/layernorm_2.npz", epsilon=norm.norm.eps),
        Stage("normalize"),
    )
    bundle = with_stages(tmp_path, ("cls", "mean"), stages)
    head = load_head(bundle, bundle.manifest.pipeline)
    vectors = np.random.default_rng(0).normal(size=(5, 2 * WIDTH)).astype(np.float32)
    with torch.no_grad():
        features = {"sentence_embedding": torch.from_numpy(vectors)}
        expected = torch.nn.functional.normalize(norm(dense(features))["sentence_embedding"], dim=1)
    np.testing.assert_allclose(head(vectors), expected.numpy(), rtol=1e-5, atol=1e-6)
    assert (head.dimension, head.normalizes) == (12, True)
    alone = np.concatenate([head(row[None]) for row in vectors])
    np.testing.assert_array_equal(alone, head(vectors))


def test_a_dense_layer_without_bias(tmp_path: Path) -> None:
    dense = Dense(WIDTH, 5, bias=False, activation_function=torch.nn.Identity())
    save_arrays(tmp_path, "pipeline/dense_1.npz", dense)
    bundle = with_stages(tmp_path, ("mean",), (Stage("dense", "pipeline/dense_1.npz", "identity", WIDTH, 5),))
    head = load_head(bundle, bundle.manifest.pipeline)
    vectors = np.ones((3, WIDTH), np.float32)
    expected = vectors @ dense.linear.weight.detach().numpy().T
    np.testing.assert_allclose(head(vectors), expected, rtol=1e-5, atol=1e-6)
    assert (head.dimension, head.normalizes) == (5, False)
    assert head(np.empty((0, WIDTH), np.float32)).shape == (0, 5)


def test_a_pooling_that_does_not_fit_the_dense_layer(tmp_path: Path) -> None:
    save_arrays(tmp_path, "pipeline/dense_1.npz", Dense(WIDTH, 5))
    bundle = with_stages(tmp_path, ("mean",), (Stage("dense", "pipeline/dense_1.npz", "tanh", WIDTH, 5),))
    with pytest.raises(OptionError, match=r"pooling cls\+mean gives 48 numbers, the model's dense layer takes 24"):
        load_head(bundle, replace(bundle.manifest.pipeline, pooling=("cls", "mean")))


def test_no_stages_leave_vectors_alone(tmp_path: Path) -> None:
    bundle = with_stages(tmp_path, ("mean",), ())
    head = load_head(bundle, bundle.manifest.pipeline)
    vectors = np.ones((2, WIDTH), np.float32)
    assert head(vectors) is vectors
    assert (head.dimension, head.normalizes) == (WIDTH, False)
    assert json.loads((bundle.root / "manifest.json").read_text())["pipeline"]["stages"] == []
