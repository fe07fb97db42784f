"""`embedrt.util` beside sentence-transformers' own on the same arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import util as theirs

from embedrt import Embedder, util
from embedrt.errors import OptionError


def made(num_rows: int, seed: int = 0, width: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_rows, width)).astype(np.float32)


@pytest.mark.parametrize("name", ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"])
@pytest.mark.parametrize("pairs", [False, True])
def test_similarities(name: str, pairs: bool) -> None:
    name = f"pairwise_{name}" if pairs else name
    a, b = made(5), made(5, 1)
    expected = getattr(theirs, name)(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(getattr(util, name)(a, b), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("score", ["cos_sim", "dot_score"])
def test_semantic_search(score: str) -> None:
    queries, corpus = made(11), made(300, 1)
    expected = theirs.semantic_search(queries, corpus, top_k=7, score_function=getattr(theirs, score))
    found = util.semantic_search(queries, corpus, top_k=7, score_function=getattr(util, score), corpus_chunk_size=50)
    assert [[hit["corpus_id"] for hit in hits] for hits in found] == [
        [hit["corpus_id"] for hit in hits] for hits in expected
    ]
    np.testing.assert_allclose(
        [[hit["score"] for hit in hits] for hits in found],
        [[hit["score"] for hit in hits] for hits in expected], rtol=1e-4,
    )  # fmt: skip


def test_paraphrase_mining_embeddings() -> None:
    vectors = made(60)
    expected = theirs.paraphrase_mining_embeddings(torch.from_numpy(vectors), top_k=5)
    found = util.paraphrase_mining_embeddings(vectors, top_k=5)
    assert [pair[1:] for pair in found] == [pair[1:] for pair in expected]
    np.testing.assert_allclose([pair[0] for pair in found], [pair[0] for pair in expected], rtol=1e-4)


def test_paraphrase_mining(embedder: Embedder) -> None:
    found = util.paraphrase_mining(embedder, ["the quick fox", "日本の首都", "the quick fox."], top_k=1)
    assert found[0][1:] == [0, 2]


def test_community_detection() -> None:
    rng = np.random.default_rng(4)
    centres = made(6, 5)
    vectors = np.concatenate([centre + 0.1 * rng.standard_normal((15, 24)) for centre in centres]).astype(np.float32)
    expected = theirs.community_detection(vectors, threshold=0.9, min_community_size=4)
    found = util.community_detection(vectors, threshold=0.9, min_community_size=4)
    assert {frozenset(group) for group in found} == {frozenset(group) for group in expected}


def test_mined_translations_and_near_duplicates() -> None:
    a = made(30)
    b = a[::-1] + 0.1 * made(30, 1)
    found = util.mine_translations(a, b, threshold=1.0)
    assert sorted((i, j) for _, i, j in found) == [(k, 29 - k) for k in range(30)]
    assert util.near_duplicates(np.concatenate([a[:3], b[-3:]]), 0.9).tolist() == [0, 1, 2, 2, 1, 0]


@pytest.mark.parametrize(
    "vectors",
    [made(2), made(2).tolist(), list(made(2)), torch.from_numpy(made(2)), made(2).astype(np.float64)],
    ids=["array", "lists", "list of vectors", "tensor", "float64"],
)
def test_vectors_come_in_any_form(vectors: Any) -> None:
    np.testing.assert_allclose(util.normalize_embeddings(vectors), util.normalize_embeddings(made(2)), rtol=1e-6)
    assert util.semantic_search(vectors, vectors, top_k=1)[1][0]["corpus_id"] == 1


@pytest.mark.parametrize("width", [24, 7])
def test_angles(width: int) -> None:
    a, b = made(9, width=width), made(9, 1, width)
    expected = theirs.pairwise_angle_sim(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(util.pairwise_angle_sim(a, b), expected, rtol=1e-4)


def test_the_earlier_name_of_cosine() -> None:
    np.testing.assert_array_equal(util.pytorch_cos_sim(made(3), made(2, 1)), util.cos_sim(made(3), made(2, 1)))


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("given", ["nothing", "ranges", "calibration_embeddings"])
def test_quantized_embeddings(precision: Any, given: str) -> None:
    vectors, others = made(120), made(200, 1)
    vectors[:, 3] = 0.5  # a dimension without a range
    options: dict[str, Any] = {
        "nothing": {},
        "ranges": {"ranges": np.stack([others.min(axis=0), others.max(axis=0)])},
        "calibration_embeddings": {"calibration_embeddings": others},
    }[given]
    expected = theirs.quantize_embeddings(vectors, precision, **options)
    found = util.quantize_embeddings(vectors, precision, **options)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_one_vector_is_one_row() -> None:
    assert util.cos_sim(made(1)[0], made(3)).shape == (1, 3)
    assert util.truncate_embeddings(made(2), 4).shape == (2, 4)
    assert util.truncate_embeddings(made(2), None).shape == (2, 24)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: util.cos_sim(["a"], made(1)), "an array"),
        (lambda: util.cos_sim(None, made(1)), "shape"),
        (lambda: util.cos_sim(np.float32(1), made(1)), r"shape \(N, D\), not \(\)"),
        (lambda: util.cos_sim(made(2), made(2, width=3)), "24 and of 3"),
        (lambda: util.pairwise_cos_sim(made(2), made(3)), "2 and 3 vectors"),
        (lambda: util.semantic_search(made(2), made(2), top_k=0), "top_k must be a whole number of at least 1"),
        (lambda: util.semantic_search(made(2), made(2), top_k=2.5), "top_k"),  # type: ignore[arg-type]
        (lambda: util.paraphrase_mining_embeddings(made(2), max_pairs=True), "max_pairs"),
        (lambda: util.community_detection(np.ones((2, 2, 2))), "shape"),
        (lambda: util.cos_sim([[1.0], [1.0, 2.0]], made(1)), "an array"),
        (lambda: util.quantize_embeddings(made(2), "int4"), "precision must be one of"),
        (lambda: util.quantize_embeddings(made(2), "int8", ranges=made(2, width=3)), r"shape \(2, 24\)"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        call()
