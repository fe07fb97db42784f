"""A bundle whose model files are empty, with real parity files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from embedrt.bundle import Bundle, describe_file
from embedrt.heads import Pipeline
from embedrt.manifest import Architecture, Manifest, Prompts, Source, Variant
from embedrt.manifest_json import dump_manifest
from embedrt.opening import open_bundle
from embedrt.parity.files import write_parity_files
from embedrt.parity.report import ParityReport
from embedrt.parity.texts import builtin_texts
from embedrt.parity.verify import verify_bundle
from tests.parity.fakes import DIMENSION, make_fake, vectors_of

MakeBundle = Callable[..., Path]


TEXTS = builtin_texts()[::4]  # enough for ranks in the shorter buckets


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Writes a bundle directory; see `write_bundle`."""
    return lambda *args, **options: write_bundle(tmp_path / "bundle", *args, **options)


@pytest.fixture
def fake_bundle(make_bundle: MakeBundle) -> Bundle:
    """Some of the built-in texts and their exact vectors."""
    return open_bundle(make_bundle())


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> ParityReport:
    """Three variants that pass, over all built-in texts."""
    root = write_bundle(tmp_path_factory.mktemp("parity") / "bundle", builtin_texts())
    return verify_bundle(root, make_embedder=make_fake)


def write_bundle(root: Path, texts: Sequence[str] = TEXTS, variants: Sequence[str] = ("fp32", "fp16", "int8")) -> Path:
    """A bundle whose parity files hold `texts` and their exact vectors."""
    write_parity_files(root, texts, vectors_of(texts))
    (root / "tokenizer.json").write_text("{}")
    made = {}
    for name in variants:
        (root / name).mkdir()
        (root / name / "model.onnx").write_bytes(b"graph of " + name.encode())
        made[name] = Variant(
            graph=f"{name}/model.onnx",
            graph_cuda=None,
            inputs=("input_ids",),
            output="last_hidden_state",
            fused={},
            recipe={},
            files=(describe_file(root, f"{name}/model.onnx"),),
            tensors=(),
            parity=None,
        )
    shared = ("tokenizer.json", "parity/texts.json", "parity/vectors.npy")
    manifest = Manifest(
        format_version=1,
        name="fake",
        created="2026-01-01T00:00:00+00:00",
        source=Source("test/fake", None, "0" * 64),
        architecture=Architecture("bert", DIMENSION, 1, 1, 32, 100, 512, 2, "gelu", 1e-12, 0),
        max_tokens=512,
        tokenizer="tokenizer.json",
        pipeline=Pipeline(("mean",), True, (), DIMENSION),
        prompts=Prompts({}, None, None, "model"),
        similarity="cosine",
        variants=made,
        files=tuple(describe_file(root, path) for path in shared),
        tools={"torch": "2.13.0", "sentence-transformers": "5.2.0"},
    )
    (root / "manifest.json").write_text(dump_manifest(manifest), encoding="utf-8")
    return root
