"""Directories as old and new libraries save them: the installed ones read all of them alike.

Those under saved/ are as transformers 4.48 with sentence-transformers 5.4 and transformers 5.24 with
sentence-transformers 6.2 wrote them, each with the vectors that its library gave; older forms are written by hand.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers

from embedrt import Embedder, SourceError, UnsupportedModelError
from embedrt_export.reference import load_reference
from embedrt_export.source import resolve
from tests import tiny
from tests.export.exporting import export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
TEXTS = ["fox", "the lazy dog jumps over"]
SAVED = Path(__file__).parent / "saved"
SAVED_TEXTS = [*TEXTS, "東京 서울"]  # of which vectors.npy (3, D) has the vectors


def _set_classes(model: Path, *classes: str) -> None:
    modules = json.loads((model / "modules.json").read_text())
    for module, name in zip(modules, classes, strict=True):
        module["type"] = f"sentence_transformers.{name}"
    (model / "modules.json").write_text(json.dumps(modules))


def _of_version_2(model: Path) -> None:
    """One module for everything, flags for the pooling, the limit and the case in a file of the architecture's name."""
    _set_classes(model, "models.Transformer", "models.Pooling", "models.Dense", "models.Normalize")
    (model / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})
    )
    (model / "sentence_bert_config.json").unlink()
    (model / "sentence_bert_config.json").write_text('{"max_seq_length": 48, "do_lower_case": false}')
    tiny.edit_json(model / "config.json", transformers_version="4.6.1", torch_dtype="float32", gradient_checkpointing=0)


def _of_version_5(model: Path) -> None:
    own = "sentence_transformer.modules"
    _set_classes(
        model, "base.modules.transformer.Transformer", f"{own}.pooling.Pooling", "base.modules.dense.Dense",
        f"{own}.normalize.Normalize",
    )  # fmt: skip
    (model / "sentence_bert_config.json").write_text(
        json.dumps({"transformer_task": "feature-extraction", "max_seq_length": 48, "do_lower_case": False})
    )


def _of_version_6(model: Path) -> None:
    """With transformers 5: a tokenizer class without a model, a list of more special tokens, the dtype."""
    _of_version_5(model)
    classes = ["base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling"]
    _set_classes(model, *classes, "base.modules.dense.Dense", "base.modules.normalize.Normalize")
    (model / "3_Normalize").mkdir(exist_ok=True)
    (model / "3_Normalize" / "config.json").write_text("{}")
    (model / "sentence_bert_config.json").write_text(
        json.dumps({
            "transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        })
    )  # fmt: skip
    tiny.edit_json(
        model / "tokenizer_config.json",
        tokenizer_class="TokenizersBackend", backend="tokenizers", extra_special_tokens=[], is_local=True,
    )  # fmt: skip
    tiny.edit_json(
        model / "config.json", transformers_version="5.24.0", dtype="float32", is_decoder=False, bos_token_id=None
    )


NEWEST = pytest.mark.skipif(not hasattr(transformers, "TokenizersBackend"), reason="transformers 5 saves so")


@pytest.mark.parametrize("rewrite", [_of_version_2, _of_version_5, pytest.param(_of_version_6, marks=NEWEST)])
def test_what_any_version_saved_is_the_same_model(tmp_path: Path, rewrite: Callable[[Path], None]) -> None:
    model = tiny.save_pipeline(tmp_path / "m", dense=(32,))
    expected = load_reference(resolve(model))
    vectors = expected.encode(TEXTS)
    rewrite(model)
    got = load_reference(resolve(model))
    np.testing.assert_array_equal(got.encode(TEXTS), vectors)
    assert got.max_tokens == expected.max_tokens


@pytest.mark.parametrize("model", sorted(SAVED.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_other_versions_saved_is_exported_with_their_vectors(tmp_path: Path, model: Path) -> None:
    """What version 4 would misread of version 5 is refused by it; a BertTokenizer without rotary positions is not."""
    is_new = model.parent.name == "transformers-5.24"
    if is_new and not hasattr(transformers, "TokenizersBackend") and model.name != "bert":
        with pytest.raises(UnsupportedModelError, match="pip install --upgrade transformers"):
            resolve(model)
        return
    if is_new and importlib.util.find_spec("sentence_transformers.base.modules.normalize") is None:
        with pytest.raises(SourceError, match=r"saved by .*sentence-transformers 6\.2\.0 .*pip install --upgrade"):
            load_reference(resolve(model))
        return
    export(model, tmp_path / "b")
    with Embedder(tmp_path / "b", variant="fp32") as embedder:
        got = embedder.encode(SAVED_TEXTS)
        assert embedder.max_tokens == 24
    np.testing.assert_allclose(got, np.load(model / "vectors.npy"), atol=2e-6)


def test_directories_of_both_versions_are_there() -> None:
    assert {path.name for path in SAVED.iterdir()} == {"transformers-4.48", "transformers-5.24"}


def test_a_model_of_a_newer_library_that_cannot_be_loaded_is_told_with_the_cure(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    _set_classes(model, "models.Transformer", "models.Pooling", "base.tomorrow.normalize.Normalize")
    tiny.edit_json(model / "config_sentence_transformers.json", __version__={"sentence_transformers": "99.0.0"})
    with pytest.raises(SourceError, match=r"saved by sentence-transformers 99\.0\.0 \(installed: .*pip install --upgr"):
        load_reference(resolve(model))
