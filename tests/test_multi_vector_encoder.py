"""MultiVectorEncoder against sentence-transformers' own, on directories of three programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers

from embedrt import InputError, MultiVectorEncoder, OptionError, TruncationWarning
from embedrt.maxsim import maxsim
from tests import tiny

QUERIES = ["fox", "How much protein? How much?", "서울은 수도이다.", "[MASK] dog"]
DOCUMENTS = [tiny.CORPUS[3], tiny.CORPUS[4], tiny.CORPUS[6], "dog, fox. dog?", "a"]
FIXED = {"strategy": "fixed", "length": 20}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "expanded, not seen": ("colbert", {"expansion": FIXED}),
    "expanded and seen": ("colbert", {"expansion": {**FIXED, "attend": True}}),
    "at least so many": (
        "colbert",
        {"expansion": {"strategy": "min", "length": 12}},
    ),
    "not expanded": ("colbert", {"family": "xlmr"}),
    "pylate": ("pylate", {}),
    "pylate, not expanded": ("pylate", {"do_query_expansion": False, "skiplist_words": []}),
    "stanford": ("stanford", {}),
}


def library(model: Path) -> Any:
    return sentence_transformers.MultiVectorEncoder(str(model), device="cpu")


@pytest.mark.parametrize("case", CASES)
def test_vectors_are_the_librarys(export_outputs: Callable[..., tuple[Path, Path]], case: str) -> None:
    kind, options = CASES[case]
    model, bundle = export_outputs(kind, variants=("fp32",), **options)
    theirs = library(model)
    with MultiVectorEncoder(bundle, num_threads=1) as encoder:
        found: dict[str, list[Any]] = {
            "query": encoder.encode_query(QUERIES),
            "document": encoder.encode_document(DOCUMENTS),
        }
        for name, texts in (("query", QUERIES), ("document", DOCUMENTS)):
            expected = getattr(theirs, f"encode_{name}")(texts, convert_to_numpy=True)
            assert [len(row) for row in found[name]] == [len(row) for row in expected]
            for ours, reference in zip(found[name], expected, strict=True):
                np.testing.assert_allclose(ours, reference, atol=2e-5)
        scores = theirs.similarity(theirs.encode_query(QUERIES), theirs.encode_document(DOCUMENTS)).numpy()
        np.testing.assert_allclose(encoder.similarity(found["query"], found["document"]), scores, rtol=1e-4)
        for text, row in zip(QUERIES, found["query"], strict=True):
            np.testing.assert_allclose(encoder.encode_query(text), row, atol=1e-6)
        plain = theirs.encode(DOCUMENTS, convert_to_numpy=True)
        for ours, reference in zip(encoder.encode(DOCUMENTS), plain, strict=True):
            np.testing.assert_allclose(ours, reference, atol=2e-5)


@pytest.fixture(scope="module")
def colbert(export_outputs: Callable[..., tuple[Path, Path]]) -> tuple[Path, Path]:
    return export_outputs("colbert", variants=("fp32", "int8"), expansion=FIXED)


@pytest.mark.parametrize("executor", ["native", "onnxruntime"])
def test_int8_keeps_the_vectors_and_the_ranking(colbert: tuple[Path, Path], executor: Any) -> None:
    theirs = library(colbert[0])
    scores = theirs.similarity(theirs.encode_query(QUERIES), theirs.encode_document(DOCUMENTS)).numpy()
    expected = [*theirs.encode_query(QUERIES, convert_to_numpy=True)]
    with MultiVectorEncoder(colbert[1], variant="int8", executor=executor, num_threads=2) as encoder:
        rows = encoder.encode_query(QUERIES)
        for ours, reference in zip(rows, expected, strict=True):
            assert (ours * reference).sum(axis=1).min() > 0.99
        found = encoder.similarity(rows, encoder.encode_document(DOCUMENTS))
        np.testing.assert_allclose(found, scores, rtol=0.02)


def test_rank_and_names_of_sentence_transformers(colbert: tuple[Path, Path]) -> None:
    with MultiVectorEncoder(colbert[1], variant="fp32", num_threads=1) as encoder:
        query, documents = QUERIES[0], encoder.encode_document(DOCUMENTS)
        (scores,) = encoder.similarity(encoder.encode_query(query), documents)
        ranked = encoder.rank(query, DOCUMENTS, top_k=3, return_documents=True)
        assert [one["corpus_id"] for one in ranked] == np.argsort(-scores)[:3].tolist()
        assert [one["text"] for one in ranked] == [DOCUMENTS[i] for i in np.argsort(-scores)[:3]]
        assert ranked[0]["score"] == pytest.approx(float(scores.max()), rel=1e-5)
        assert encoder.rank(query, []) == []
        assert encoder.get_embedding_dimension() == encoder.dimension == 16
        assert encoder.similarity_fn_name == "maxsim"
        pairs = encoder.similarity_pairwise(documents, documents)
        np.testing.assert_allclose(pairs, np.diag(maxsim(documents, documents)), rtol=1e-6)
        as_task = encoder.encode(QUERIES, task="query", prompt_name="query")
        for ours, reference in zip(as_task, encoder.encode_query(QUERIES), strict=True):
            np.testing.assert_array_equal(ours, reference)


def test_fewer_dimensions_and_fewer_bits(colbert: tuple[Path, Path]) -> None:
    with MultiVectorEncoder(colbert[1], variant="fp32", num_threads=1) as encoder:
        whole = encoder.encode_document("dog, fox.")
        cut = encoder.encode_document("dog, fox.", truncate_dim=8)
        np.testing.assert_allclose(cut, whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True), rtol=1e-5)
        bits = encoder.encode_document("dog, fox.", precision="ubinary")
        np.testing.assert_array_equal(bits, np.packbits(whole > 0, axis=1))
        assert encoder.encode_document("dog, fox.", precision="float16").dtype == np.float16
        assert encoder.encode_document("dog", convert_to_tensor=True).shape[1] == 16


def test_bad_input_gets_one_line(colbert: tuple[Path, Path], tiny_bundle: Path) -> None:
    with MultiVectorEncoder(colbert[1], variant="fp32", num_threads=1) as encoder:
        with pytest.raises(InputError, match="text 1: must be a string"):
            encoder.encode_query(["fox", None])  # type: ignore[list-item]
        with pytest.raises(OptionError, match="truncate_dim=17 is more than"):
            encoder.encode("fox", truncate_dim=17)
        with pytest.raises(OptionError, match="precision must be one of"):
            encoder.encode("fox", precision="int8")  # type: ignore[typeddict-item]
        with pytest.raises(OptionError, match="task must be query or document"):
            encoder.encode("fox", task="classification")  # type: ignore[typeddict-item]
        with pytest.warns(TruncationWarning, match="cut at 20"):
            encoder.encode_query("fox " * 40)
        with pytest.warns(TruncationWarning, match="cut at 40"):
            encoder.encode_document("fox " * 60)
    with pytest.raises(OptionError, match=r"not vectors of tokens: open it with embedrt\.Embedder"):
        MultiVectorEncoder(tiny_bundle)


def test_queries_longer_than_the_window_are_refused_where_their_ends_are_not_seen(tmp_path: Path) -> None:
    """Every query must see the whole of what is seen, or it would see nothing."""
    from embedrt.errors import UnsupportedModelError
    from embedrt_export import export
    from tests import tiny_outputs

    model = tiny_outputs.save_colbert(tmp_path, "modernbert", expansion={**FIXED, "token": "[MASK]"})
    with pytest.raises(UnsupportedModelError, match="more than its window of 8 holds"):
        export(model, tmp_path / "bundle", variants=("fp32",))
