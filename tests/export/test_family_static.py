"""Static embeddings: directories of model2vec and sentence-transformers, and their bundles, against those packages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.version import Version
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, StaticEmbedding
from tokenizers import Tokenizer

from embedrt import Embedder, InputError, OptionError, SourceError, UnsupportedModelError
from embedrt.embedder import ExecutorName, Variant
from embedrt.errors import BundleFormatError
from embedrt.manifest_json import parse_manifest
from embedrt.opening import open_bundle
from embedrt.pooling import l2_normalize
from embedrt.text_rules import TableRules
from embedrt_export.families.static import read_static
from embedrt_export.reference import reference_vectors
from embedrt_export.requirements import installed_version
from embedrt_export.source import resolve
from embedrt_export.static_reference import MODEL2VEC, _by_formula
from tests import tiny
from tests.export.exporting import export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

EXECUTORS: tuple[ExecutorName, ...] = ("native", "onnxruntime")
TEXTS = [
    "fox",
    "",
    " ",
    "the quick brown fox ☂ jumps ☂",
    "☂",
    "☂ " * 600 + "fox",
    "How much protein? " * 300,
    "서울은 대한민국의 수도이다",
]
NOTHING = ["", " ", "☂", "☂ ☂ ☂"]  # to WordPiece, the last within 20 tokens
TOKENIZERS = {"wordpiece": tiny.wordpiece_json, "unigram": tiny.unigram_json}


def encode(folder: Path, texts: Sequence[str] = TEXTS) -> np.ndarray:
    """Vectors (N, H) by the formula, whichever library is installed."""
    return _by_formula(read_static(folder))(list(texts))


def vectors(count: int, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)


def model2vec() -> Any:
    """The library, which a reference is only from a certain version on."""
    version = installed_version("model2vec")
    if version is None or Version(version) < MODEL2VEC:
        pytest.skip(f"model2vec is {version or 'not installed'}; before {MODEL2VEC} it cuts and skips otherwise")
    return pytest.importorskip("model2vec")


def save_model2vec(folder: Path, kind: str, *, quantized: Any = None, **config: Any) -> Any:
    """A directory of model2vec's, read again; `quantized` has a mapping, weights and narrow numbers."""
    tokenizer = Tokenizer.from_str(TOKENIZERS[kind]())
    count = tokenizer.get_vocab_size()
    more: dict[str, Any] = {}
    table = vectors(count)
    if quantized is not None:
        rng = np.random.default_rng(1)
        more = {"token_mapping": rng.integers(0, 30, count), "weights": rng.uniform(0.1, 2, count).astype(np.float32)}
        table = (vectors(30) * (30 if quantized is np.int8 else 1)).astype(quantized)
    model2vec().StaticModel(table, tokenizer, **more, **config).save_pretrained(folder)
    model = model2vec().StaticModel.from_pretrained(folder)
    model.embedding = model.embedding.astype(np.float32)
    return model


CONFIGS: list[dict[str, Any]] = [
    {},
    {"normalize": True},
    {"max_length": 7},
    {"max_length": None},
    {"quantized": np.float16},
    {"quantized": np.int8, "normalize": True},
]


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_bundles_of_model2vecs_directories(tmp_path: Path, kind: str, config: dict[str, Any]) -> None:
    model = save_model2vec(tmp_path / "m", kind, **config)
    wanted = model.encode(TEXTS)
    np.testing.assert_allclose(encode(tmp_path / "m"), wanted, rtol=1e-5, atol=1e-6)
    export(tmp_path / "m", tmp_path / "b")
    for executor in EXECUTORS:
        with Embedder(tmp_path / "b", executor=executor) as embedder:
            np.testing.assert_allclose(embedder.encode(TEXTS), wanted, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose([embedder.encode(text) for text in TEXTS], wanted, rtol=1e-5, atol=1e-6)
            shorter = l2_normalize(wanted[:, :8]) if config.get("normalize") else wanted[:, :8]
            np.testing.assert_allclose(embedder.encode(TEXTS, truncate_dim=8), shorter, rtol=1e-5, atol=1e-6)
    with Embedder(tmp_path / "b", max_tokens=5) as embedder:  # from which characters are counted, too
        np.testing.assert_allclose(embedder.encode(TEXTS), model.encode(TEXTS, max_length=5), rtol=1e-5, atol=1e-6)


def test_a_lower_limit_is_the_references_too(tmp_path: Path) -> None:
    model = save_model2vec(tmp_path / "m", "wordpiece")
    export(tmp_path / "m", tmp_path / "b", max_tokens=9)
    with Embedder(tmp_path / "b") as embedder:
        np.testing.assert_allclose(embedder.encode(TEXTS), model.encode(TEXTS, max_length=9), rtol=1e-5, atol=1e-6)
    with pytest.raises(OptionError, match="at least 1 and at most 512 for this model, not 513"):
        export(tmp_path / "m", tmp_path / "c", max_tokens=513)


def save_static_embedding(folder: Path, kind: str, *behind: Any, **options: Any) -> SentenceTransformer:
    tokenizer = Tokenizer.from_str(TOKENIZERS[kind]())
    module = StaticEmbedding(tokenizer, embedding_weights=vectors(tokenizer.get_vocab_size()))
    model = SentenceTransformer(modules=[module, *behind], device="cpu", **options)
    model.save_pretrained(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("behind", [(), (Normalize(),), (Dense(16, 8), Normalize())], ids=["mean", "normal", "dense"])
def test_bundles_of_sentence_transformers_static_embeddings(tmp_path: Path, kind: str, behind: Any) -> None:
    model = save_static_embedding(tmp_path / "m", kind, *behind, prompts={"query": "find: "})
    report = export(tmp_path / "m", tmp_path / "b", variants=["fp32", "fp16"])
    executors = [one.executor.split()[0] for one in report.variants]
    assert executors == ["onnxruntime", "onnxruntime", "embedrt"]  # fp16 has no native one
    for executor in EXECUTORS:
        with Embedder(tmp_path / "b", variant="fp32", executor=executor) as embedder:
            np.testing.assert_allclose(embedder.encode(TEXTS), model.encode(TEXTS), rtol=1e-5, atol=1e-6)
            found = embedder.encode_query(TEXTS)
            np.testing.assert_allclose(found, model.encode_query(TEXTS), rtol=1e-5, atol=1e-6)


def test_the_tokenizers_own_cut_counts_for_sentence_transformers(tmp_path: Path) -> None:
    save_static_embedding(tmp_path / "m", "wordpiece")
    file = next((tmp_path / "m").rglob("tokenizer.json"))
    cut = {"direction": "Right", "max_length": 6, "strategy": "LongestFirst", "stride": 0}
    tiny.edit_json(file, truncation=cut)
    export(tmp_path / "m", tmp_path / "b")
    with Embedder(tmp_path / "b") as embedder:
        assert embedder.max_tokens == 6
        wanted = SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(TEXTS)
        np.testing.assert_allclose(embedder.encode(TEXTS), wanted, rtol=1e-5, atol=1e-6)
    tiny.edit_json(file, truncation={**cut, "direction": "Left"})
    with pytest.raises(UnsupportedModelError, match="cuts texts on the left"):
        read_static(tmp_path / "m")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved by hand, as model2vec does, in three variants."""
    root = tmp_path_factory.mktemp("static")
    tokenizer = Tokenizer.from_str(tiny.wordpiece_json())
    (root / "m").mkdir()
    tokenizer.save(str(root / "m" / "tokenizer.json"))
    save_file({"embeddings": vectors(tokenizer.get_vocab_size(), width=64)}, root / "m" / "model.safetensors")
    (root / "m" / "config.json").write_text('{"model_type": "model2vec", "max_length": 20, "normalize": true}')
    modules = [{"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}]
    (root / "m" / "modules.json").write_text(json.dumps(modules))
    export(root / "m", root / "b", variants=["fp32", "fp16", "int8"], int8_recipe="accurate")
    return root / "b"


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_texts_without_tokens_are_zero_and_others_the_formulas(bundle: Path, variant: Variant) -> None:
    wanted = encode(bundle.parent / "m")
    assert [text[:5] for text, row in zip(TEXTS, wanted, strict=True) if not row.any()] == NOTHING
    for executor in EXECUTORS if variant != "fp16" else ("onnxruntime",):
        with Embedder(bundle, variant=variant, executor=executor) as embedder:
            found = embedder.encode(TEXTS)
            np.testing.assert_allclose(found, wanted, atol={"fp32": 1e-6, "fp16": 1e-3, "int8": 1e-3}[variant])
            np.testing.assert_array_equal(found[~wanted.any(axis=1)], 0)
            for text, row in zip(TEXTS, found, strict=True):
                np.testing.assert_array_equal(embedder.encode(text), row)


def test_what_is_cut_is_said(bundle: Path) -> None:
    with Embedder(bundle) as embedder:
        done = embedder.encode_detailed(["fox", "fox " * 25, "q" * 500])
        assert [cut.index for cut in done.truncated] == [1, 2]
        with pytest.raises(InputError, match="has 21 or more tokens, the model takes 20"):
            embedder.encode("q" * 500, on_overflow="error")
        windows = embedder.encode("fox " * 25 + "dog " * 40, on_overflow="windows")
        assert np.isfinite(windows).all()
        with pytest.raises(OptionError, match="static embeddings read no context"):
            embedder.encode_windows(["fox " * 25], context="late")


def test_the_manifest_says_how_texts_are_read(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.format_version == 4
    assert manifest.encoder is not None
    assert not manifest.encoder.blocks
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    assert manifest.table == TableRules(tokenizer.get_vocab_size(), tokenizer.token_to_id("[UNK]"), 3)
    assert "compared with model2vec's formula" in str(manifest.notes) or "model2vec" in manifest.tools
    data = json.loads((bundle / "manifest.json").read_text())
    for change, says in (
        ({"table": None}, "table: goes with an encoder without blocks"),
        ({"table": {**data["table"], "empty": 5000}}, r"table\.empty: must be one of"),
        ({"table": {**data["table"], "characters_per_token": 0}}, r"table\.characters_per_token"),
        ({"encoder": {**data["encoder"], "final_norm": {"kind": "rms", "epsilon": 0.1}}}, r"encoder\.blocks"),
        ({"format_version": 3}, "format_version: must be 4"),
    ):
        with pytest.raises(BundleFormatError, match=says):
            parse_manifest(json.dumps(data | change))


def test_options_of_encoders_are_refused(bundle: Path, tmp_path: Path) -> None:
    model = bundle.parent / "m"
    with pytest.raises(OptionError, match="whose pooling is the mean"):
        export(model, tmp_path / "b", pooling="cls")
    with pytest.raises(UnsupportedModelError, match="tokens of static embeddings cannot be left out"):
        export(model, tmp_path / "b", keep_languages=["en"])
    with pytest.raises(UnsupportedModelError, match="which no adapter can be put on"):
        export(model, tmp_path / "b", adapter=tmp_path)


def test_vectors_of_other_texts_are_compared_too(bundle: Path) -> None:
    np.testing.assert_array_equal(reference_vectors(bundle.parent / "m", TEXTS), encode(bundle.parent / "m"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tokenizer = Tokenizer.from_str(tiny.wordpiece_json())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    save_file({"embeddings": vectors(tokenizer.get_vocab_size())}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.clear(), "has no table of token vectors"),
        (lambda t: t.update(dense=np.ones(3, np.float32)), r"has more than a table of token vectors: \['dense'\]"),
        (lambda t: t.update(embeddings=t["embeddings"][:9]), r"its table has 9 entries and the tokenizer \d+ tokens"),
        (lambda t: t.update(weights=np.ones(3, np.float32)), "its weights has 3 entries"),
        (lambda t: t.update(mapping=np.full(len(t["embeddings"]), 5000)), "its mapping names rows that the table"),
    ],
)
def test_damaged_tables_are_refused(saved: Path, change: Any, message: str) -> None:
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(SourceError, match=message):
        read_static(saved)


def test_missing_and_cut_files_are_refused(saved: Path) -> None:
    data = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(data[:-5])
    with pytest.raises(SourceError, match="truncated or damaged"):
        read_static(saved)
    (saved / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match="has no static embeddings"):
        read_static(saved)


def test_modules_that_are_not_known_are_refused(tmp_path: Path) -> None:
    save_static_embedding(tmp_path / "m", "wordpiece")
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    for kind in ("WeightedLayerPooling", "Transformer"):
        more = {"idx": 1, "name": "1", "path": "1", "type": f"sentence_transformers.models.{kind}"}
        (tmp_path / "m" / "modules.json").write_text(json.dumps([*modules, more]))
        with pytest.raises(UnsupportedModelError, match=f"names .*{kind}, which a bundle of static embeddings cannot"):
            resolve(tmp_path / "m")
