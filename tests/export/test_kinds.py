"""Models that are no text encoders are refused as what they are, before their config or weights are looked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from sentence_transformers import CrossEncoder

from embedrt import OptionError, UnsupportedModelError
from embedrt_export.kinds import SmallFiles, check_kind, other_kind
from embedrt_export.reference import load_reference
from embedrt_export.source import resolve
from tests import tiny
from tests.export.exporting import export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

ST = "sentence_transformers"
MODULES = {
    f"{ST}.models.Asym": "is a router",
    f"{ST}.base.modules.router.Router": "is a router",
    f"{ST}.models.BoW": "is a bag of words",
    f"{ST}.models.WordEmbeddings": "is word embeddings",
    f"{ST}.models.CNN": "is a convolutional network",
    f"{ST}.models.LSTM": "is an LSTM",
    f"{ST}.models.CLIPModel": "is a model of pictures and texts",
    f"{ST}.sparse_encoder.models.CSR": "is a sparse encoder",
    f"{ST}.sparse_encoder.models.SparseStaticEmbedding": "is a table of token weights without an encoder",
    "pylate.models.NewKind": r"modules\.json names pylate\.models\.NewKind, which a bundle cannot express",
    f"{ST}.models.NewKind": r"modules\.json names .*NewKind, which a bundle cannot express",
    "custom_st.Transformer": r"modules\.json names custom_st\.Transformer, which a bundle cannot express",
}


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_named_although_there_are_neither_config_nor_weights(tmp_path: Path, module: str) -> None:
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": module}]))
    with pytest.raises(UnsupportedModelError, match=MODULES[module]):
        resolve(tmp_path)


def _plain(folder: Path, model_class: Any, **config: Any) -> Path:
    model_class(transformers.BertConfig(vocab_size=400, max_position_embeddings=64, **tiny._SHAPE, **config)
                ).save_pretrained(folder)  # fmt: skip
    tiny._bert_tokenizer().save_pretrained(folder)
    return folder


def test_a_reranker_is_known_however_it_was_saved(tmp_path: Path) -> None:
    plain = _plain(tmp_path / "plain", transformers.BertForSequenceClassification, num_labels=1)
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(tmp_path / "saved"))
    assert (resolve(plain).output, resolve(tmp_path / "saved").output) == ("scores", "scores")
    with pytest.raises(OptionError, match=r"scores pairs of texts with its own head; --pooling is for vectors"):
        export(plain, tmp_path / "b", pooling="mean")
    # As versions before 5.3 saved it: no modules.json, no config of its own.
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (tmp_path / "saved" / name).unlink()
    assert resolve(tmp_path / "saved").output == "scores"
    assert not (tmp_path / "b").exists()


def test_a_pipeline_says_how_its_encoder_is_pooled_whatever_it_was_trained_for(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    tiny.edit_json(model / "config.json", architectures=["BertForSequenceClassification"])
    assert load_reference(resolve(model)).encode(["fox"]).shape == (1, 64)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (SmallFiles(config={"architectures": ["XLMRobertaForTokenClassification"]}), "a tagger of tokens"),
        (SmallFiles(config={"architectures": ["BertForQuestionAnswering"]}), "a reader that marks answers"),
        (SmallFiles(config={"architectures": ["HF_ColBERT"]}), None),
        (SmallFiles(config={"model_type": "siglip2"}), "a model of pictures and texts"),
        (SmallFiles(pipeline={"model_type": "SparseEncoder"}), None),
        (SmallFiles(modules=[{"type": "x.CSR"}], pipeline={"model_type": "SparseEncoder"}), "a sparse encoder"),
        (SmallFiles(transformer={"transformer_task": "fill-mask"}), "a masked language model without"),
        (SmallFiles(config={"architectures": ["BertForMaskedLM"]}), None),
        (SmallFiles(config={"architectures": ["BertModel"]}, pipeline={"model_type": "SentenceTransformer"}), None),
        (SmallFiles(config={"architectures": None}, transformer={"transformer_task": "feature-extraction"}), None),
    ],
    ids=str,
)
def test_kinds(files: SmallFiles, kind: str | None) -> None:
    found = other_kind(files)
    assert (found is None) == (kind is None)
    assert kind is None or kind in str(found)


def test_code_of_its_own_is_refused_whatever_the_model_type_says(tmp_path: Path) -> None:
    """A model_type that transformers knows would load its class there, which computes something else."""
    model = tiny.save_pipeline(tmp_path / "m")
    for names in ({"AutoModel": "modeling_jina.JinaBert"}, {"AutoConfig": "o/code--configuration.Config"}):
        tiny.edit_json(model / "config.json", auto_map=names)
        with pytest.raises(UnsupportedModelError, match=r"code of its own \(.*\): .* would be run, with all rights"):
            export(model, tmp_path / "b")
    check_kind("m", SmallFiles(config={"auto_map": {"AutoModelForMaskedLM": "modeling.Other"}}))


def test_an_activation_of_its_own_code_is_not_replaced_by_tanh(tmp_path: Path) -> None:
    """sentence-transformers falls back to Tanh with a warning, for the reference as for the bundle."""
    model = tiny.save_pipeline(tmp_path / "m", dense=(32,))
    tiny.edit_json(model / "2_Dense" / "config.json", activation_function="my_package.Snake")
    with pytest.raises(UnsupportedModelError, match=r"code of its own \(my_package\.Snake\), which embedrt never runs"):
        export(model, tmp_path / "b")


def test_transformers_advice_to_trust_code_is_in_our_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("Please pass the argument `trust_remote_code=True` to allow custom code to be run.")

    model = tiny.save_pipeline(tmp_path / "m")
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", refuse)
    with pytest.raises(UnsupportedModelError, match="code of its own, which is run with --trust-remote-code only"):
        load_reference(resolve(model))
