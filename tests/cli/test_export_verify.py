"""export and verify hand over to other packages; here those are stand-ins, their own tests are elsewhere."""

from __future__ import annotations

import importlib
import json
import sys
from types import ModuleType

import numpy as np
import pytest

from embedrt.embedder import Embedder
from embedrt.errors import ParityError
from embedrt.opening import open_bundle
from embedrt.parity.files import read_parity_files
from embedrt.parity.verify import verify_bundle

TEXTS = ["the water", "a stone in the river", "light", "bread and paper", "물은", "", "a b c d", "river of light"]


@pytest.fixture
def own_texts(lookup_bundle):
    with Embedder(lookup_bundle, variant="fp32") as embedder:
        return TEXTS, embedder.encode(TEXTS)


@pytest.fixture
def exporter(monkeypatch, lookup_bundle, own_texts):
    """Stands in for embedrt_export.export; keeps what it was called with."""
    calls: list[dict[str, object]] = []

    def export(model, out, **options):
        progress = options.pop("progress")
        with progress.step("make fp32", 2) as advance:
            advance(2)
        calls.append({"model": model, "out": out, **options})
        if model == "bad":
            raise ParityError("int8: cosine min 0.9")
        return verify_bundle(lookup_bundle, variants=["fp32"], texts=own_texts[0], reference=own_texts[1])

    module = ModuleType("embedrt_export.export")
    module.export = export
    monkeypatch.setitem(sys.modules, "embedrt_export.export", module)
    return calls


def test_export_passes_its_options_on_and_shows_the_parity(cli, exporter, tmp_path):
    (tmp_path / "p.json").write_text("{}")
    result = cli.ok(
        "export", "some/model", tmp_path / "out", "--variants", "int8,fp32", "--pooling", "cls", "--max-tokens", 64,
        "--revision", "main", "--prompts", tmp_path / "p.json", "--name", "n", "--force",
    )  # fmt: skip
    assert exporter == [
        {
            "model": "some/model", "out": tmp_path / "out", "variants": ("int8", "fp32"), "pooling": "cls",
            "max_tokens": 64, "revision": "main", "prompts": tmp_path / "p.json", "calibration": None,
            "int8_recipe": "default", "name": "n", "force": True, "pictures_from": None, "adapter": None,
            "keep_languages": (), "keep_tokens": None, "keep_texts": None, "trust_remote_code": False,
        }
    ]  # fmt: skip
    assert "Parity" in result.stdout
    assert "report.html" in result.stdout
    assert "make fp32" in result.stderr


def test_export_failures(cli, exporter, monkeypatch, tmp_path):
    assert cli.fails("export", "bad", tmp_path / "out", "-q") == "error: int8: cosine min 0.9\n"
    cli.fails("export", "m", tmp_path / "out", "--variants", "fp64", code=2)
    cli.fails("export", "m", tmp_path / "out", "--variants", ",", code=2)
    cli.fails("export", "m", tmp_path / "out", "--prompts", tmp_path / "none.json", code=2)
    monkeypatch.setitem(sys.modules, "embedrt_export.export", None)
    assert "pip install 'embedrt[export]'" in cli.fails("export", "m", tmp_path / "out")


def test_packages_that_do_not_fit_are_neither_missing_nor_a_bug(cli, monkeypatch, tmp_path):
    real = importlib.import_module

    def load(name, *rest):
        if name == "embedrt_export.export":
            raise ImportError("cannot import name 'get_parameter_dtype'", name="transformers.modeling_utils")
        return real(name, *rest)

    monkeypatch.setattr("importlib.import_module", load)
    said = cli.fails("export", "m", tmp_path / "out")
    assert said == (
        "error: the packages installed do not fit each other (cannot import name 'get_parameter_dtype'); "
        "pip install 'embedrt[export]' in a new environment\n"
    )


def test_verify_against_a_model_on_own_texts(cli, exporter, lookup_bundle, own_texts, monkeypatch, tmp_path):
    asked: dict[str, object] = {}

    def reference_vectors(model, texts, **options):
        asked.update(options, model=model)
        assert texts == own_texts[0]
        options["advance"](len(texts))
        return own_texts[1]

    module = ModuleType("embedrt_export.reference")
    module.reference_vectors = reference_vectors
    monkeypatch.setitem(sys.modules, "embedrt_export.reference", module)
    (tmp_path / "t.txt").write_text("\n".join(TEXTS) + "\n")
    args = ["verify", lookup_bundle, "--against", "some/model", "--texts", tmp_path / "t.txt", "--variants"]
    page = tmp_path / "r.html"
    result = cli.ok(*args, "fp32", "--html", page, "--json", tmp_path / "r.json")
    assert "passed" in result.stdout
    assert (asked["model"], asked["pooling"], asked["max_tokens"], asked["prompt"]) == ("some/model", "mean", 32, "")
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html")
    assert json.loads((tmp_path / "r.json").read_text())["passed"] is True

    (tmp_path / "none.txt").touch()
    said = cli.fails("verify", lookup_bundle, "--against", "m", "--texts", tmp_path / "none.txt", code=2)
    assert "none.txt holds no texts" in said
    cli.fails(*args, "fp32", "--html", tmp_path / "none" / "r.html", code=2)

    monkeypatch.setattr(module, "reference_vectors", lambda *_, **__: np.roll(own_texts[1], 1, axis=0))
    result = cli(*args, "fp32", "--json", "-")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False
    assert "error: parity missed: fp32" in result.stderr


def test_verify_uses_what_the_bundle_keeps(cli, lookup_bundle, own_texts, tmp_path, monkeypatch):
    kept = read_parity_files(open_bundle(lookup_bundle))
    with Embedder(lookup_bundle, variant="fp32") as embedder:
        np.testing.assert_allclose(embedder.encode(list(kept.texts)), kept.vectors, atol=1e-6)
    assert "passed" in cli.ok("verify", lookup_bundle, "--variants", "fp32").stdout


def test_verify_usage(cli, lookup_bundle, tmp_path):
    cli.fails("verify", lookup_bundle, "--texts", tmp_path / "t.txt", code=2)
    assert "it has: fp32, int8" in cli.fails("verify", lookup_bundle, "--variants", "fp16", code=2)
