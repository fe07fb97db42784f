"""LoRA adapters: merged into their base at export, against the formula, and against peft where that is installed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from embedrt import Embedder, SourceError, UnsupportedModelError
from embedrt_export.lora import apply, read_adapter
from embedrt_export.reference import load_reference
from embedrt_export.source import put_adapter, resolve, sha256_of_weights
from tests import tiny
from tests.export.exporting import export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
TEXTS = ["fox", "the lazy dog jumps over", "quick brown"]
RANK = 4
PRODUCTS = {  # module -> K, N
    "encoder.layer.0.attention.self.query": (64, 64),
    "encoder.layer.1.attention.self.value": (64, 64),
    "encoder.layer.1.output.dense": (128, 64),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_pipeline(tmp_path_factory.mktemp("base"), prompts={"query": "fox: "})


def factors(rank: int = RANK, seed: int = 0) -> dict[str, torch.Tensor]:
    """Seeded factors of `PRODUCTS` and of the token table, as peft names them, large enough to move every vector."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for module, (given, made) in PRODUCTS.items():
        out[f"base_model.model.{module}.lora_A.weight"] = torch.randn(rank, given, generator=generator) * 0.2
        out[f"base_model.model.{module}.lora_B.weight"] = torch.randn(made, rank, generator=generator) * 0.2
    words = "base_model.model.embeddings.word_embeddings"
    out[f"{words}.lora_embedding_A"] = torch.randn(rank, 400, generator=generator) * 0.3
    out[f"{words}.lora_embedding_B"] = torch.randn(64, rank, generator=generator) * 0.3
    return out


def save_adapter(folder: Path, base: Path | str, tensors: dict[str, torch.Tensor], **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA", "base_model_name_or_path": str(base), "r": RANK, "lora_alpha": 8, "lora_dropout": 0.1,
        "target_modules": ["query", "value", "dense", "word_embeddings"], "inference_mode": True, "bias": "none",
        **settings,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def merged(base: Path, folder: Path, tensors: dict[str, torch.Tensor], scale: Callable[[str], float]) -> Path:
    """The base with the factors in its checkpoint, by the formula."""
    shutil.copytree(base, folder)
    state = load_file(folder / "model.safetensors")
    for name, down in tensors.items():
        module = name.removeprefix("base_model.model.").partition(".lora_")[0]
        if name.endswith("lora_A.weight"):
            state[f"{module}.weight"] += scale(module) * tensors[name.replace("lora_A", "lora_B")] @ down
        elif name.endswith("lora_embedding_A"):
            state[f"{module}.weight"] += scale(module) * (tensors[name.replace("_A", "_B")] @ down).T
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, lambda _: 2.0),
        ({"use_rslora": True}, lambda _: 8 / math.sqrt(RANK)),
        ({"alpha_pattern": {"query": 3, r"encoder\.layer\.1\..*dense": 5}},
         lambda module: {"query": 0.75, "dense": 1.25}.get(module.rpartition(".")[2], 2.0)),
    ],
)  # fmt: skip
def test_an_adapter_is_merged_and_its_reference_is_not(
    tmp_path: Path, base: Path, settings: dict[str, Any], scale: Callable[[str], float]
) -> None:
    tensors = factors()
    adapter = save_adapter(tmp_path / "tuned-v1", base, tensors, **settings)
    source = put_adapter(resolve(base), adapter)
    reference = load_reference(source)
    plain = load_reference(resolve(merged(base, tmp_path / "merged", tensors, scale)))
    unmerged = reference.encode(TEXTS)
    np.testing.assert_allclose(unmerged, plain.encode(TEXTS), atol=2e-6)
    assert np.abs(unmerged - load_reference(resolve(base)).encode(TEXTS)).max() > 0.05
    reference.merge()
    np.testing.assert_allclose(reference.encode(TEXTS), unmerged, atol=2e-6)
    state, expected = (one.model[0].model.state_dict() for one in (reference, plain))
    assert all(torch.allclose(state[name], expected[name], atol=1e-6) for name in expected)


def test_adapters_of_one_base_become_bundles_of_their_own(tmp_path: Path, base: Path) -> None:
    """By the base's name with --adapter, by the adapter's alone, and with the pipeline that is saved around one."""
    first = save_adapter(tmp_path / "first-v1", base, factors(seed=1))
    second = save_adapter(tmp_path / "second-v1", base, factors(seed=2))
    export(base, tmp_path / "a", adapter=first, variants=["fp32", "int8"])
    export(second, tmp_path / "b")
    for name in ("modules.json", "1_Pooling", "2_Normalize", "config_sentence_transformers.json"):
        copy = shutil.copytree if (base / name).is_dir() else shutil.copy
        copy(base / name, second / name)
    for name in ("tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json"):
        shutil.copy(base / name, second / name)
    tiny.edit_json(second / "1_Pooling" / "config.json", pooling_mode="cls")
    export(second, tmp_path / "c")
    opened = [Embedder(tmp_path / name, variant="fp32") for name in "abc"]
    manifests = [one.bundle.manifest for one in opened]
    assert [one.name for one in manifests] == ["first-v1", "second-v1", "second-v1"]
    assert len({one.source.sha256 for one in manifests}) >= 2
    assert all(one.prompts.texts["query"] == "fox: " for one in manifests)
    assert all(any("LoRA adapter" in note and "4 products merged" in note for note in one.notes) for one in manifests)
    assert [one.pipeline.pooling for one in manifests] == [("mean",), ("mean",), ("cls",)]
    vectors = [one.encode(TEXTS) for one in opened]
    for one in opened:
        one.close()
    expected = load_reference(put_adapter(resolve(base), first)).encode(TEXTS)
    np.testing.assert_allclose(vectors[0], expected, atol=2e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.05
    assert np.abs(vectors[1] - vectors[2]).max() > 0.05


def test_weights_that_were_trained_whole_take_the_bases_place(tmp_path: Path, base: Path) -> None:
    """peft's modules_to_save and bias="lora_only"; heads are left out."""
    saved = {
        "base_model.model.encoder.layer.0.attention.self.query.base_layer.bias": torch.full((64,), 0.5),
        "base_model.model.encoder.layer.1.output.LayerNorm.weight": torch.full((64,), 1.5),
        "base_model.model.pooler.dense.weight": torch.ones(64, 64),
        "base_model.model.classifier.weight": torch.ones(2, 64),
    }
    adapter = save_adapter(tmp_path / "a", base, {**factors(), **saved})
    encoder = load_reference(put_adapter(resolve(base), adapter)).model[0].model
    layers = encoder.encoder.layer
    assert float(layers[0].attention.self.query.bias[3]) == 0.5
    assert float(layers[1].output.LayerNorm.weight[3]) == 1.5


def test_what_peft_computes(tmp_path: Path, base: Path) -> None:
    peft = pytest.importorskip("peft")
    import transformers

    adapter = save_adapter(
        tmp_path / "a", base, factors(), use_rslora=True, alpha_pattern={r"encoder\.layer\.1\..*dense": 5}
    )
    model = peft.PeftModel.from_pretrained(transformers.BertModel.from_pretrained(base), adapter).eval()
    mine = load_reference(resolve(base)).model[0].model
    applied, _ = apply(read_adapter(adapter), mine)
    ids = torch.tensor([[2, 9, 30, 77, 3]])
    with torch.no_grad():
        expected = model(input_ids=ids).last_hidden_state
        np.testing.assert_allclose(mine(input_ids=ids).last_hidden_state, expected, atol=1e-5)
        applied.merge()
        np.testing.assert_allclose(mine(input_ids=ids).last_hidden_state, expected, atol=1e-5)


def test_its_files_are_part_of_what_the_weights_are(tmp_path: Path, base: Path) -> None:
    sums = {
        sha256_of_weights(put_adapter(resolve(base), save_adapter(tmp_path / "a", base, factors(), lora_alpha=alpha)))
        for alpha in (8, 9)
    }
    assert len({*sums, sha256_of_weights(resolve(base))}) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "LoRA with use_dora True is not supported"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4' is not supported"),
        ({"peft_type": "IA3"}, "is a IA3 adapter; only LORA's"),
        ({"setting_of_tomorrow": 3}, "the effect of setting_of_tomorrow 3 is not known"),
    ],
)
def test_other_formulas_are_refused_by_name(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        read_adapter(save_adapter(tmp_path / "a", "base", factors(), **settings))


def test_what_does_not_fit_the_base_is_refused(tmp_path: Path, base: Path) -> None:
    missing = {"base_model.model.encoder.layer.9.output.dense.lora_A.weight": torch.ones(RANK, 64)}
    wide = {"base_model.model.encoder.layer.0.attention.self.query.lora_B.weight": torch.ones(65, RANK)}
    half = {"base_model.model.encoder.layer.0.attention.self.key.lora_B.weight": torch.ones(64, RANK)}
    whole = {"base_model.model.embeddings.word_embeddings.weight": torch.ones(500, 64)}
    for tensors, message in (
        (missing, "no place for base_model.model.encoder.layer.9"),
        (wide, "no place for encoder.layer.0.attention.self.query"),
        (half, "both factors"),
        (whole, "vocabulary was resized"),
    ):
        adapter = save_adapter(tmp_path / "a", base, {**factors(), **tensors})
        with pytest.raises(SourceError, match=message):
            load_reference(put_adapter(resolve(base), adapter))


def test_a_base_that_is_gone_is_told_with_the_cure(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "tuned", "/training/machine/base", factors())
    with pytest.raises(SourceError, match=r"adapter of '/training/machine/base', which cannot .* --adapter .*tuned"):
        resolve(adapter)
    tiny.edit_json(adapter / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(SourceError, match="does not name its base"):
        resolve(adapter)
    (adapter / "adapter_model.safetensors").write_bytes(b"abc")
    with pytest.raises(SourceError, match="truncated or damaged"):
        apply(read_adapter(adapter), torch.nn.Module())
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(SourceError, match="has no weights"):
        read_adapter(adapter)
