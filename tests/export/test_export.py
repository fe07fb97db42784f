"""Export end to end on tiny seeded models: every pipeline, every refusal, nothing half-written."""

from __future__ import annotations

import errno
import fcntl
import functools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from embedrt import (
    Embedder,
    ExportError,
    OptionError,
    ParityError,
    SourceError,
    UnsupportedModelError,
    open_bundle,
)
from embedrt.cli.export import INT8_RECIPES
from embedrt.parity.report import ParityReport
from embedrt_export import encoder_graph
from embedrt_export import export as export_on_all_cores
from embedrt_export.emit.encoder import emit_encoder
from embedrt_export.int8 import RECIPES
from embedrt_export.reference import load_reference
from embedrt_export.source import resolve
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

# One thread: these models are tiny, and tests run beside each other.
VARIANTS_MODULE = sys.modules["embedrt_export.variants"]
export = functools.partial(export_on_all_cores, num_threads=1)
TEXTS = ["fox", "the lazy dog jumps over", "서울은 수도이다", "", "quick " * 60]


def assert_equals_reference(bundle: Path, model: Path, **options: Any) -> None:
    reference = load_reference(resolve(model), **options)
    with Embedder(bundle, variant="fp32") as embedder:
        got = embedder.encode_detailed(TEXTS).embeddings
    np.testing.assert_allclose(got, reference.encode(TEXTS), atol=1e-5)


def assert_proven_on_what_users_get(bundle: Path) -> None:
    report = ParityReport.from_json((bundle / "parity" / "report.json").read_text())
    with Embedder(bundle, variant="int8") as embedder:
        natively = ["int8, native"] if embedder.executor == "native" else []
    assert [variant.title for variant in report.variants] == ["fp32", "fp16", "int8", *natively]
    assert all(variant.executor.startswith("onnxruntime") for variant in report.variants[:3])
    assert open_bundle(bundle).variant("int8").parity == report.variants[2].summary()  # the same on every machine


def _count_norms(graph: Path) -> int:
    """Fused norms in a graph."""
    nodes = onnx.load(graph, load_external_data=False).graph.node
    return sum(node.op_type == "SkipLayerNormalization" for node in nodes)


@pytest.mark.parametrize("family", ["bert", "xlmr", "distilbert"])
def test_known_families_come_out_fused_and_equal(make_bundle: Callable[..., Path], family: str) -> None:
    bundle = make_bundle(family)
    fused = open_bundle(bundle).variant("fp32").fused
    assert (fused["Attention"], fused["BiasGelu"], fused["SkipLayerNormalization"]) == (2, 2, 4)
    assert _count_norms(bundle / "fp32" / "model_cuda.onnx") == 4
    assert _count_norms(bundle / "fp32" / "model.onnx") == 0
    assert open_bundle(bundle).variant("fp32").recipe["on_cpu"] == {
        "SkipLayerNormalization": "Add, Add, LayerNormalization"
    }
    assert_equals_reference(bundle, bundle.parent / "model")


@pytest.mark.parametrize(("family", "layers"), [("modernbert", 3), pytest.param("qwen3", 2, marks=pytest.mark.slow)])
def test_families_that_are_data_are_emitted_in_every_variant_and_say_so(
    make_bundle: Callable[..., Path], family: str, layers: int
) -> None:
    bundle = make_bundle(family, variants=("fp32", "fp16", "int8"))
    manifest = open_bundle(bundle).manifest
    note = next(note for note in manifest.notes if "emitted from the config and the weights" in note)
    assert note in ParityReport.from_json((bundle / "parity" / "report.json").read_text()).notes()
    assert manifest.variants["fp32"].fused["MultiHeadAttention"] == layers
    assert manifest.format_version == 4
    assert manifest.encoder is not None
    assert len(manifest.encoder.blocks) == layers
    products = {f"layers.{i}.{p}" for i in range(layers) for p in ("qkv", "attention_output", "ffn_up", "ffn_down")}
    assert set(manifest.variants["int8"].recipe["local_error"]) == products | {"embeddings.word"}
    assert_proven_on_what_users_get(bundle)
    assert_equals_reference(bundle, bundle.parent / "model")


def test_token_types_are_fed_where_the_graph_has_them(make_bundle: Callable[..., Path]) -> None:
    """BERT adds the first row of its token types to every token; XLM-R's graph and DistilBERT's have no such input."""
    inputs = {family: open_bundle(make_bundle(family)).variant("fp32").inputs for family in ("bert", "distilbert")}
    assert inputs["bert"] == ("input_ids", "attention_mask", "token_type_ids")
    assert inputs["distilbert"] == ("input_ids", "attention_mask")
    bundle = make_bundle("bert")
    assert_equals_reference(bundle, bundle.parent / "model")
    assert open_bundle(bundle).manifest.architecture.type_vocab_size == 2


# LaBSE: CLS, Dense with Tanh, Normalize. multilingual-mpnet: XLM-R, mean, no Normalize. distiluse: mean, Dense.
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("bert", {"pooling": "cls", "dense": (64,)}),
        ("xlmr", {"pooling": "mean", "normalize": False}),
        ("distilbert", {"pooling": "mean", "dense": (32, 16)}),
        ("bert", {"pooling": "max"}),
        ("bert", {"pooling": "mean_sqrt_len_tokens", "normalize": False}),
        ("bert", {"pooling": "weightedmean"}),
        ("bert", {"pooling": "lasttoken"}),
        ("bert", {"pooling": ("cls", "max", "mean")}),
        ("bert", {"prompts": {"query": "q: ", "all": "fox "}, "default_prompt_name": "all"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_whole_pipelines_equal_sentence_transformers(
    make_bundle: Callable[..., Path], family: str, options: dict[str, Any]
) -> None:
    bundle = make_bundle(family, **options)
    model = bundle.parent / "model"
    reference = load_reference(resolve(model))
    with Embedder(bundle, variant="fp32") as embedder:
        np.testing.assert_allclose(
            embedder.encode_detailed(TEXTS).embeddings, reference.model.encode(TEXTS, batch_size=2), atol=1e-5
        )


def test_old_and_new_class_paths_and_names_are_read(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m", "xlmr", pooling="cls")
    modules = json.loads((model / "modules.json").read_text())
    for module, kind in zip(modules, ("Transformer", "Pooling", "Normalize"), strict=True):
        module["type"] = f"sentence_transformers.models.{kind}"
    (model / "modules.json").write_text(json.dumps(modules))
    pooling = model / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"word_embedding_dimension": 64, "pooling_mode_cls_token": True,
                                   "pooling_mode_mean_tokens": False}))  # fmt: skip
    (model / "sentence_bert_config.json").unlink()
    (model / "sentence_xlm-roberta_config.json").write_text('{"max_seq_length": 32, "do_lower_case": true}')
    export(model, tmp_path / "b", variants=["fp32"])
    assert open_bundle(tmp_path / "b").manifest.max_tokens == 32
    assert open_bundle(tmp_path / "b").manifest.pipeline.pooling == ("cls",)
    assert_equals_reference(tmp_path / "b", model)
    with Embedder(tmp_path / "b") as embedder:
        np.testing.assert_array_equal(embedder.encode("FOX"), embedder.encode("fox"))


def test_unknown_modules_are_named_and_never_dropped(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    modules = json.loads((model / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.WordWeights"
    (model / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnsupportedModelError, match=r"sentence_transformers\.models\.WordWeights"):
        export(model, tmp_path / "b", variants=["fp32"])
    assert not (tmp_path / "b").exists()


def test_plain_models_need_a_pooling_or_a_family_that_documents_one(tmp_path: Path) -> None:
    plain = tiny.save_encoder(tmp_path / "plain", "xlmr")
    with pytest.raises(OptionError, match=r"--pooling cls, mean"):
        export(plain, tmp_path / "b", variants=["fp32"])
    export(plain, tmp_path / "b", variants=["fp32"], pooling="cls")
    assert open_bundle(tmp_path / "b").manifest.pipeline.stages == ()
    known = tiny.save_encoder(tmp_path / "multilingual-e5-small", "xlmr")
    export(known, tmp_path / "c", variants=["fp32"])
    manifest = open_bundle(tmp_path / "c").manifest
    assert manifest.pipeline.pooling == ("mean",)
    assert any("pooling mean assumed" in note and "huggingface.co" in note for note in manifest.notes)
    assert manifest.prompts.texts == {"query": "query: ", "passage": "passage: "}


def test_the_model_cards_recipe_and_the_cls_recipe_are_two_spaces(tmp_path: Path) -> None:
    """E5-instruct by its card (mean, an instruction on queries), and the CLS recipe with a prefix on every text."""
    model = tiny.save_pipeline(tmp_path / "m", "xlmr").rename(tmp_path / "multilingual-e5-large-instruct")
    export(model, tmp_path / "card", variants=["fp32"])
    prefix = tmp_path / "prefix.json"
    prefix.write_text(json.dumps({"prompts": {"all": "주어진 문장을 임베딩으로 변환: "}, "default_prompt_name": "all"}))
    export(model, tmp_path / "cls", variants=["fp32"], pooling="cls", prompts=str(prefix))
    with Embedder(tmp_path / "card") as card, Embedder(tmp_path / "cls") as cls:
        task = "Given a web search query, retrieve relevant passages that answer the query"
        np.testing.assert_array_equal(card.encode_query("fox"), card.encode(f"Instruct: {task}\nQuery: fox"))
        np.testing.assert_array_equal(card.encode_document("fox"), card.encode("fox"))
        np.testing.assert_array_equal(
            card.encode_query("fox", task="Find animals"), card.encode("Instruct: Find animals\nQuery: fox")
        )
        assert card.identity != cls.identity
        texts = ["서울은 수도이다", "The quick brown fox"]
        np.testing.assert_allclose(cls.encode(texts), _cls_by_hand(model, texts), atol=1e-5)


def test_int8_is_calibrated_as_the_model_will_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the default prompt, and measured at the first token where that is the pooling."""
    asked: list[tuple[list[list[int]], int | None]] = []
    original = VARIANTS_MODULE.to_int8

    def recording(graph: Any, calibration: list[list[int]], *, token: int | None, **rest: Any) -> Any:
        asked.append((calibration, token))
        return original(graph, calibration, token=token, **rest)

    monkeypatch.setattr(VARIANTS_MODULE, "to_int8", recording)
    for pooling, prompts in (("cls", {"all": "the lazy dog: "}), ("mean", {"other": "the lazy dog: "})):
        default = "all" if pooling == "cls" else None
        model = tiny.save_pipeline(tmp_path / pooling, pooling=pooling, prompts=prompts, default_prompt_name=default)
        export(model, tmp_path / f"{pooling}-bundle", variants=["int8"])
    with Embedder(tmp_path / "cls-bundle") as embedder:
        prefix = embedder.tokenize("the lazy dog: ")[0][:-1]
    (with_prompt, first), (without, every) = asked
    assert all(ids[: len(prefix)] == prefix for ids in with_prompt)
    assert not any(ids[: len(prefix)] == prefix for ids in without)
    assert (first, every) == (0, None)


def _cls_by_hand(model: Path, texts: list[str]) -> Any:
    """`last_hidden_state[:, 0]` of prefixed texts, L2-normalized, in plain transformers."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    batch = tokenizer(
        [f"주어진 문장을 임베딩으로 변환: {t}" for t in texts], padding=True, truncation=True, max_length=48,
        return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        return torch.nn.functional.normalize(encoder(**batch).last_hidden_state[:, 0], dim=1).numpy()


def test_an_existing_bundle_is_kept_unless_forced(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    source = make_bundle("bert")
    out = tmp_path / "b"
    shutil.copytree(source, out)
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(ExportError, match="exists already; --force replaces it"):
        export(source.parent / "model", out, variants=["fp32"])
    assert (out / "manifest.json").read_bytes() == before
    export(source.parent / "model", out, variants=["fp32"], pooling="cls", force=True)
    assert open_bundle(out).manifest.pipeline.pooling == ("cls",)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_what_a_killed_export_left_is_removed_by_the_next(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    for name in (".b.killed.tmp", ".b.running.tmp", ".other.killed.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.bin").write_bytes(b"half")
    running = os.open(tmp_path / ".b.running.tmp", os.O_RDONLY)
    fcntl.flock(running, fcntl.LOCK_SH)
    export(make_bundle("bert").parent / "model", tmp_path / "b", variants=["fp32"])
    os.close(running)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.running.tmp", ".other.killed.tmp", "b"]


def test_force_does_not_delete_what_is_no_bundle(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ExportError, match="is not a bundle"):
        export(make_bundle("bert").parent / "model", tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def _truncate(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (
        _truncate,
        r"model\.safetensors is truncated: it has \d+ bytes and should have \d+; download it again",
    ),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "holds no weights"),
    "no config": (lambda m: (m / "config.json").unlink(), r"config\.json is missing"),
    "broken json": (lambda m: (m / "modules.json").write_text("{"), r"modules\.json cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_models_are_one_clear_line(tmp_path: Path, damage: str) -> None:
    break_it, message = DAMAGES[damage]
    model = tiny.save_pipeline(tmp_path / "m")
    break_it(model)
    with pytest.raises(SourceError, match=message):
        export(model, tmp_path / "b", variants=["fp32"])
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_no_such_model_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SourceError, match="no such directory, and the hub cannot be reached"):
        export("nobody/nothing", tmp_path / "b")


def test_a_full_disk_leaves_nothing(
    make_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(VARIANTS_MODULE, "save_graph", full)
    with pytest.raises(ExportError, match=r"no space left for .*, free some or choose another disk"):
        export(make_bundle("bert").parent / "model", tmp_path / "b", variants=["fp32"])
    assert list(tmp_path.iterdir()) == []


def test_a_missed_gate_leaves_no_bundle(
    make_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = emit_encoder

    def damaged(*args: Any, **kwargs: Any) -> Any:
        graph = build(*args, **kwargs)
        for tensor in graph.model.graph.initializer:
            if tensor.dims == [64, 128]:
                values = np.frombuffer(tensor.raw_data, np.float32) * 1.05
                tensor.raw_data = values.astype(np.float32).tobytes()
        return graph

    monkeypatch.setattr(encoder_graph, "emit_encoder", damaged)
    with pytest.raises(ParityError, match=r"no bundle was written: fp32: smallest cosine"):
        export(make_bundle("bert").parent / "model", tmp_path / "b", variants=["fp32"])
    assert list(tmp_path.iterdir()) == []


def test_arguments_are_checked_before_work(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    with pytest.raises(OptionError, match="variants must be of fp32, fp16, int8, not 'int4'"):
        export(model, tmp_path / "b", variants=["int4"])
    with pytest.raises(OptionError, match="int8_recipe must be one of default, accurate, "):
        export(model, tmp_path / "b", int8_recipe="best")
    with pytest.raises(OptionError, match="--max-tokens must be between 3 and 64"):
        export(model, tmp_path / "b", max_tokens=1000)
    with pytest.raises(OptionError, match="--pooling must be of"):
        export(model, tmp_path / "b", pooling="median")
    (tmp_path / "p.json").write_text('{"query": 3}')
    with pytest.raises(OptionError, match="every prompt must be a string"):
        export(model, tmp_path / "b", prompts=tmp_path / "p.json")


def test_the_command_line_offers_every_int8_recipe(tmp_path: Path) -> None:
    assert tuple(RECIPES) == INT8_RECIPES
    export(tiny.save_pipeline(tmp_path / "m"), tmp_path / "b", variants=["int8"], int8_recipe="rounded")
    settings = open_bundle(tmp_path / "b").manifest.variants["int8"].recipe["settings"]
    assert settings["gptq"] is False


def test_a_smaller_limit_is_the_bundles(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    export(model, tmp_path / "b", variants=["fp32"], max_tokens=16)
    assert_equals_reference(tmp_path / "b", model, max_tokens=16)
