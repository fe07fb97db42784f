"""A checkpoint must be the encoder's, all of it, in every format that transformers loads."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from embedrt import Embedder, SourceError, open_bundle
from embedrt_export.checkpoint import Difference, check_complete, compare_names, find_checkpoint, tensor_names
from embedrt_export.reference import load_reference
from embedrt_export.source import resolve, sha256_of_weights
from tests import tiny
from tests.export.exporting import export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
Tensors = dict[str, torch.Tensor]
ENCODER = [{"embeddings.word.weight"}, {"layer.0.LayerNorm.weight"}, {"layer.0.LayerNorm.bias"}]
NAMES = {name for group in ENCODER for name in group}


def _halves(tensors: Tensors) -> list[Tensors]:
    names = sorted(tensors)
    return [{name: tensors[name] for name in names[k::2]} for k in (0, 1)]


def _save_shards(folder: Path, one: str, save: Callable[[Tensors, Path], object], tensors: Tensors) -> None:
    stem, _, end = one.partition(".")
    weight_map = {}
    for k, half in enumerate(_halves(tensors), 1):
        save(half, folder / f"{stem}-0000{k}-of-00002.{end}")
        weight_map |= dict.fromkeys(half, f"{stem}-0000{k}-of-00002.{end}")
    (folder / f"{one}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _save_safetensors(tensors: Tensors, file: Path) -> None:
    save_file(tensors, file, metadata={"format": "pt"})


def _save_legacy(tensors: Tensors, file: Path) -> None:
    torch.save(tensors, file, _use_new_zipfile_serialization=False)


FORMATS: dict[str, Callable[[Path, Tensors], object]] = {
    "safetensors": lambda folder, t: _save_safetensors(t, folder / "model.safetensors"),
    "safetensors in shards": lambda folder, t: _save_shards(folder, "model.safetensors", _save_safetensors, t),
    "pickle": lambda folder, t: torch.save(t, folder / "pytorch_model.bin"),
    "pickle of torch 1.5": lambda folder, t: _save_legacy(t, folder / "pytorch_model.bin"),
    "pickle in shards": lambda folder, t: _save_shards(folder, "pytorch_model.bin", torch.save, t),
}


@pytest.fixture(params=FORMATS)
def save(request: pytest.FixtureRequest) -> Callable[[Path, Tensors], object]:
    return FORMATS[request.param]


def _with_weights(
    folder: Path, save: Callable[[Path, Tensors], object], change: Callable[[Tensors], object] = lambda _: None
) -> Path:
    """A pipeline whose checkpoint is in another format, its tensors changed in place."""
    model = tiny.save_pipeline(folder)
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    change(tensors)
    save(model, tensors)
    return model


def _lose_a_query(tensors: Tensors) -> None:
    del tensors["encoder.layer.1.attention.self.query.weight"]


def _add_a_layer(tensors: Tensors) -> None:
    tensors |= {n.replace("layer.1.", "layer.2."): t.clone() for n, t in tensors.items() if "layer.1." in n}


def test_every_format_is_read_whole(tmp_path: Path, save: Callable[[Path, Tensors], object]) -> None:
    model = _with_weights(tmp_path / "m", save)
    original = tiny.save_pipeline(tmp_path / "original")
    np.testing.assert_array_equal(
        load_reference(resolve(model)).encode(["fox"]), load_reference(resolve(original)).encode(["fox"])
    )
    assert tensor_names(find_checkpoint(model)) == set(load_file(original / "model.safetensors"))


def test_a_checkpoint_that_lacks_a_weight_is_not_filled_with_random_ones(
    tmp_path: Path, save: Callable[[Path, Tensors], object]
) -> None:
    model = _with_weights(tmp_path / "m", save, _lose_a_query)
    with pytest.raises(SourceError, match=r"lacks 1 of the encoder's \d+ weights, the first is .*1.*query\.weight"):
        export(model, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_layers_that_the_config_has_no_place_for_are_not_dropped(
    tmp_path: Path, save: Callable[[Path, Tensors], object]
) -> None:
    model = _with_weights(tmp_path / "m", save, _add_a_layer)
    with pytest.raises(SourceError, match=r"has 16 weights for which config\.json has no place.*encoder\.layer\.2\."):
        export(model, tmp_path / "b")


def test_the_encoder_of_a_masked_language_model_is_the_encoder(tmp_path: Path) -> None:
    """Names have a prefix, the head is left over, the pooler is missing: none of it matters."""
    config = transformers.BertConfig(vocab_size=400, max_position_embeddings=64, **tiny._SHAPE)
    torch.manual_seed(1)
    whole = transformers.BertForMaskedLM(config).eval()
    tiny.spread(whole)
    whole.save_pretrained(tmp_path / "m")
    tokenizer = tiny._bert_tokenizer()
    tokenizer.save_pretrained(tmp_path / "m")
    export(tmp_path / "m", tmp_path / "b", pooling="mean")
    with torch.no_grad():
        hidden = whole.bert(**tokenizer("the quick fox", return_tensors="pt")).last_hidden_state[0]
    with Embedder(tmp_path / "b") as embedder:
        np.testing.assert_allclose(embedder.encode("the quick fox"), hidden.mean(0).numpy(), atol=1e-5)


def test_a_head_weight_that_is_lost_is_told_by_its_module(tmp_path: Path) -> None:
    """sentence-transformers' own modules check themselves; what they say arrives as one of our errors."""
    model = tiny.save_pipeline(tmp_path / "m", dense=(32,))
    dense = model / "2_Dense" / "model.safetensors"
    tensors = load_file(dense)
    del tensors["linear.bias"]
    save_file(tensors, dense, metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"linear\.bias"):
        export(model, tmp_path / "b")


def test_weights_that_are_not_read_are_no_part_of_the_identity(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m", dense=(32,))
    before = sha256_of_weights(resolve(model))
    (model / "pytorch_model.bin").write_bytes(b"another format's copy")
    (model / "checkpoint-500").mkdir()
    (model / "checkpoint-500" / "model.safetensors").write_bytes(b"a step of training")
    assert sha256_of_weights(resolve(model)) == before
    (model / "2_Dense" / "model.safetensors").write_bytes(b"another head")
    assert sha256_of_weights(resolve(model)) != before


class _Runs:
    def __reduce__(self) -> Any:
        return (print, ("a pickle ran code",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        ("pytorch_model.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        ("pytorch_model.bin", b"PK\x03\x04 cut", "truncated or damaged|cannot be read"),
        ("pytorch_model.bin", pickle.dumps({"weight": _Runs()}), "other Python objects than tensors"),
        ("tf_model.h5", b"", r"weights of another program only \(tf_model\.h5\)"),
        ("model-Q4.gguf", b"", r"weights of another program only \(model-Q4\.gguf\)"),
        ("pytorch_model.bin.index.json", b"{}", r"index\.json cannot be read"),
    ],
)
def test_weights_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, message: str
) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        export(model, tmp_path / "b")
    assert "ran code" not in capsys.readouterr().out


def test_names_are_compared_as_transformers_reads_them() -> None:
    head = {"cls.predictions.bias", "classifier.weight"}
    prefixed = {f"bert.{name}" for name in NAMES}
    old = {"embeddings.word.weight", "layer.0.LayerNorm.gamma", "layer.0.LayerNorm.beta"}
    buffers = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
    for stored in (NAMES, old, prefixed | head, NAMES | buffers, NAMES | {"lm_head.decoder.weight"}):
        assert compare_names(stored, ENCODER, "bert") == Difference((), ()), stored
    assert compare_names(NAMES | {"layer.1.weight"}, ENCODER, "bert").left_over == ("layer.1.weight",)
    assert compare_names(prefixed | {"bert.layer.1.weight"}, ENCODER, "bert").left_over == ("layer.1.weight",)
    assert compare_names(NAMES | {"projection.weight"}, ENCODER, "bert").left_over == ("projection.weight",)
    # transformers takes the names with the prefix and leaves the others, although they are an encoder's as well.
    assert compare_names(prefixed | {"embeddings.word.weight"}, ENCODER, "bert").left_over == (
        "embeddings.word.weight",
    )
    half = {"bert.embeddings.word.weight", "layer.0.LayerNorm.weight", "layer.0.LayerNorm.bias"}
    assert compare_names(half, ENCODER, "bert").missing == ("layer.0.LayerNorm.bias", "layer.0.LayerNorm.weight")


def test_one_name_of_a_tied_weight_is_enough_and_classes_name_more_to_ignore() -> None:
    tied = [{"shared.weight", "encoder.embed_tokens.weight"}]
    assert compare_names({"encoder.embed_tokens.weight"}, tied) == Difference((), ())
    assert compare_names(set(), tied).missing == ("encoder.embed_tokens.weight",)
    stored = {"shared.weight", "decoder.block.0.weight"}
    assert compare_names(stored, tied, "", ("^decoder",)) == Difference((), ())


def test_the_bundles_identity_is_its_weights_and_not_its_name(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    identities = set()
    for name in ("one", "two"):
        export(model, tmp_path / name, name=name)
        assert open_bundle(tmp_path / name).manifest.name == name
        with Embedder(tmp_path / name) as embedder:
            identities.add(embedder.identity)
    assert len(identities) == 1


@pytest.mark.skipif(not hasattr(transformers, "NomicBertModel"), reason="this transformers converts no checkpoints")
def test_checkpoints_that_transformers_converts_are_read_by_their_own_names(tmp_path: Path) -> None:
    """NomicBERT's have one weight for queries, keys and values, and other names than the class."""
    shape = {**tiny._SHAPE, "vocab_size": 400, "max_position_embeddings": 64}
    transformers.NomicBertModel(transformers.NomicBertConfig(**shape)).save_pretrained(tmp_path)
    encoder = transformers.NomicBertModel.from_pretrained(tmp_path)
    stored = tensor_names(find_checkpoint(tmp_path))
    assert "encoder.layers.0.attn.Wqkv.weight" in stored
    check_complete("m", encoder, stored)
    with pytest.raises(SourceError, match="lacks 1 of"):
        check_complete("m", encoder, stored - {"encoder.layers.0.attn.Wqkv.weight"})
