"""Models with code of their own: proven by a published formula, or run where the user says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from embedrt import Embedder, UnsupportedModelError
from embedrt_export.own_code import uses_formula
from embedrt_export.published import FORMULAS
from embedrt_export.source import resolve
from tests import tiny
from tests.export.exporting import export
from tests.export.test_family_published import GTE, JINA, NOMIC, checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
TEXTS = ["fox", "the lazy dog jumps over", "quick brown"]
PUBLISHED = {"nomic": NOMIC, "gte": GTE, "jina": JINA}
CODE = """
import pathlib
import transformers

pathlib.Path(__file__).with_name("it-ran").touch()


class OwnModel(transformers.BertModel):
    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.last_hidden_state = out.last_hidden_state.flip(-1) + 0.25
        return out
"""


def save(folder: Path, config: dict[str, Any]) -> tuple[Path, dict[str, torch.Tensor]]:
    """A pipeline as the hub has it: the authors' config and weights behind the names of a whole task, and no class."""
    model = tiny.save_pipeline(folder / "made")
    config = {**config, "vocab_size": 400}
    state = checkpoint(config)
    save_file({f"bert.{name}": tensor.contiguous() for name, tensor in state.items()}, model / "model.safetensors")
    (model / "config.json").write_text(json.dumps(config))
    tiny.edit_json(model / "1_Pooling" / "config.json", embedding_dimension=48)
    return model, state


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_formula_takes_the_place_of_code_that_must_not_run(tmp_path: Path, name: str) -> None:
    model, state = save(tmp_path, PUBLISHED[name])
    source = resolve(model)
    assert uses_formula(source)
    assert not uses_formula(resolve(model, trust_remote_code=True))
    export(model, tmp_path / "b", variants=["fp32", "int8"])
    formula = FORMULAS[PUBLISHED[name]["auto_map"]["AutoModel"].rpartition(".")[2]]
    with Embedder(tmp_path / "b", variant="fp32") as embedder:
        got = embedder.encode(TEXTS)
        (note,) = (note for note in embedder.bundle.manifest.notes if "published formula" in note)
        assert PUBLISHED[name]["auto_map"]["AutoModel"] in note
        for text, vector in zip(TEXTS, got, strict=True):
            mean = formula(source.config, state, embedder.tokenize([text])[0]).mean(dim=0).numpy()
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def own(folder: Path) -> Path:
    """A directory that only the code beside its weights can read."""
    model = tiny.save_pipeline(folder / "made")
    (model / "modeling_own.py").write_text(CODE)
    tiny.edit_json(model / "config.json", auto_map={"AutoModel": "modeling_own.OwnModel"}, architectures=["OwnModel"])
    return model


def test_without_the_flag_code_is_named_and_not_run(tmp_path: Path) -> None:
    model = own(tmp_path)
    with pytest.raises(
        UnsupportedModelError, match=r"modeling_own\.py beside its weights would be run.*--trust-remote"
    ):
        export(model, tmp_path / "b")
    assert not (model / "it-ran").exists()
    tiny.edit_json(model / "config.json", auto_map={"AutoModel": "someone/code--modeling.OtherModel"})
    with pytest.raises(UnsupportedModelError, match=r"modeling\.py of someone/code on the hub would be run"):
        export(model, tmp_path / "b")


def test_with_the_flag_it_is_run_traced_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    model = own(tmp_path)
    plain = tiny.save_pipeline(tmp_path / "plain", normalize=False)
    export(model, tmp_path / "b", trust_remote_code=True, variants=["fp32", "int8"])
    export(plain, tmp_path / "c")
    with Embedder(tmp_path / "b", variant="fp32") as embedder, Embedder(tmp_path / "c", variant="fp32") as without:
        expected = without.encode(TEXTS)[:, ::-1] + 0.25
        np.testing.assert_allclose(
            embedder.encode(TEXTS), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5
        )
        (note,) = (note for note in embedder.bundle.manifest.notes if "--trust-remote-code" in note)
    assert "modeling_own.OwnModel (sha256 " in note
