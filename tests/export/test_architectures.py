"""Architectures and settings that cannot be exported yet are found in config.json, and refused by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version

from embedrt import Embedder, ExportError, UnsupportedModelError
from embedrt_export.architectures import (
    ARCHITECTURES,
    FUSED_ACTIVATIONS,
    check_architecture,
    check_settings,
    check_variants,
    unknown_settings,
)
from embedrt_export.emit import fused
from embedrt_export.families.settings import ACTIVATIONS
from embedrt_export.reference import load_reference
from embedrt_export.source import resolve
from embedrt_export.tracing import trace, trace_encoder
from tests import tiny
from tests.export.encoders import make_encoder, run, run_pytorch
from tests.export.exporting import export
from tests.sessions import open_session

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
EXPORT_MODULE = sys.modules["embedrt_export.export"]

_BERT: dict[str, Any] = {**tiny._SHAPE, "vocab_size": 400, "max_position_embeddings": 66, "pad_token_id": 0}
_NARROW = {**_BERT, "embedding_size": 32}
_GEMMA = {**_BERT, "num_key_value_heads": 1, "head_dim": 32, "sliding_window": 8}
_SHORT = {"vocab_size": 400, "hidden_size": 64, "n_layer": 2, "n_head": 2}
_DISENTANGLED = {**_BERT, "relative_attention": True, "pos_att_type": "c2p|p2c", "position_biased_input": False}
# model_type -> class, config; all that tests.tiny has no family for
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("Albert", _NARROW),
    "big_bird": ("BigBird", {**_BERT, "attention_type": "original_full"}),
    "bloom": ("Bloom", _SHORT),
    "camembert": ("Camembert", _BERT),
    "data2vec-text": ("Data2VecText", _BERT),
    "deberta": ("Deberta", _DISENTANGLED),
    "deberta-v2": ("DebertaV2", {**_DISENTANGLED, "position_buckets": 16, "share_att_key": True}),
    "electra": ("Electra", _NARROW),
    "ernie": ("Ernie", _BERT),
    "esm": ("Esm", _BERT),
    "eurobert": ("EuroBert", {**_BERT, "num_key_value_heads": 2}),
    "gemma": ("Gemma", _GEMMA),
    "gemma2": ("Gemma2", _GEMMA),
    "gemma3_text": ("Gemma3Text", {**_GEMMA, "use_bidirectional_attention": True}),
    "gpt_neox": ("GPTNeoX", _BERT),
    "ibert": ("IBert", _BERT),
    "megatron-bert": ("MegatronBert", _BERT),
    "olmo2": ("Olmo2", {**_BERT, "num_key_value_heads": 1}),
    "phi3": ("Phi3", {**_BERT, "num_key_value_heads": 1}),
    "rembert": ("RemBert", {**_BERT, "input_embedding_size": 32}),
    "roberta": ("Roberta", {**_BERT, "pad_token_id": 1}),
    "roberta-prelayernorm": ("RobertaPreLayerNorm", {**_BERT, "pad_token_id": 1}),
    "roformer": ("RoFormer", _BERT),
    "smollm3": ("SmolLM3", {**_BERT, "num_key_value_heads": 1}),
    "splinter": ("Splinter", _BERT),
    "squeezebert": ("SqueezeBert", {**_BERT, "embedding_size": 64}),
    "xlm-roberta-xl": ("XLMRobertaXL", {**_BERT, "pad_token_id": 1}),
}


def _make(kind: str) -> Any:
    name, config = TINY[kind]
    if not hasattr(transformers, f"{name}Model"):
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**config))
    tiny.spread(model)
    return model.eval()


def _save(folder: Path, kind: str) -> Path:
    _make(kind).save_pretrained(folder)
    tiny._typeless_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", TINY)
def test_every_architecture_is_traced_for_all_lengths(tmp_path: Path, kind: str) -> None:
    """Texts alone by PyTorch, and padded by ONNX Runtime, shorter and longer than those that were traced."""
    if kind == "gemma2" and Version(transformers.__version__) < Version("4.53"):
        pytest.skip("before 4.53 PyTorch's own Gemma 2 fails at texts over its window")
    encoder = _make(kind)
    trace(encoder, tmp_path / "model.onnx")
    graph = open_session(str(tmp_path / "model.onnx"))
    for lengths in ([1], [40], [3, 17, 1]):
        texts = [np.random.default_rng(length).integers(5, 400, length).tolist() for length in lengths]
        for got, want in zip(run(graph, texts), run_pytorch(encoder, texts), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5 * float(abs(want).max()))


@pytest.mark.slow  # twenty exports; those of tests.tiny's families are made in the quick tests
@pytest.mark.parametrize("kind", TINY)
def test_every_architecture_that_is_said_to_work_works(tmp_path: Path, kind: str) -> None:
    model = _save(tmp_path / "m", kind)
    export(model, tmp_path / "b", pooling="mean", variants=ARCHITECTURES[kind].variants)
    texts = ["fox", "the lazy dog jumps over", "quick " * 60]
    with Embedder(tmp_path / "b", variant="fp32") as embedder:
        got = embedder.encode_detailed(texts).embeddings
    np.testing.assert_allclose(got, load_reference(resolve(model), pooling="mean").encode(texts), atol=2e-4)


def test_every_architecture_that_is_said_to_work_is_tried() -> None:
    families = {"bert", "xlm-roberta", "distilbert", "mpnet", "modernbert"}  # tests.tiny's, in test_export.py
    assert set(TINY) | families == set(ARCHITECTURES)


@pytest.mark.parametrize(
    "kind",
    ["longformer", "gpt2", "convbert", "mobilebert", "neobert", "None"],
)
def test_others_are_refused_by_name_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Before the weights, which are not even there, before anything is loaded, and never as a bug."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps({"model_type": kind}))
    monkeypatch.setattr(EXPORT_MODULE, "load_reference", None)
    with pytest.raises(UnsupportedModelError, match=f"architecture '{kind}' is not supported yet; supported are "):
        export(tmp_path / "m", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "bert", "position_embedding_type": "relative_key"},
            "'relative_key' is not supported yet",
        ),
        ({"model_type": "xlm-roberta", "is_decoder": True}, "is_decoder True is not supported yet, only False"),
        ({"model_type": "bert", "hidden_act": "mish"}, "hidden_act 'mish' is not supported yet, only gelu, gelu_fast"),
        ({"model_type": "distilbert", "activation": "silu"}, "activation 'silu' is not supported yet"),
        ({"model_type": "big_bird"}, "attention_type 'block_sparse' is not supported yet, only original_full"),
    ],
    ids=str,
)
def test_settings_that_the_graph_cannot_have(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        check_architecture("m", config)
    kind = config["model_type"]
    assert check_architecture("m", {"model_type": kind, **ARCHITECTURES[kind].defaults, "hidden_act": "relu"} |
                              ({"attention_type": "original_full"} if kind == "big_bird" else {}))  # fmt: skip


def test_a_variant_that_an_architecture_cannot_have(tmp_path: Path) -> None:
    check_variants("m", {"model_type": "bert"}, ["fp32", "int8"])
    with pytest.raises(UnsupportedModelError, match=r"int8 of the architecture 'deberta'.*--variants fp32$"):
        export(_save(tmp_path / "m", "deberta"), tmp_path / "b", variants=["fp32", "int8"], pooling="mean")


@pytest.mark.parametrize("error", [KeyError("position_ids"), IndexError("0"), RuntimeError("shape"), TypeError("mask")])
def test_whatever_tracing_raises_is_an_export_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("torch.onnx.export", broken)
    with pytest.raises(ExportError, match=rf"tracing the architecture 'bert' failed \({type(error).__name__}"):
        trace_encoder(make_encoder("bert"), tmp_path)


def test_every_activation_of_the_table_is_the_graphs() -> None:
    assert ARCHITECTURES["bert"].only["hidden_act"] == set(FUSED_ACTIVATIONS)
    assert {ACTIVATIONS[name] for name in FUSED_ACTIVATIONS} == set(fused.ACTIVATIONS)


KNOWN = {"hidden_size", "rope_theta", "layer_types"}


@pytest.mark.parametrize(
    ("config", "unknown"),
    [
        ({"transformers_version": "5.0.0", "hidden_size": 64, "dtype": "float16", "layer_types": []}, ()),
        ({"transformers_version": "5.0.0", "rope_parameters": {}, "window": 4}, ("rope_parameters", "window")),
        ({"transformers_version": "6.1.0.dev0", "window": 4}, ("window",)),
        ({"transformers_version": "4.99.0", "trainers_note": 1}, ()),
        ({"transformers_version": "4.57.0", "rope_parameters": {}}, ("rope_parameters",)),
        ({"rope_parameters": {}, "trainers_note": 1}, ("rope_parameters",)),
        ({"transformers_version": None, "trainers_note": 1}, ()),
    ],
    ids=str,
)
def test_what_a_newer_version_wrote_must_be_understood(config: dict[str, Any], unknown: tuple[str, ...]) -> None:
    assert unknown_settings(config, "4.57.6", KNOWN) == unknown


def test_a_config_of_a_newer_version_is_refused_where_it_says_what_the_installed_one_ignores(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m", "modernbert")
    tiny.edit_json(model / "config.json", transformers_version="99.0.0", rope_of_tomorrow={"theta": 500.0})
    message = (
        rf"written by transformers 99\.0\.0, and the installed {transformers.__version__} "
        "does not know its rope_of_tomorrow; without it .*: pip install --upgrade transformers sentence-transformers"
    )
    with pytest.raises(UnsupportedModelError, match=message):
        export(model, tmp_path / "b")


@pytest.mark.skipif(hasattr(transformers, "TokenizersBackend"), reason="transformers 5 reads what it writes")
def test_what_transformers_5_writes_is_refused_where_version_4_ignores_it(tmp_path: Path) -> None:
    """Without the check these two load with the frequencies of 10,000 and 160,000, and with 12 places for 2 layers."""
    model = tiny.save_pipeline(tmp_path / "m", "modernbert")
    theta = {"rope_type": "default", "rope_theta": 500.0}
    tiny.edit_json(
        model / "config.json",
        transformers_version="5.24.0", layer_types=["full_attention"] * 3,
        rope_parameters={"full_attention": theta, "sliding_attention": theta},
    )  # fmt: skip
    with pytest.raises(UnsupportedModelError, match="does not know its layer_types, rope_parameters; without them"):
        export(model, tmp_path / "b")
    model = tiny.save_pipeline(tmp_path / "n", "modernbert")
    tiny.edit_json(model / "tokenizer_config.json", tokenizer_class="TokenizersBackend")
    with pytest.raises(UnsupportedModelError, match=r"by transformers 5 \(TokenizersBackend\).*pip install --upg"):
        export(model, tmp_path / "b")


def test_a_config_of_transformers_5_that_is_understood_gives_the_same_vectors(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    before = load_reference(resolve(model)).encode(["fox"])
    # What version 5 writes for BERT beyond what version 4 does.
    tiny.edit_json(
        model / "config.json",
        transformers_version="5.24.0", dtype="float32", is_decoder=False, add_cross_attention=False,
        bos_token_id=None, eos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    np.testing.assert_array_equal(load_reference(resolve(model)).encode(["fox"]), before)


def test_the_installed_versions_own_configs_are_understood() -> None:
    """Each architecture's whole default config, as if a newer version had written it."""
    for kind in ARCHITECTURES:
        if kind in transformers.CONFIG_MAPPING:  # some are of later versions than the oldest that will do
            config = transformers.CONFIG_MAPPING[kind]().to_dict()
            check_settings(kind, {**config, "model_type": kind, "transformers_version": "99.0"})


def test_an_architecture_of_a_later_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.CONFIG_MAPPING", {"bert": transformers.BertConfig})
    check_settings("m", {"model_type": "bert"})
    with pytest.raises(UnsupportedModelError, match=r"'gemma3_text' is of a later version.*pip install --upgrade"):
        check_settings("m", {"model_type": "gemma3_text"})
