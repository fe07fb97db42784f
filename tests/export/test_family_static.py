"""Static embeddings read from directories that model2vec and sentence-transformers saved, against those packages."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, StaticEmbedding
from tokenizers import Tokenizer

from embedrt import SourceError, UnsupportedModelError
from embedrt_export.families.static import StaticTable, read_static
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

TEXTS = ["fox", "the quick brown fox ☂ jumps ☂", "☂", "How much protein? " * 300, "서울은 대한민국의 수도이다"]
TOKENIZERS = {"wordpiece": tiny.wordpiece_json, "unigram": tiny.unigram_json}


def encode(static: StaticTable, text: str) -> np.ndarray:
    """The vector (H,) that the table stands for."""
    tokenizer = Tokenizer.from_file(str(static.tokenizer))
    tokenizer.no_truncation()
    ids = np.array(
        tokenizer.encode(text[: static.max_characters], add_special_tokens=False).ids[: static.max_tokens], int
    )
    ids = ids[ids != static.skipped_id] if static.skipped_id is not None else ids
    if not len(ids):
        return np.zeros(static.vectors.shape[1], np.float32)
    each = static.vectors[ids if static.rows is None else static.rows[ids]]
    vector = (each if static.weights is None else each * static.weights[ids, None]).mean(axis=0)
    return vector / (np.linalg.norm(vector) + 1e-32) if static.normalize else vector


def vectors(count: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 16)).astype(dtype)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("config", [{}, {"normalize": True}, {"max_length": 7}, {"max_length": None}])
def test_model2vecs_directories(tmp_path: Path, kind: str, config: dict[str, Any]) -> None:
    model2vec = pytest.importorskip("model2vec")
    if "max_length" not in inspect.signature(model2vec.StaticModel).parameters and (
        kind == "unigram" or "max_length" in config
    ):
        pytest.skip("model2vec before 0.10 counts Unigram's unknown tokens, and has no max_length")
    tokenizer = Tokenizer.from_str(TOKENIZERS[kind]())
    model = model2vec.StaticModel(vectors(tokenizer.get_vocab_size()), tokenizer, **config)
    model.save_pretrained(tmp_path / "m")
    static = read_static(tmp_path / "m")
    saved = model2vec.StaticModel.from_pretrained(tmp_path / "m")
    for text in TEXTS:
        np.testing.assert_allclose(encode(static, text), saved.encode(text), rtol=1e-5, atol=1e-6, err_msg=text)


@pytest.mark.parametrize("dtype", [np.float16, np.int8])
def test_model2vecs_quantized_directories(tmp_path: Path, dtype: Any) -> None:
    """Fewer vectors than tokens, each token's own weight, and narrow numbers."""
    model2vec = pytest.importorskip("model2vec")
    tokenizer = Tokenizer.from_str(tiny.wordpiece_json())
    rng, count = np.random.default_rng(1), tokenizer.get_vocab_size()
    mapping, weights = rng.integers(0, 30, count), rng.uniform(0.1, 2, count).astype(np.float32)
    table = (vectors(30) * (30 if dtype is np.int8 else 1)).astype(dtype)
    model = model2vec.StaticModel(table, tokenizer, normalize=True, weights=weights, token_mapping=mapping)
    model.save_pretrained(tmp_path / "m")
    static = read_static(tmp_path / "m")
    for text in TEXTS:
        np.testing.assert_allclose(encode(static, text), model.encode(text), atol=2e-3 if dtype is np.float16 else 1e-6)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("normalize", [False, True])
def test_sentence_transformers_directories(tmp_path: Path, kind: str, normalize: bool) -> None:
    tokenizer = Tokenizer.from_str(TOKENIZERS[kind]())
    module = StaticEmbedding(tokenizer, embedding_weights=vectors(tokenizer.get_vocab_size()))
    model = SentenceTransformer(modules=[module, *([Normalize()] if normalize else [])], device="cpu")
    model.save_pretrained(str(tmp_path / "m"), create_model_card=False)
    static = read_static(tmp_path / "m")
    assert static.normalize is normalize
    for text in TEXTS:
        np.testing.assert_allclose(encode(static, text), model.encode(text), rtol=1e-5, atol=1e-6)


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


def test_more_than_a_normalization_behind_the_table_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(tiny.wordpiece_json())
    module = StaticEmbedding(tokenizer, embedding_weights=vectors(tokenizer.get_vocab_size()))
    model = SentenceTransformer(modules=[module, Dense(16, 8)], device="cpu")
    model.save_pretrained(str(tmp_path / "m"), create_model_card=False)
    with pytest.raises(UnsupportedModelError, match="Dense behind static embeddings"):
        read_static(tmp_path / "m")
