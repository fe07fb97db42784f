"""Models of pairs exported in every layout and family: scores against sentence-transformers' and transformers' own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore

from embedrt import ParityError, Reranker, SourceError, UnsupportedModelError, open_bundle
from embedrt.parity import scores as parity
from embedrt_export import export, score_export
from embedrt_export.pair_templates import QWEN3_TEMPLATE
from embedrt_export.rerankers import load_scores
from embedrt_export.source import resolve
from tests import tiny, tiny_rerankers

PAIRS = [(one, two) for one in tiny.CORPUS[:3] for two in tiny.CORPUS[2:6]]


def exported(model: Path, out: Path, **options: Any) -> Reranker:
    export(model, out, variants=("fp32",), num_threads=1, **options)
    return Reranker(out, num_threads=1)


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the built-in pairs, what takes no time."""
    monkeypatch.setattr(score_export, "builtin_pairs", lambda: (*PAIRS, ("", ""), ("fox", "dog " * 100)))


@pytest.mark.filterwarnings("ignore::embedrt.TruncationWarning")
@pytest.mark.parametrize("family", tiny_rerankers.CLASSES)
def test_every_family_gives_the_scores_of_sentence_transformers(tmp_path: Path, family: str) -> None:
    model = tiny_rerankers.save_classifier(tmp_path / "model", family)
    with exported(model, tmp_path / "bundle") as reranker:
        peer = CrossEncoder(str(model), device="cpu", max_length=reranker.max_tokens)
        identity = {"activation_fn": torch.nn.Identity()}
        np.testing.assert_allclose(
            reranker.predict(PAIRS, **identity), peer.predict(PAIRS, **identity), rtol=0, atol=1e-4
        )
        types = family in ("bert", "albert", "electra")
        assert reranker.bundle.manifest.scores.has_types == types  # type: ignore[union-attr]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_modernberts_pooling_is_its_configs(tmp_path: Path, pooling: str) -> None:
    model = tiny_rerankers.save_classifier(tmp_path / "model", "modernbert", classifier_pooling=pooling)
    with exported(model, tmp_path / "bundle") as reranker:
        assert open_bundle(tmp_path / "bundle").manifest.scores.pooling == (pooling,)  # type: ignore[union-attr]
        peer = CrossEncoder(str(model), device="cpu", max_length=reranker.max_tokens)
        np.testing.assert_allclose(reranker.predict(PAIRS), peer.predict(PAIRS), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({}, "sigmoid"),
        ({"num_labels": 2}, "identity"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "identity"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "identity"),
    ],
    ids=["one label", "several", "version 4", "before"],
)
def test_the_activation_is_what_the_model_was_saved_with(
    tmp_path: Path, config: dict[str, Any], activation: str
) -> None:
    model = tiny_rerankers.save_classifier(tmp_path / "model", num_labels=config.pop("num_labels", 1))
    tiny.edit_json(model / "config.json", **config)
    assert load_scores(resolve(model)).activation == activation


def test_the_layout_of_version_6(tmp_path: Path) -> None:
    plain = tiny_rerankers.save_classifier(tmp_path / "plain")
    peer = CrossEncoder(str(plain), device="cpu", activation_fn=torch.nn.Identity(), max_length=40)
    peer.save_pretrained(str(tmp_path / "model"))
    with exported(tmp_path / "model", tmp_path / "bundle") as reranker:
        assert (reranker.activation, reranker.max_tokens) == ("identity", 40)
        np.testing.assert_allclose(reranker.predict(PAIRS), peer.predict(PAIRS), rtol=0, atol=1e-4)


def test_an_activation_of_the_models_own_is_refused(tmp_path: Path) -> None:
    model = tiny_rerankers.save_classifier(tmp_path / "model")
    tiny.edit_json(model / "config.json", sentence_transformers={"activation_fn": "my.code.Activation"})
    with pytest.raises(UnsupportedModelError, match=r"scores by the activation my\.code\.Activation are not supported"):
        export(model, tmp_path / "bundle")


def test_a_checkpoint_without_the_head_is_refused_and_so_is_one_with_more(tmp_path: Path) -> None:
    model = tiny_rerankers.save_classifier(tmp_path / "model")
    config = transformers.AutoConfig.from_pretrained(model)
    transformers.BertModel(config).save_pretrained(tmp_path / "bare")
    shutil.copy(tmp_path / "bare" / "model.safetensors", model / "model.safetensors")
    with pytest.raises(SourceError, match=r"lacks \d+ of the model's \d+ weights"):
        export(model, tmp_path / "bundle")
    other = tiny_rerankers.save_classifier(tmp_path / "other")
    tiny.edit_json(other / "config.json", num_hidden_layers=1)
    with pytest.raises(SourceError, match="has 16 weights for which the model has no place"):
        export(other, tmp_path / "bundle")


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    config = transformers.RemBertConfig(vocab_size=400, num_labels=1, input_embedding_size=64, **tiny._SHAPE)
    transformers.RemBertForSequenceClassification(config).save_pretrained(tmp_path / "model")
    tiny._bert_tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(UnsupportedModelError, match="scores of the architecture 'rembert' are not supported yet"):
        export(tmp_path / "model", tmp_path / "bundle")


def test_scores_that_miss_a_gate_are_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = parity._logits
    monkeypatch.setattr(parity, "_logits", lambda *given: found(*given) + np.float32(1e-3))
    model = tiny_rerankers.save_classifier(tmp_path / "model")
    with pytest.raises(ParityError, match=r"the scores miss a parity gate.*fp32, scores: max_abs_diff is 0\.001"):
        export(model, tmp_path / "bundle", variants=("fp32",))
    assert not (tmp_path / "bundle").exists()


def test_qwen3_reranker_is_its_cards_formula(tmp_path: Path) -> None:
    """The code of https://huggingface.co/Qwen/Qwen3-Reranker-0.6B, but for names."""
    model = tiny_rerankers.save_answerer(tmp_path / "Qwen3-Reranker-tiny")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model, padding_side="left")
    peer = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
    before, _, _ = QWEN3_TEMPLATE.text.partition("<Instruct>")
    task = "Given a web search query, retrieve relevant passages that answer the query"
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    prefix = tokenizer.encode(before, add_special_tokens=False)
    suffix = tokenizer.encode(QWEN3_TEMPLATE.after, add_special_tokens=False)
    wanted = []
    for query, document in PAIRS:
        text = f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {document}"
        room = 512 - len(prefix) - len(suffix)
        ids = tokenizer([text], truncation="longest_first", max_length=room)["input_ids"][0]
        with torch.no_grad():
            logits = peer(input_ids=torch.tensor([prefix + ids + suffix])).logits[0, -1, [no, yes]]
        wanted.append(float(torch.nn.functional.log_softmax(logits, dim=0)[1].exp()))
    with exported(model, tmp_path / "bundle", name="Qwen3-Reranker-tiny") as reranker:
        np.testing.assert_allclose(reranker.predict(PAIRS), wanted, rtol=0, atol=1e-4)
        assert np.abs(reranker.predict(PAIRS, prompt="Find foxes") - wanted).max() > 1e-3


_CHAT = """\
{%- set ns = namespace(i='Find it') -%}
{%- for m in messages if m.role == 'system' -%}{%- set ns.i = m.content -%}{%- endfor -%}
{%- set query = messages | selectattr('role', 'eq', 'query') | first -%}
{%- set document = messages | selectattr('role', 'eq', 'document') | first -%}
<|im_start|>judge
<Instruct>: {{ ns.i }}
<Query>: {{ query.content }}
<Document>: {{ document.content }}<|im_end|>
answer"""


def test_a_chat_template_of_query_and_document(tmp_path: Path) -> None:
    model = tiny_rerankers.save_answerer(tmp_path / "plain", _CHAT)
    encoder = Transformer(str(model), transformer_task="text-generation")
    yes, no = (encoder.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    CrossEncoder(modules=[encoder, LogitScore(yes, no)], device="cpu").save_pretrained(str(tmp_path / "model"))
    peer = CrossEncoder(str(tmp_path / "model"), device="cpu")
    with exported(tmp_path / "model", tmp_path / "bundle") as reranker:
        template = reranker.bundle.manifest.scores.template  # type: ignore[union-attr]
        assert template is not None
        assert (template.instruction, template.after) == ("Find it", "<|im_end|>\nanswer")
        np.testing.assert_allclose(reranker.predict(PAIRS), peer.predict(PAIRS), rtol=0, atol=1e-4)
        told = {"prompt": "Find foxes"}
        np.testing.assert_allclose(reranker.predict(PAIRS, **told), peer.predict(PAIRS, **told), rtol=0, atol=1e-4)


def test_an_answerer_whose_files_do_not_say_how_it_reads_pairs_is_refused(tmp_path: Path) -> None:
    model = tiny_rerankers.save_answerer(tmp_path / "some-reranker")
    with pytest.raises(UnsupportedModelError, match="its files do not say how it reads a pair"):
        export(model, tmp_path / "bundle")
