"""SparseEncoder against sentence-transformers' own, on bundles of seeded models."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers

import embedrt
from embedrt import (
    BundleIntegrityError,
    ExecutorError,
    InputError,
    OptionError,
    SparseEncoder,
    SparseVector,
    TokenLimitError,
    TruncationWarning,
)
from tests import tiny, tiny_outputs

pytestmark = pytest.mark.filterwarnings("ignore:Sparse .*:UserWarning")  # torch of its own tensors

TEXTS = [*tiny.CORPUS, "fox", "dog fox dog", "The quick brown dog? " * 2, tiny.CORPUS[0]]


@pytest.fixture(scope="module")
def splade(export_outputs: Callable[..., Path]) -> tuple[Path, Path]:
    return export_outputs("splade", variants=("fp32", "int8"))


@pytest.fixture(scope="module")
def router(export_outputs: Callable[..., Path]) -> tuple[Path, Path]:
    return export_outputs("splade", variants=("fp32",), activation="log1p_relu", table=True)


def dense(vectors: Any) -> np.ndarray[Any, Any]:
    return np.asarray(vectors.to_dense())


def library(model: Path) -> Any:
    return sentence_transformers.SparseEncoder(str(model), device="cpu")


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_weights_are_the_librarys(export_outputs: Callable[..., Path], pooling: str, activation: str) -> None:
    model, bundle = export_outputs("splade", variants=("fp32",), pooling=pooling, activation=activation)
    expected = dense(library(model).encode(TEXTS))
    with SparseEncoder(bundle, num_threads=1) as encoder:
        found = encoder.encode(TEXTS)
    np.testing.assert_allclose(dense(found), expected, atol=5e-5 * (1 if pooling == "max" else 20))
    share = len(found.indices) / found.to_dense().size
    assert 0.02 < share < 0.6  # neither nothing nor everything, or the comparison says little


@pytest.mark.parametrize("family", ["distilbert", "xlmr", "modernbert", "mpnet"])
def test_heads_of_other_families(export_outputs: Callable[..., Path], family: str) -> None:
    model, bundle = export_outputs("splade", variants=("fp32",), family=family)
    expected = dense(library(model).encode(TEXTS))
    assert expected.any(axis=1).mean() > 0.5
    with SparseEncoder(bundle, num_threads=1) as encoder:
        np.testing.assert_allclose(dense(encoder.encode(TEXTS)), expected, atol=1e-4)


@pytest.mark.parametrize("executor", ["native", "onnxruntime"])
def test_int8_keeps_the_weights_and_the_strongest_words(splade: tuple[Path, Path], executor: Any) -> None:
    model, bundle = splade
    expected = dense(library(model).encode(TEXTS))
    with SparseEncoder(bundle, variant="int8", executor=executor, num_threads=2) as encoder:
        vectors = encoder.encode(TEXTS)
        alone = [encoder.encode(text) for text in TEXTS]
    found = dense(vectors)
    cosines = (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.995
    top = (
        [set(np.argsort(-row)[:10].tolist()) for row in expected],
        [set(np.argsort(-row)[:10].tolist()) for row in found],
    )
    assert np.mean([len(a & b) / 10 for a, b in zip(*top, strict=True)]) > 0.9
    for one, row in zip(alone, vectors, strict=True):
        np.testing.assert_array_equal(one.indices, row.indices)
        if executor == "native":
            np.testing.assert_array_equal(one.values, row.values)


def test_queries_are_read_by_the_table_and_need_no_encoder(router: tuple[Path, Path]) -> None:
    model, bundle = router
    theirs = library(model)
    with SparseEncoder(bundle, num_threads=1) as encoder:
        np.testing.assert_array_equal(dense(encoder.encode_query(TEXTS)), dense(theirs.encode_query(TEXTS)))
        np.testing.assert_allclose(
            dense(encoder.encode_document(TEXTS)), dense(theirs.encode_document(TEXTS)), atol=5e-5
        )
        np.testing.assert_allclose(dense(encoder.encode(TEXTS)), dense(theirs.encode(TEXTS)), atol=5e-5)
        assert len(encoder.encode_query("")) == 0
        scores = theirs.similarity(theirs.encode_query(TEXTS), theirs.encode_document(TEXTS)).numpy()
        found = encoder.similarity(encoder.encode_query(TEXTS), encoder.encode_document(TEXTS))
        np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-4)


def test_names_of_sentence_transformers(splade: tuple[Path, Path]) -> None:
    model, bundle = splade
    theirs = library(model)
    expected = theirs.encode(TEXTS)
    with SparseEncoder(bundle, variant="fp32", num_threads=1) as encoder:
        found = encoder.encode(TEXTS)
        np.testing.assert_allclose(encoder.similarity(found, found), theirs.similarity(expected, expected), rtol=1e-3)
        pairs = encoder.similarity_pairwise(found, found)
        np.testing.assert_allclose(pairs, theirs.similarity_pairwise(expected, expected), rtol=1e-3)
        assert encoder.sparsity(found) == pytest.approx(theirs.sparsity(expected), rel=1e-3)
        words = encoder.decode(found[0], top_k=5)
        assert [word for word, _ in words] == [word for word, _ in theirs.decode(expected[0], top_k=5)]
        assert len(encoder.decode(found)) == len(TEXTS)
        shared = encoder.intersection(found[0], found[8])
        both = dense(found)[0] * dense(found)[8]
        np.testing.assert_allclose(shared.to_dense(), both, rtol=1e-6)
        few = encoder.encode(TEXTS, max_active_dims=7)
        theirs_few = theirs.encode(TEXTS, max_active_dims=7)
        np.testing.assert_allclose(dense(few), dense(theirs_few), atol=5e-5)
        assert encoder.get_embedding_dimension() == theirs.get_embedding_dimension() == tiny_outputs.WORDS
        assert encoder.max_seq_length == theirs.max_seq_length
        assert encoder.similarity_fn_name == "dot"
        tensor = encoder.encode(TEXTS, convert_to_tensor=True)
        assert tensor.is_sparse
        np.testing.assert_array_equal(dense(tensor), dense(found))
        assert encoder.encode("fox", convert_to_tensor=True, convert_to_sparse_tensor=False).shape == (
            tiny_outputs.WORDS,
        )


def test_one_text_several_and_none(splade: tuple[Path, Path]) -> None:
    with SparseEncoder(splade[1], variant="fp32", num_threads=1) as encoder:
        one = encoder.encode("fox")
        assert isinstance(one, SparseVector)
        assert encoder.encode(["fox"]).shape == (1, tiny_outputs.WORDS)
        assert encoder.encode([]).shape == (0, tiny_outputs.WORDS)
        np.testing.assert_array_equal(encoder.encode(["dog", "fox"])[1].indices, one.indices)
        for other in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder), encoder.with_options(max_tokens=20)):
            np.testing.assert_array_equal(other.encode("fox").values, one.values)
        assert encoder.identity == pickle.loads(pickle.dumps(encoder)).identity
        assert encoder.identity != encoder.identify(max_active_dims=3)


class Tagged(SparseEncoder):
    tag = "none"


def test_a_pickle_is_of_the_bundle_as_it_was(splade: tuple[Path, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(splade[1], tmp_path / "bundle"))
    with Tagged(root, variant="int8", num_threads=1, max_tokens=20) as encoder:
        encoder.tag = "mine"
        data = pickle.dumps(encoder)
        for other in (pickle.loads(data), copy.copy(encoder), encoder.with_options()):
            assert (type(other), other.tag, other.variant, other.max_tokens) == (Tagged, "mine", "int8", 20)
        assert copy.copy(encoder)._model is encoder._model  # loaded once
    with pytest.raises(ExecutorError, match="the model was closed, so it cannot be pickled or copied"):
        pickle.dumps(encoder)
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps(manifest | {"name": "renamed"}))
    pickle.loads(data).close()  # what no vector depends on may change
    prompts = {**manifest["prompts"], "texts": {"query": "ask: "}}
    sparse = {**manifest["sparse"], "max_active_dims": 3}
    for change in ({"max_tokens": 32}, {"prompts": prompts}, {"sparse": sparse}):
        (root / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(BundleIntegrityError, match="is not the bundle that the pickled model was made of"):
            pickle.loads(data)


def test_bad_input_gets_one_line(splade: tuple[Path, Path], router: tuple[Path, Path], tiny_bundle: Path) -> None:
    with SparseEncoder(splade[1], variant="fp32", num_threads=1) as encoder:
        with pytest.raises(InputError, match="text 1: must be a string, not int"):
            encoder.encode(["fox", 3])  # type: ignore[list-item]
        with pytest.raises(OptionError, match="unknown option 'max_active_dim'; did you mean 'max_active_dims'"):
            encoder.encode("fox", max_active_dim=3)  # type: ignore[call-arg]
        with pytest.raises(OptionError, match="max_active_dims must be a whole number"):
            encoder.encode("fox", max_active_dims=0)
        with pytest.raises(OptionError, match="sparse vectors are what"):
            encoder.similarity(np.zeros((2, 3)), encoder.encode(["fox"]))
        with pytest.warns(TruncationWarning, match="1 of 1 texts were cut at 48"):
            encoder.encode("fox " * 100)
        with pytest.raises(TokenLimitError, match="102 tokens, the model takes 48"):
            encoder.encode("fox " * 100, on_overflow="error")
    with SparseEncoder(router[1], num_threads=1) as encoder, pytest.raises(TokenLimitError, match="queries have 48"):
        encoder.encode_query("fox " * 100, on_overflow="error")
    with pytest.raises(OptionError, match=r"gives vectors, not sparse vectors: open it with embedrt\.Embedder"):
        SparseEncoder(tiny_bundle)
    with pytest.raises(OptionError, match=r"gives sparse vectors, not vectors: open it with embedrt\.SparseEncoder"):
        embedrt.Embedder(splade[1])
