"""What is made for sentence-transformers takes an Embedder unchanged, and comes to the same."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, util
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    MSEEvaluator,
    ParaphraseMiningEvaluator,
    RerankingEvaluator,
    TranslationEvaluator,
    TripletEvaluator,
)

from embedrt import Embedder
from tests.tiny import CORPUS

TEXTS = [*CORPUS, "The quick brown fox", "How much protein?", "서울은 오늘 날씨가 좋다.", "ein Test"]


@pytest.fixture
def reference(tiny_bundle: Path) -> Iterator[Any]:
    """The model that the bundle was made of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch and transformers warn about themselves
        yield SentenceTransformer(str(tiny_bundle.parent / "model"), device="cpu")


EVALUATORS: dict[str, Any] = {
    "similarity": lambda: EmbeddingSimilarityEvaluator(TEXTS[:6], TEXTS[6:], np.linspace(0, 1, 6).tolist()),
    "similarity, precision": lambda: EmbeddingSimilarityEvaluator(
        TEXTS[:6], TEXTS[6:], np.linspace(0, 1, 6).tolist(), precision="float32", truncate_dim=32
    ),
    "retrieval": lambda: InformationRetrievalEvaluator(
        {"q1": TEXTS[8], "q2": TEXTS[9]}, dict(enumerate(CORPUS)), {"q1": {0}, "q2": {1}}, ndcg_at_k=[3]
    ),
    "reranking": lambda: RerankingEvaluator(
        [{"query": TEXTS[8], "positive": [CORPUS[0]], "negative": list(CORPUS[1:])}], show_progress_bar=False
    ),
    "paraphrases": lambda: ParaphraseMiningEvaluator(dict(enumerate(TEXTS)), [(0, 8), (1, 9), (2, 10)]),
    "triplets": lambda: TripletEvaluator([TEXTS[8]], [CORPUS[0]], [CORPUS[1]]),
    "pairs": lambda: BinaryClassificationEvaluator(TEXTS[:4], TEXTS[8:], [0, 0, 1, 0]),
    "mse": lambda: MSEEvaluator(TEXTS[:4], TEXTS[8:], teacher_model=FixedTeacher()),  # type: ignore[arg-type]
    "translation": lambda: TranslationEvaluator(TEXTS[:4], TEXTS[8:]),
}


class FixedTeacher:
    """Gives every text one vector."""

    def encode(self, texts: list[str], **options: Any) -> Any:
        return np.ones((len(texts), 64), np.float32)


@pytest.mark.parametrize("name", EVALUATORS)
def test_evaluators_come_to_the_same(name: str, embedder: Embedder, reference: Any) -> None:
    got, expected = EVALUATORS[name]()(embedder), EVALUATORS[name]()(reference)
    assert got.keys() == expected.keys()
    for metric in got:
        assert got[metric] == pytest.approx(expected[metric], abs=1e-3), metric


def test_paraphrase_mining_comes_to_the_same(embedder: Embedder, reference: Any) -> None:
    got, expected = util.paraphrase_mining(embedder, TEXTS), util.paraphrase_mining(reference, TEXTS)  # type: ignore[arg-type]
    assert [pair[1:] for pair in got[:10]] == [pair[1:] for pair in expected[:10]]
    np.testing.assert_allclose([pair[0] for pair in got], [pair[0] for pair in expected], atol=1e-5)


@pytest.mark.parametrize("texts", ["fox", ["fox", "the lazy dog", "fox"]], ids=["one", "several"])
def test_output_value_none_gives_sentence_transformers_features(texts: Any, embedder: Embedder, reference: Any) -> None:
    got = embedder.encode(texts, output_value=None)
    expected = reference.encode(texts, output_value=None)
    assert type(got) is type(expected)
    if isinstance(got, dict):
        got, expected = [got], [expected]
    for mine, theirs in zip(got, expected, strict=True):
        assert set(mine) == set(theirs) - {"modality"}
        count = len(mine["input_ids"])  # theirs are padded to the longest of the batch
        for name, value in mine.items():
            other = theirs[name].numpy()
            other = other if name == "sentence_embedding" else other[:count]
            assert (value.dtype, value.shape) == (other.dtype, other.shape)
            np.testing.assert_allclose(value, other, atol=1e-5)
    assert len({id(array) for mine in got for array in mine.values()}) == sum(map(len, got))
    if len(got) == 3:
        assert not np.shares_memory(got[0]["token_embeddings"], got[2]["token_embeddings"])


def test_the_vector_among_the_features_is_that_of_encode(embedder: Embedder) -> None:
    options: dict[str, Any] = {"truncate_dim": 8, "prompt": "query: ", "normalize_embeddings": True}
    for found, vector in zip(
        embedder.encode(TEXTS, output_value=None, **options), embedder.encode(TEXTS, **options), strict=True
    ):
        np.testing.assert_allclose(found["sentence_embedding"], vector, atol=1e-6)
    assert embedder.encode([], output_value=None) == []


def test_tensors_are_given_where_they_are_asked_for_and_taken_where_vectors_are(embedder: Embedder) -> None:
    tensor, array = embedder.encode(TEXTS, convert_to_tensor=True), embedder.encode(TEXTS)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert embedder.encode("fox", convert_to_tensor=True).shape == (64,)
    assert embedder.encode([], convert_to_tensor=True).shape == (0, 64)
    assert embedder.encode(TEXTS, convert_to_tensor=True, precision="ubinary").dtype == torch.uint8
    rows = embedder.encode(TEXTS, convert_to_numpy=False)
    assert isinstance(rows, list)
    np.testing.assert_array_equal(torch.stack(rows).numpy(), array)
    for a, b in ((tensor, tensor), (tensor, array), (array, tensor.to(torch.float32).requires_grad_())):
        found = embedder.similarity(a, b)
        assert isinstance(found, torch.Tensor)
        np.testing.assert_allclose(found.numpy(), embedder.similarity(array, array), atol=1e-6)
        assert isinstance(embedder.similarity_pairwise(a, b), torch.Tensor)
    assert embedder.similarity(tensor.to(torch.bfloat16), array).dtype == torch.float32
    assert isinstance(embedder.similarity(array, array), np.ndarray)


def test_names_of_sentence_transformers_are_read(embedder: Embedder, reference: Any) -> None:
    for name in ("max_seq_length", "similarity_fn_name", "truncate_dim", "prompts", "default_prompt_name"):
        assert getattr(embedder, name) == getattr(reference, name)
    for method in ("get_max_seq_length", "get_embedding_dimension"):
        assert getattr(embedder, method)() == getattr(reference, method)()
    assert embedder.get_sentence_embedding_dimension() == 64
    assert embedder.device == str(reference.device)
    embedder.prompts["query"] = "changed: "  # type: ignore[index]  # a copy
    assert embedder.prompts["query"] == "query: "


def test_names_that_are_not_here_lead_to_ours(embedder: Embedder) -> None:
    names = ("encode_multi_process", "start_multi_process_pool", "truncate_embeddings", "to", "save", "eval", "embed")
    for name in (*names, "embed_documents", "encode_queries", "predict", "fit"):
        with pytest.raises(AttributeError, match=f"Embedder has no attribute '{name}'; here it is "):
            getattr(embedder, name)
    assert not hasattr(embedder, "no_such_name")


def test_keybert_takes_an_embedder_by_its_base_class(embedder: Embedder) -> None:
    keybert = pytest.importorskip("keybert")
    model = keybert.KeyBERT(model=backend("keybert", embedder))
    keywords = model.extract_keywords(" ".join(CORPUS[:2]), top_n=3)
    assert len(keywords) == 3
    assert {word for word, _ in keywords} <= set(" ".join(CORPUS[:2]).lower().replace(".", "").replace("?", "").split())


def test_bertopic_takes_an_embedder_by_its_base_class(embedder: Embedder) -> None:
    bertopic = pytest.importorskip("bertopic")
    cluster, decomposition = (
        importlib.import_module("sklearn.cluster"),
        importlib.import_module("sklearn.decomposition"),
    )
    topics = bertopic.BERTopic(
        embedding_model=backend("bertopic", embedder),
        umap_model=decomposition.PCA(2),
        hdbscan_model=cluster.KMeans(2, random_state=0),
    )
    found, _ = topics.fit_transform(TEXTS)
    assert len(found) == len(TEXTS)
    assert set(found) == {0, 1}


def backend(library: str, embedder: Embedder) -> Any:
    """As docs/library.md has it."""
    base: Any = importlib.import_module(f"{library}.backend").BaseEmbedder

    class Backend(base):  # type: ignore[misc]
        def embed(self, documents: Any, verbose: bool = False) -> Any:
            return self.embedding_model.encode(documents, show_progress_bar=verbose)

    return Backend(embedding_model=embedder)
