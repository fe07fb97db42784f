"""The bf16 variant: fp32's weights rounded to bfloat16, on the native executor and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.errors import OptionError, UnsupportedByNativeError
from embedrt.executors.native import NativeExecutor, encoder_of
from embedrt.opening import open_bundle
from embedrt.pooling import pool
from tests.native import door, made
from tests.native.made import Shape
from tests.native.twin_encoder import Twin

EVERY = frozenset({"qkv", "attention_output", "ffn_up", "ffn_down", "embeddings"})
SHAPES = {
    "bert": Shape(wide=EVERY, outliers=0, restore=False),
    "tanh": Shape(wide=EVERY, outliers=0, restore=False, activation="gelu_new"),
    "relu": Shape(wide=EVERY, outliers=0, restore=False, activation="relu"),
    "xlm-roberta": Shape(wide=EVERY, outliers=0, restore=False, model_type="xlm-roberta", token_types=False),
    "odd widths": Shape(wide=EVERY, outliers=0, restore=False, hidden=240, heads=5, ffn=1520),
}
LENGTHS = [1, 2, 17, 64, 5, 33]


@pytest.fixture(params=door.NARROW, autouse=True)
def isa(request: pytest.FixtureRequest, native_isas: dict[str, bool]) -> str:
    name: str = request.param
    if not native_isas.get(name, False):
        pytest.skip(f"this machine or build has no {name}")
    return name


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_the_twins_but_for_roundings_that_flip(isa: str, name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    bundle = made.write_bundle(tmp_path / "bundle", shape, variant="fp32")
    tensors, spec = made.make_tensors(shape), encoder_of(bundle, "bf16")
    batch = made.random_batch(LENGTHS, spec.vocab_size)
    texts = [made.text(batch, i).token_ids for i in range(len(LENGTHS))]
    executor = NativeExecutor(bundle, "bf16", num_threads=2, isa=isa)
    hidden = executor.run(batch)
    exact = np.concatenate([Twin(spec, tensors)(ids) for ids in texts])
    narrow = np.concatenate([Twin(spec, tensors, True, True)(ids) for ids in texts])
    assert np.abs(hidden - narrow).mean() < 0.5 * np.abs(narrow - exact).mean()
    assert np.abs(hidden - exact).max() < 0.2
    np.testing.assert_array_equal(executor.run(batch, want="first"), hidden[batch.offsets[:-1]])
    assert executor.run(batch, want="mean").tobytes() == pool(hidden, batch.offsets, ("mean",)).tobytes()
    alone = np.concatenate([executor.run(made.text(batch, i)) for i in range(len(LENGTHS))])
    np.testing.assert_array_equal(alone, hidden)
    executor.close()


@pytest.mark.parametrize(("family", "source"), [("xlmr", "fp32"), ("xlmr", "fp16"), ("distilbert", "fp32")])
def test_its_vectors_are_the_files_to_four_digits(
    isa: str, make_bundle: Callable[..., Path], family: str, source: str
) -> None:
    root = make_bundle(family, variants=(source,))
    texts = ["The quick brown fox.", "서울은 대한민국의 수도이다.", "a", "How much protein should a female eat?"]
    with (
        Embedder(root, variant="bf16", num_threads=2, isa=isa) as narrow,
        Embedder(root, variant=source, num_threads=1) as whole,
    ):
        assert narrow.executor_description.startswith(f"embedrt native bf16, {isa}")
        ours, theirs = narrow.encode(texts), whole.encode(texts)
        assert narrow.identity != whole.identity
    cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() > 0.999


def test_what_it_packs_is_kept_and_taken(isa: str, tmp_path: Path) -> None:
    bundle = made.write_bundle(tmp_path / "bundle", SHAPES["bert"], variant="fp32")
    batch = made.random_batch([5, 9], 50)
    packed = []
    for _ in range(2):
        executor = NativeExecutor(bundle, "bf16", num_threads=1, isa=isa, packed_cache=True)
        packed.append(executor.run(batch))
        assert executor.packed_reason.startswith("mapped from")
        executor.close()
    np.testing.assert_array_equal(*packed)
    assert (bundle.root / f".packed/bf16-{isa}.bin").is_file()


def test_where_it_does_not_run_the_error_says_so(make_bundle: Callable[..., Path]) -> None:
    root = make_bundle("xlmr", variants=("fp32",))
    with pytest.raises(OptionError, match="the native executor only; take fp16 or fp32"):
        Embedder(root, variant="bf16", executor="onnxruntime")
    with pytest.raises(UnsupportedByNativeError, match="need a processor with AVX512-BF16; this is avx2"):
        Embedder(root, variant="bf16", isa="avx2")


def test_without_fp32_there_is_no_bf16(tmp_path: Path) -> None:
    made.write_bundle(tmp_path / "bundle", Shape())
    with pytest.raises(OptionError, match="variant 'bf16' is not in this bundle; it has: int8"):
        open_bundle(tmp_path / "bundle").variant("bf16")
