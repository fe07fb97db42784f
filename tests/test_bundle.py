from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedrt.bundle import MANIFEST_NAME, Bundle, describe_file, sha256_of
from embedrt.embedder import Embedder
from embedrt.errors import BundleFormatError, BundleIntegrityError, BundleNotFoundError, OptionError
from embedrt.heads import ACTIVATION_NAMES, SIMILARITY_NAMES, ScoreHead, Stage
from embedrt.manifest import OutputParity, check_gives
from embedrt.manifest_json import FORMAT_VERSION, dump_manifest, parse_manifest
from embedrt.opening import open_bundle
from embedrt.pooling import ACTIVATIONS
from embedrt.similarity import SIMILARITIES
from tests.encoders import make_spec
from tests.handmade import CONTENTS, make_manifest, write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def data(bundle: Bundle) -> dict[str, Any]:
    """The manifest as JSON values, for tests to spoil."""
    loaded: dict[str, Any] = json.loads((bundle.root / MANIFEST_NAME).read_text(encoding="utf-8"))
    return loaded


def place(data: dict[str, Any], dotted: str) -> tuple[Any, Any]:
    """The container and the key that a dotted path like variants.fp32.files[0].size leads to."""
    keys: list[Any] = [int(k) if k.isdigit() else k for k in re.findall(r"[^.\[\]]+", dotted)]
    container: Any = data
    for key in keys[:-1]:
        container = container[key]
    return container, keys[-1]


def test_a_manifest_survives_being_written_and_read(bundle: Bundle) -> None:
    assert parse_manifest(dump_manifest(bundle.manifest)) == bundle.manifest == make_manifest(bundle.root)


def test_an_encoder_survives_being_written_and_read(tmp_path: Path) -> None:
    spec = make_spec()
    bundle = write_bundle(tmp_path, {"format_version": 2, "encoder": spec})
    assert bundle.manifest.encoder == spec


def test_without_an_encoder_the_format_is_the_first_and_knows_no_such_field(bundle: Bundle) -> None:
    assert "encoder" not in json.loads(dump_manifest(bundle.manifest))
    with pytest.raises(BundleFormatError, match="format_version: must be 1, as the other fields say"):
        parse_manifest(dump_manifest(replace(bundle.manifest, format_version=2)))


def score_head(labels: tuple[str, ...] = ("relevance",)) -> ScoreHead:
    """A linear classifier behind the first token."""
    dense = Stage("dense", "pipeline/scores.npz", "identity", 32, len(labels))
    return ScoreHead(("cls",), (dense,), labels, "sigmoid", has_types=True, template=None)


def write_reranker(root: Path, **changes: Any) -> Bundle:
    """A bundle that gives scores alone."""
    (root / "pipeline").mkdir()
    (root / "pipeline/scores.npz").write_bytes(b"arrays")
    files = (*write_bundle(root).manifest.files, describe_file(root, "pipeline/scores.npz"))
    return write_bundle(
        root, {"format_version": 3, "pipeline": None, "scores": score_head(), "files": files, **changes}
    )


def test_heads_of_further_outputs_survive_and_make_the_format_the_third(tmp_path: Path) -> None:
    bundle = write_reranker(tmp_path)
    assert parse_manifest(dump_manifest(bundle.manifest)) == bundle.manifest
    assert bundle.manifest.scores == score_head()
    written = json.loads(dump_manifest(bundle.manifest))
    assert (written["pipeline"], written["format_version"]) == (None, 3)
    with pytest.raises(BundleFormatError, match="format_version: must be 3, as the other fields say"):
        parse_manifest(dump_manifest(replace(bundle.manifest, format_version=1)))


def test_a_width_of_codes_survives_and_makes_the_format_the_fourth(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, {"format_version": 4, "code_width": 5.0})
    assert bundle.manifest.code_width == 5.0
    assert parse_manifest(dump_manifest(bundle.manifest)) == bundle.manifest
    assert "code_width" not in json.loads(dump_manifest(write_bundle(tmp_path / "older").manifest))
    for width in (0.0, -1.0):
        with pytest.raises(BundleFormatError, match="code_width: must be a number above 0"):
            parse_manifest(dump_manifest(replace(bundle.manifest, code_width=width)))


def test_another_outputs_parity_survives(tmp_path: Path) -> None:
    bundle = write_reranker(tmp_path)
    parity = {"scores": OutputParity(64, {"max_abs_diff": 1e-6}, passed=True)}
    variants = {name: replace(one, outputs=parity) for name, one in bundle.manifest.variants.items()}
    manifest = replace(bundle.manifest, variants=variants)
    assert parse_manifest(dump_manifest(manifest)) == manifest


def test_a_bundle_opened_with_the_wrong_class_names_the_right_one(tmp_path: Path) -> None:
    bundle = write_reranker(tmp_path)
    with pytest.raises(
        OptionError, match=r"handmade gives scores of pairs of texts, not vectors: open it with embedrt\.Reranker"
    ):
        Embedder(bundle)
    check_gives(bundle.manifest, "scores")
    with pytest.raises(
        OptionError, match=r"gives vectors, not scores of pairs of texts: open it with embedrt\.Embedder"
    ):
        check_gives(make_manifest(tmp_path), "scores")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("scores", None, "pipeline: must not be null where there is no other output"),
        ("scores.activation", "tanh", "scores.activation: 'tanh' is not one of identity, sigmoid, softmax"),
        ("scores.labels", ["no", "yes"], "scores.labels: must be 1, as it gives"),
        ("scores.stages", [], "scores.labels: must be behind a dense stage"),
        ("scores.pooling", [], "scores.pooling: must not be empty"),
        ("scores.stages[0].path", "pipeline/other.npz", "scores.stages[0].path: must be among files"),
        ("variants.fp32.outputs", {"scores": {"num_inputs": 1}}, "variants.fp32.outputs.scores.figures: missing"),
    ],
)
def test_a_score_head_that_cannot_be(tmp_path: Path, where: str, value: object, message: str) -> None:
    data = json.loads(dump_manifest(write_reranker(tmp_path).manifest))
    container, key = place(data, where)
    container[key] = value
    if value is None:
        data["format_version"] = 3
    with pytest.raises(BundleFormatError, match=re.escape(message)):
        parse_manifest(json.dumps(data))


def test_unicode_survives(tmp_path: Path) -> None:
    written = write_bundle(tmp_path, {"notes": ("주어진 문장을 임베딩으로 변환: ",)})
    assert open_bundle(tmp_path).manifest.notes == written.manifest.notes == ("주어진 문장을 임베딩으로 변환: ",)


@pytest.mark.parametrize(
    "where",
    [
        "name",
        "source",
        "architecture.layer_norm_eps",
        "pipeline.pooling",
        "prompts.source",
        "variants.fp32.graph",
        "variants.int8.parity",
        "variants.fp32.files[0].sha256",
        "variants.fp32.tensors[0].shape",
        "files[1].size",
    ],
)
def test_a_missing_field_is_named(data: dict[str, Any], where: str) -> None:
    container, key = place(data, where)
    del container[key]
    with pytest.raises(BundleFormatError, match=re.escape(f"{where}: missing")):
        parse_manifest(json.dumps(data))


@pytest.mark.parametrize(
    "where",
    ["extra", "source.url", "pipeline.stages[0].bias", "variants.fp32.opset", "files[0].md5", "prompts.texts_ko"],
)
def test_an_unknown_field_is_named(data: dict[str, Any], where: str) -> None:
    container, key = place(data, where)
    container[key] = 1
    with pytest.raises(BundleFormatError, match=re.escape(f"{where}: unknown field")):
        parse_manifest(json.dumps(data))


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("name", 7, "must be str, not int"),
        ("name", None, "must be str, not null"),
        ("max_tokens", "64", "must be int, not str"),
        ("max_tokens", 64.0, "must be int, not float"),
        ("max_tokens", True, "must be int, not bool"),
        ("pipeline.include_prompt", 1, "must be bool, not int"),
        ("architecture", [], "must be an object, not list"),
        ("architecture.layer_norm_eps", "1e-5", "must be float, not str"),
        ("architecture.layer_norm_eps", True, "must be float, not bool"),
        ("files", {}, "must be a list, not dict"),
        ("files[1]", "texts", "must be an object, not str"),
        ("variants", [], "must be an object, not list"),
        ("prompts.texts.query", 1, "must be str, not int"),
        ("variants.fp32.tensors[0].shape[1]", "32", "must be int, not str"),
        ("variants.fp32.recipe", None, "must be an object, not null"),
        ("source.revision", 3, "must be str, not int"),
    ],
)
def test_a_wrong_type_is_named(data: dict[str, Any], where: str, value: object, message: str) -> None:
    container, key = place(data, where)
    container[key] = value
    with pytest.raises(BundleFormatError, match=re.escape(f"{where}: {message}")):
        parse_manifest(json.dumps(data))


def test_an_integer_is_a_float_too(data: dict[str, Any]) -> None:
    data["architecture"]["layer_norm_eps"] = 1
    eps = parse_manifest(json.dumps(data)).architecture.layer_norm_eps
    assert eps == 1.0
    assert type(eps) is float


def test_defaults_may_be_left_out(data: dict[str, Any]) -> None:
    del data["notes"], data["pipeline"]["stages"][0]["epsilon"]
    assert parse_manifest(json.dumps(data)).notes == ()


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("variants", {}, "variants: must not be empty"),
        ("pipeline.pooling", [], "pipeline.pooling: must not be empty"),
        ("pipeline.pooling", ["median"], "'median' is not one of cls, mean"),
        ("pipeline.stages[0].kind", "router", "'router' is not one of dense, layernorm, normalize"),
        ("format_version", 0, "format_version: must be 1"),
        ("pipeline.stages[0]", {"kind": "dense", "activation": "swish"}, "'swish' is not one of identity, tanh"),
        ("pipeline.stages[0]", {"kind": "dense", "activation": "tanh"}, "stages[0].path: must be among files"),
        ("pipeline.stages[0]", {"kind": "layernorm", "path": "ln.npz"}, "stages[0].path: must be among files"),
        ("similarity", "angle", "similarity: 'angle' is not one of cosine, dot"),
        ("tokenizer", "spiece.model", "tokenizer: must be among files"),
        ("variants.fp32.graph", "int8/model.onnx", "variants.fp32.graph: must be among its files"),
        ("variants.fp32.tensors[0].path", "fp32/other.bin", "tensors[0].path: must be among its files"),
    ],
)
def test_a_wrong_value_is_named(data: dict[str, Any], where: str, value: object, message: str) -> None:
    container, key = place(data, where)
    container[key] = value
    with pytest.raises(BundleFormatError, match=re.escape(message)):
        parse_manifest(json.dumps(data))


def test_an_unknown_variant_is_refused(data: dict[str, Any]) -> None:
    data["variants"]["int4"] = data["variants"]["int8"]
    with pytest.raises(BundleFormatError, match=r"variants\.int4: must be one of fp32, fp16, int8"):
        parse_manifest(json.dumps(data))


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "fp32/../../outside", "", "parity/.."])
@pytest.mark.parametrize(
    "where",
    [
        "files[1].path",
        "variants.int8.files[0].path",
        "tokenizer",
        "pipeline.stages[0].path",
        "variants.fp32.graph",
        "variants.fp32.graph_cuda",
        "variants.fp32.tensors[0].path",
    ],
)
def test_a_path_out_of_the_bundle_is_refused(data: dict[str, Any], where: str, path: str) -> None:
    container, key = place(data, where)
    container[key] = path
    with pytest.raises(BundleFormatError, match=r"must (stay inside the bundle|be among (its )?files)"):
        parse_manifest(json.dumps(data))


def test_a_newer_format_says_what_to_do(data: dict[str, Any]) -> None:
    data["format_version"] = FORMAT_VERSION + 1
    data["field_of_the_future"] = True
    with pytest.raises(BundleFormatError, match=r"has format 5, this embedrt reads up to 4; pip install -U embedrt"):
        parse_manifest(json.dumps(data))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ('{"format_version": 1', "is not JSON"),
        ("[]", "top level: must be an object, not list"),
        ("null", "top level: must be an object, not null"),
        ("{}", "format_version: missing"),
        ('{"format_version": true}', "format_version: must be int, not bool"),
    ],
)
def test_what_is_no_manifest(text: str, message: str) -> None:
    with pytest.raises(BundleFormatError, match=re.escape(message)):
        parse_manifest(text)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match="embedrt export MODEL"):
        open_bundle(tmp_path / "nothing")


def test_no_manifest_in_it(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match=f"no {MANIFEST_NAME} in it"):
        open_bundle(tmp_path)


def test_a_file_instead_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(BundleNotFoundError, match="is a file; a bundle is a directory"):
        open_bundle(tmp_path / "model.onnx")


def test_a_manifest_that_is_no_text(bundle: Bundle) -> None:
    (bundle.root / MANIFEST_NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleFormatError, match="cannot be read"):
        open_bundle(bundle.root)


@pytest.mark.parametrize("path", CONTENTS)
def test_a_missing_file(bundle: Bundle, path: str) -> None:
    (bundle.root / path).unlink()
    with pytest.raises(BundleIntegrityError, match=re.escape(f"{path} is missing; copy or export the bundle again")):
        open_bundle(bundle.root)


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b""], ids=["short", "long", "empty"])
@pytest.mark.parametrize("path", CONTENTS)
def test_a_file_of_another_size(bundle: Bundle, path: str, spoil: Callable[[bytes], bytes]) -> None:
    changed = spoil(CONTENTS[path])
    (bundle.root / path).write_bytes(changed)
    message = f"{path} has {len(changed)} bytes, the manifest says {len(CONTENTS[path])}"
    with pytest.raises(BundleIntegrityError, match=re.escape(message)):
        open_bundle(bundle.root)


@pytest.mark.parametrize("path", CONTENTS)
def test_a_changed_byte_is_found_by_its_hash(bundle: Bundle, path: str) -> None:
    content = bytearray(CONTENTS[path])
    content[len(content) // 2] ^= 1
    (bundle.root / path).write_bytes(content)
    opened = open_bundle(bundle.root)  # same size: only hashes tell
    with pytest.raises(BundleIntegrityError, match=re.escape(f"{path} does not match its sha256")):
        opened.check_hashes()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files are read in another way")
def test_a_disk_that_fails_is_an_error_not_the_end_of_the_process(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "sendfile", fail)
    with pytest.raises(BundleIntegrityError, match=r"cannot be read: Input/output error"):
        bundle.check_hashes()


def test_a_variant_is_checked_without_the_others(bundle: Bundle) -> None:
    (bundle.root / "fp32/weights.bin").unlink()
    bundle.check_sizes("int8")
    bundle.check_hashes("int8")
    with pytest.raises(BundleIntegrityError):
        bundle.check_sizes("fp32")


def test_hashes_of_an_untouched_bundle_match(bundle: Bundle) -> None:
    bundle.check_hashes()


def test_files_are_the_shared_ones_and_the_variants(bundle: Bundle) -> None:
    assert {f.path for f in bundle.files()} == set(CONTENTS)
    assert {f.path for f in bundle.files("int8")} == {"tokenizer.json", "parity/texts.json", "int8/model.onnx"}


def test_a_variant_that_is_not_there(bundle: Bundle) -> None:
    with pytest.raises(OptionError, match="'fp16' is not in this bundle; it has: fp32, int8"):
        bundle.variant("fp16")


def test_a_relative_path_is_kept_absolute(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(bundle.root)
    opened = open_bundle(".")
    monkeypatch.chdir(tmp_path)
    opened.check_sizes()


def test_tables_know_every_name() -> None:
    assert set(ACTIVATIONS) == set(ACTIVATION_NAMES)
    assert set(SIMILARITIES) == set(SIMILARITY_NAMES)


def test_sha256_of_a_large_file_and_of_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes((1 << 22) + 1))
    # sha256sum of 4,194,305 zero bytes
    assert sha256_of(path) == "95e441ca65cd41fa01b2a71799e79fd60db59ed34f13af32a91e85f90378676c"
    path.write_bytes(b"")
    assert sha256_of(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_what_is_no_bundle_is_called_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users of sentence-transformers give a model's name, or its folder."""

    def said(path: Path | str) -> str:
        with pytest.raises(BundleNotFoundError) as caught:
            open_bundle(path)
        return str(caught.value)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "file").touch()
    assert said("folder") == "folder is not a bundle: there is no manifest.json in it"
    assert "is a model, not a bundle; make one of it with 'embedrt export model BUNDLE'" in said("model")
    assert said("file").startswith("file is a file")
    assert said("none").startswith("none is not there; 'embedrt export MODEL none' makes a bundle; a name has its")
