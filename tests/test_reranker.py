"""`Reranker`, on a tiny BERT: sentence-transformers' results and shapes, batches, threads, pickles, bad input."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder

from embedrt import (
    BundleIntegrityError,
    Embedder,
    ExecutorError,
    InputError,
    InputTypeError,
    OptionError,
    Reranker,
    TokenLimitError,
    TruncationWarning,
)
from tests import tiny
from tests.conftest import Rerankers

PAIRS = [(one, two) for one in tiny.CORPUS[:4] for two in tiny.CORPUS]


@pytest.fixture
def reranker(rerankers: Rerankers) -> Iterator[Reranker]:
    with Reranker(rerankers.bundle("bert"), variant="fp32", num_threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def peer(rerankers: Rerankers) -> CrossEncoder:
    return CrossEncoder(str(rerankers.model("bert")), device="cpu")


def test_scores_are_sentence_transformers(reranker: Reranker, peer: CrossEncoder) -> None:
    got = reranker.predict(PAIRS)
    assert (got.dtype, got.shape) == (np.float32, (len(PAIRS),))
    np.testing.assert_allclose(got, peer.predict(PAIRS), rtol=0, atol=1e-4)
    logits = reranker.predict(PAIRS, activation_fn="identity")
    np.testing.assert_allclose(logits, peer.predict(PAIRS, activation_fn=torch.nn.Identity()), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(reranker.predict(PAIRS, activation_fn=torch.nn.Identity()), logits)
    np.testing.assert_allclose(reranker.predict(PAIRS, activation_fn=lambda x: 1 / (1 + np.exp(-x))), got, atol=1e-6)


def test_the_second_text_has_its_own_token_type(reranker: Reranker) -> None:
    assert reranker.tokenizer([("fox", "dog")])[0].second == 3  # [CLS] fox [SEP] | dog [SEP]


@pytest.mark.parametrize("inputs", [PAIRS[0], list(PAIRS[0]), np.array(PAIRS[0]), PAIRS, np.array(PAIRS), iter(PAIRS)])
def test_shapes_are_sentence_transformers(reranker: Reranker, peer: CrossEncoder, inputs: Any) -> None:
    given = PAIRS if not isinstance(inputs, (list, tuple, np.ndarray)) else inputs
    got = reranker.predict(inputs)
    np.testing.assert_allclose(got, peer.predict(given), rtol=0, atol=1e-4)
    assert np.shape(got) == np.shape(peer.predict(given))


def test_no_pairs_and_tensors(reranker: Reranker) -> None:
    assert reranker.predict([]).shape == (0,)
    assert torch.is_tensor(reranker.predict(PAIRS, convert_to_tensor=True))
    rows = reranker.predict(PAIRS, convert_to_numpy=False)
    assert len(rows) == len(PAIRS)
    assert all(torch.is_tensor(row) for row in rows)


def test_ranks_are_sentence_transformers(reranker: Reranker, peer: CrossEncoder) -> None:
    documents = list(tiny.CORPUS)
    got, wanted = (one.rank("fox", documents, top_k=5, return_documents=True) for one in (reranker, peer))
    assert [(one["corpus_id"], one["text"]) for one in got] == [(one["corpus_id"], one["text"]) for one in wanted]
    np.testing.assert_allclose([one["score"] for one in got], [one["score"] for one in wanted], rtol=0, atol=1e-4)
    assert type(got[0]["score"]) is float
    assert set(reranker.rank("fox", ["dog"])[0]) == {"corpus_id", "score"}


def test_several_labels(rerankers: Rerankers) -> None:
    peer = CrossEncoder(str(rerankers.model("labels")), device="cpu")
    with Reranker(rerankers.bundle("labels"), num_threads=1) as reranker:
        assert reranker.labels == ("contradiction", "entailment", "neutral")
        got = reranker.predict(PAIRS)
        assert got.shape == (len(PAIRS), 3)
        assert reranker.predict(PAIRS[0]).shape == (3,)
        np.testing.assert_allclose(got, peer.predict(PAIRS), rtol=0, atol=1e-4)
        soft = reranker.predict(PAIRS, apply_softmax=True)
        np.testing.assert_allclose(soft, peer.predict(PAIRS, apply_softmax=True), rtol=0, atol=1e-4)
        with pytest.raises(OptionError, match=r"rank needs a model of one label, this one has 3 \(contradiction"):
            reranker.rank("fox", ["dog"])


def test_a_pair_has_the_same_bits_in_any_batch(rerankers: Rerankers) -> None:
    with Reranker(rerankers.bundle("bert"), variant="int8", num_threads=1) as reranker:
        assert reranker.executor == "native"
        together = reranker.predict(PAIRS)
        np.testing.assert_array_equal([reranker.predict(pair) for pair in PAIRS], together)
        np.testing.assert_array_equal(reranker.predict(PAIRS, batch_size=3), together)
        np.testing.assert_array_equal(reranker.predict([*PAIRS, *PAIRS[::-1]]), [*together, *together[::-1]])
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: reranker.predict(PAIRS), range(8)):
                np.testing.assert_array_equal(found, together)


def test_equal_pairs_are_scored_once(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = type(reranker._model.executor).run
    monkeypatch.setattr(
        type(reranker._model.executor),
        "run",
        lambda self, batch, **given: sizes.append(len(batch.offsets) - 1) or run(self, batch, **given),
    )
    reranker.predict([PAIRS[0]] * 500)
    assert sizes == [1]


def test_a_hundred_thousand_documents_in_one_call(reranker: Reranker) -> None:
    """Of few different ones: memory is bounded by windows of pairs."""
    documents = [tiny.CORPUS[k % 8][: k % 23] for k in range(100_000)]
    found = reranker.rank("fox", documents, top_k=3)
    assert len(found) == 3
    assert found[0]["score"] >= found[1]["score"] >= found[2]["score"]


def test_pairs_over_the_limit(reranker: Reranker) -> None:
    long = "fox " * 100
    with pytest.warns(TruncationWarning, match=r"1 of 2 pairs were cut at 64 tokens.*the longest has 104"):
        reranker.predict([("dog", long), ("dog", "fox")])
    with pytest.raises(TokenLimitError, match="text 1: has 104 tokens, the model takes 64"):
        reranker.predict([("dog", "fox"), ("dog", long)], on_overflow="error")
    assert reranker.predict_detailed([("dog", long)]).num_truncated == 1


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda r: r.predict(), InputError, "give a pair of strings or several pairs, once"),
        (lambda r: r.predict("fox"), InputError, "its letters are no texts"),
        (lambda r: r.predict([("a", "b"), "ab"]), InputError, "text 1: must be a pair of texts, not str"),
        (lambda r: r.predict([("a", "b", "c")]), InputError, "text 0: must be a pair of texts, not 3 of them"),
        (lambda r: r.predict([("a", None)]), InputTypeError, "text 0: must be a string, not NoneType"),
        (lambda r: r.predict([("a", "\ud800")]), InputError, "text 0: has a lone surrogate"),
        (lambda r: r.rank("fox", []), InputError, "there are no documents to rank; give at least one"),
        (lambda r: r.rank(None, ["a"]), InputTypeError, "the query must be a string, not NoneType"),
        (lambda r: r.rank("fox", "dog"), InputTypeError, "its letters are no texts"),
        (lambda r: r.rank("fox", ["a", 3]), InputTypeError, "text 1: must be a string, not int"),
        (lambda r: r.rank("fox " * 70, ["a"]), TokenLimitError, "the query has 73 tokens with the special ones"),
        (lambda r: r.rank("fox", ["a"], top_k=0), OptionError, "top_k must be a whole number of at least 1"),
        (lambda r: r.predict(PAIRS, batchsize=3), OptionError, "unknown option 'batchsize'; did you mean 'batch_size'"),
        (lambda r: r.predict(PAIRS, activation_fn="tanh"), OptionError, "activation_fn must be one of identity, sigm"),
        (lambda r: r.predict(PAIRS, activation_fn=lambda x: x[:1]), OptionError, "activation_fn made an array of"),
        (lambda r: r.predict(PAIRS, on_overflow="windows"), OptionError, "on_overflow must be truncate or error"),
        (lambda r: r.predict(PAIRS, prompt_name="query"), OptionError, "there is no prompt 'query'"),
    ],
)  # fmt: skip
def test_bad_input_has_one_clear_line(reranker: Reranker, call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message.replace("(", r"\(")):
        call(reranker)


def test_the_wrong_class_is_told_the_right_one(rerankers: Rerankers, tiny_bundle: Path) -> None:
    with pytest.raises(OptionError, match=r"gives scores of pairs of texts, not vectors: open it with embedrt\.Rerank"):
        Embedder(rerankers.bundle("bert"))
    with pytest.raises(OptionError, match=r"gives vectors, not scores of pairs of texts: open it with embedrt\.Embed"):
        Reranker(tiny_bundle)


def test_a_pickle_opens_the_same_reranker(rerankers: Rerankers) -> None:
    with Reranker(rerankers.bundle("bert"), variant="int8", num_threads=1, max_tokens=40) as reranker:
        data = pickle.dumps(reranker)
        assert len(data) < 4096
        for other in (pickle.loads(data), copy.deepcopy(reranker), copy.copy(reranker)):
            np.testing.assert_array_equal(other.predict(PAIRS), reranker.predict(PAIRS))
            assert (other.identity, other.max_tokens, other.variant) == (reranker.identity, 40, "int8")
    with pytest.raises(ExecutorError, match="closed"):
        pickle.dumps(reranker)
    with pytest.raises(ExecutorError, match="closed"):
        reranker.predict(PAIRS)


def test_another_bundle_in_the_same_place_is_refused(rerankers: Rerankers, tmp_path: Path) -> None:
    import shutil

    root = Path(shutil.copytree(rerankers.bundle("bert"), tmp_path / "bundle"))
    with Reranker(root, variant="fp32", num_threads=1) as reranker:
        data = pickle.dumps(reranker)
    shutil.rmtree(root)
    shutil.copytree(rerankers.bundle("labels"), root)
    with pytest.raises(BundleIntegrityError, match="is not the bundle that the pickled reranker was made of"):
        pickle.loads(data)


def test_the_identity_is_over_all_that_decides_a_score(reranker: Reranker, rerankers: Rerankers) -> None:
    every = {
        reranker.identity,
        reranker.identify(activation_fn="identity"),
        reranker.identify(prompt="query: "),
        Reranker(rerankers.bundle("bert"), variant="int8").identity,
        Reranker(rerankers.bundle("bert"), variant="fp32", max_tokens=32).identity,
    }
    assert len(every) == 5
    assert reranker.identify(batch_size=3) == reranker.identity


def test_errors_tell_a_pairs_place_among_all(rerankers: Rerankers) -> None:
    """Though equal pairs are scored once, and many are tokenized in turns."""
    pairs = [("fox", "dog")] * 3 + [("fox", f"dog {k}") for k in range(1100)] + [("fox", "dog " * 80)]
    with Reranker(rerankers.bundle("bert"), num_threads=1) as reranker, pytest.raises(TokenLimitError) as told:
        reranker.predict(pairs, on_overflow="error")
    assert told.value.index == len(pairs) - 1


def test_a_text_alone_is_scored_as_transformers_does_it(rerankers: Rerankers) -> None:
    path = str(rerankers.model("labels"))
    own = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    with torch.no_grad():
        wanted = model(**own("the quick fox", return_tensors="pt")).logits.numpy()
    with Reranker(rerankers.bundle("labels"), num_threads=1) as reranker:
        found = reranker.predict([["the quick fox"], ["fox", "dog"]], activation_fn="identity")
    np.testing.assert_allclose(found[:1], wanted, atol=1e-4)
