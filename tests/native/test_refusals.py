"""What the native executor does not run, broken bundles, wrong batches: a reason or an error of the tree, no crash."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedrt import Embedder
from embedrt.bundle import Bundle
from embedrt.errors import (
    BundleIntegrityError,
    DependencyError,
    EmbedrtError,
    ExecutorError,
    OptionError,
    UnsupportedByNativeError,
)
from embedrt.executors import TokenBatch, choice, library, native
from embedrt.executors.native import NativeExecutor
from embedrt.opening import open_bundle
from tests.native import made
from tests.native.made import Shape


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, native_isas: dict[str, bool]) -> Bundle:
    return made.write_bundle(tmp_path_factory.mktemp("refusals") / "bundle", Shape())


def changed(bundle: Bundle, *, drop: str = "", **numbers: Any) -> Bundle:
    """With other numbers of the architecture, and without the tensor `drop`."""
    manifest, variant = bundle.manifest, bundle.variant("int8")
    tensors = tuple(t for t in variant.tensors if t.name != drop)
    return dataclasses.replace(
        bundle,
        manifest=dataclasses.replace(
            manifest,
            architecture=dataclasses.replace(manifest.architecture, **numbers),
            variants={"int8": dataclasses.replace(variant, tensors=tensors)},
        ),
    )


def with_tensor(bundle: Bundle, name: str, /, **fields: Any) -> Bundle:
    """With another entry for the tensor `name`."""
    variant = bundle.variant("int8")
    tensors = tuple(dataclasses.replace(t, **fields) if t.name == name else t for t in variant.tensors)
    variants = {"int8": dataclasses.replace(variant, tensors=tensors)}
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, variants=variants))


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"model_type": "mpnet"}, "it runs bert, distilbert, .*, not mpnet"),
        ({"activation": "silu"}, "not silu"),
        ({"num_heads": 4}, "heads are 16 wide, .* from 32 to 256"),
        ({"num_heads": 3}, "heads do not divide"),
        ({"hidden_size": 72}, "the hidden size is 72, .* multiples of 16"),
        ({"num_layers": 2}, "no tensor layers.1.qkv.bias"),
        ({"max_positions": 60}, "embeddings.position is 70 x 64 float32, wanted 60 x 64"),
        ({"hidden_size": 128}, "wanted"),
        ({"drop": "layers.0.ffn_down.bias"}, "no tensor layers.0.ffn_down.bias"),
        ({"drop": "layers.0.query.scale"}, "int8, wanted 64 x 64 float32"),
    ],
)
def test_what_it_does_not_run_has_a_reason(bundle: Bundle, numbers: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedByNativeError, match=reason):
        NativeExecutor(changed(bundle, **numbers), "int8", num_threads=1)


def test_no_layer_is_left_out(tiny_bundle: Path, native_isas: dict[str, bool]) -> None:
    """A manifest that says one layer of a model of two: half of the weights would not be read."""
    whole = open_bundle(tiny_bundle)
    numbers = dataclasses.replace(whole.manifest.architecture, num_layers=1)
    short = dataclasses.replace(whole, manifest=dataclasses.replace(whole.manifest, architecture=numbers))
    with pytest.raises(UnsupportedByNativeError, match=r"layers\.1\."):
        Embedder(short, variant="int8", executor="native", num_threads=1)
    with (
        Embedder(short, variant="int8", num_threads=1) as auto,
        Embedder(whole, variant="int8", num_threads=1) as right,
    ):
        assert auto.executor == "onnxruntime"  # the graph itself has both layers
        assert float(auto.encode("fox") @ right.encode("fox")) > 0.999


def test_other_variants_and_instruction_sets_have_a_reason(bundle: Bundle) -> None:
    with pytest.raises(UnsupportedByNativeError, match="runs int8 and bf16, not fp32"):
        NativeExecutor(bundle, "fp32", num_threads=1)
    with pytest.raises(UnsupportedByNativeError, match="no instruction set is called 'mmx'"):
        NativeExecutor(bundle, "int8", num_threads=1, isa="mmx")


@pytest.mark.parametrize("zero", [0, 128, -3, 1 << 40, "24", None])
def test_a_zero_point_that_rows_cannot_have_has_a_reason(bundle: Bundle, zero: Any) -> None:
    variant = dataclasses.replace(bundle.variant("int8"), recipe={"settings": {"activation_zero": zero}})
    manifest = dataclasses.replace(bundle.manifest, variants={"int8": variant})
    with pytest.raises(UnsupportedByNativeError, match=r"activation_zero is .*, the kernels take 1 to 127"):
        NativeExecutor(dataclasses.replace(bundle, manifest=manifest), "int8", num_threads=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": 1 << 40},
        {"offset": -4096},
        {"offset": 3},
        {"size": 1 << 40},
        {"size": 8},
        {"shape": (1 << 20, 1 << 20)},
        {"shape": (0,)},
        {"path": "int8/nothing.bin"},
    ],
)
def test_a_tensor_that_is_not_in_its_file_is_an_integrity_error(bundle: Bundle, fields: dict[str, Any]) -> None:
    with pytest.raises(BundleIntegrityError, match="copy or export the bundle again"):
        NativeExecutor(with_tensor(bundle, "layers.0.ffn_up.bias", **fields), "int8", num_threads=1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_no_manifest_crashes_the_loader(bundle: Bundle, data: st.DataObject) -> None:
    """Any tensor with any type, shape, place: loaded and run, or refused with an error of the tree."""
    names = [t.name for t in bundle.variant("int8").tensors]
    integers = st.one_of(st.sampled_from([-1, 0, 1, 15, 16, 48, 64, 112, 128, 4096]), st.integers(-(2**40), 2**40))
    fields: dict[str, Any] = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "dtype": st.sampled_from(["float32", "int8", "float16", "int64"]),
                "shape": st.lists(integers, max_size=3).map(tuple),
                "offset": integers.map(lambda i: i * 4),
                "size": integers,
                "name": st.sampled_from(names),
            },
        )
    )
    broken = with_tensor(bundle, data.draw(st.sampled_from(names)), **fields)
    try:
        executor = NativeExecutor(broken, "int8", num_threads=1)
        executor.run(made.random_batch([3], 16))
        executor.close()
    except EmbedrtError:
        pass


def test_a_truncated_weights_file_is_an_integrity_error(tmp_path: Path, native_isas: dict[str, bool]) -> None:
    bundle = made.write_bundle(tmp_path / "bundle", Shape())
    path = bundle.root / "int8/weights.bin"
    for size in (path.stat().st_size - 1, 4096, 0):
        with path.open("r+b") as stream:
            stream.truncate(size)
        with pytest.raises(BundleIntegrityError):
            NativeExecutor(bundle, "int8", num_threads=1)


@pytest.mark.parametrize(
    ("ids", "offsets", "reason"),
    [
        ([1, 50], [0, 2], "token 50, the vocabulary has 50"),
        ([1, -1], [0, 2], "token -1"),
        ([1] * 71, [0, 71], "71 tokens, the model has positions for 70"),
        ([1, 2], [0, 0, 2], "text 0 has no tokens"),
        ([1, 2], [0, 3, 2], "text 1 has no tokens"),
        ([1, 2], [1, 2], "begins with a text at 0"),
        ([1, 2], [0], "offsets end at"),
        ([], [0], "begins with a text"),
        ([1, 2], [0, 5], "offsets end at"),
    ],
)
def test_wrong_batches_are_refused(bundle: Bundle, ids: list[int], offsets: list[int], reason: str) -> None:
    executor = NativeExecutor(bundle, "int8", num_threads=2)
    with pytest.raises(ExecutorError, match=reason):
        executor.run(TokenBatch(np.array(ids, np.int32), np.array(offsets, np.int32)))
    executor.run(made.random_batch([3], 50))  # and it goes on
    executor.close()


def test_auto_falls_back_to_onnxruntime_and_says_why(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    choice._warn_once.cache_clear()
    with Embedder(tiny_bundle, variant="fp32", num_threads=1) as embedder:
        assert embedder.executor == "onnxruntime"
        assert "int8 and bf16, not fp32" in embedder.executor_reason
    monkeypatch.setattr(library, "LIBRARY", Path("/nowhere/_native.so"))
    Embedder(tiny_bundle, variant="fp32", num_threads=1).close()
    assert caplog.records == []  # it would not have run there anyway
    for _ in range(2):
        with Embedder(tiny_bundle, variant="int8", num_threads=1) as embedder:
            assert embedder.executor == "onnxruntime"
            assert embedder.executor_reason.startswith("the native module is not installed")
    (said,) = caplog.records  # once per process
    assert (said.name, said.levelname) == ("embedrt", "WARNING")
    assert "int8 runs on ONNX Runtime" in said.getMessage()
    with pytest.raises(DependencyError, match="no C\\+\\+ compiler"):
        Embedder(tiny_bundle, variant="int8", executor="native", num_threads=1)


def test_a_portable_machine_is_left_to_onnxruntime(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, native_isas: dict[str, bool]
) -> None:
    only = {name: name == native.PORTABLE for name in native_isas}
    monkeypatch.setattr("embedrt.executors.choice.available_isas", lambda _: only)
    with Embedder(tiny_bundle, variant="int8", num_threads=1) as embedder:
        assert embedder.executor == "onnxruntime"
        assert "none of its instruction sets" in embedder.executor_reason


def test_unknown_executors_and_instruction_sets_are_options_errors(
    tiny_bundle: Path, native_isas: dict[str, bool]
) -> None:
    with pytest.raises(OptionError, match="executor must be one of auto, native, onnxruntime, not 'tvm'"):
        Embedder(tiny_bundle, executor="tvm")
    with pytest.raises(OptionError, match=r"isa must be one of auto, .*avx2, portable, not 'mmx'"):
        Embedder(tiny_bundle, variant="int8", isa="mmx")
