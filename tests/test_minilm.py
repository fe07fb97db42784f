"""The calls that a user of sentence-transformers makes, on all-MiniLM-L6-v2, beside sentence-transformers itself; and
what a long-running process takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Bundle, Embedder, open_bundle
from embedrt.bundle import PARITY_VECTORS
from embedrt.manifest import Prompts
from embedrt.precision import code_ranges

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

PROMPTS = {"query": "query: ", "document": "passage: ", "topic": "What is this about? "}
TEXTS = [
    "why is the sky blue?",
    "",
    "The quick brown fox jumps over the lazy dog.",
    "서울은 대한민국의 수도이다.",
    "a " * 400,
    "🙂",
    "Ein kleiner Test mit deutschen Wörtern; and some English besides.",
]
ATOL = 1e-5  # the gate of fp32


@pytest.fixture(scope="module")
def ours(minilm_bundle: Path) -> Iterator[Embedder]:
    manifest = open_bundle(minilm_bundle).manifest
    prompted = replace(manifest, prompts=Prompts(PROMPTS, None, None, "this test"))
    with Embedder(Bundle(minilm_bundle, prompted), variant="fp32") as embedder:
        yield embedder


@pytest.fixture(scope="module")
def theirs(minilm_model: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm_model), device="cpu", prompts=PROMPTS)


CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("encode", {}),
    "batch of 1": ("encode", {"batch_size": 1}),
    "prompt": ("encode", {"prompt": "passage: "}),
    "prompt_name": ("encode", {"prompt_name": "topic"}),
    "query": ("encode_query", {}),
    "query with another prompt": ("encode_query", {"prompt_name": "topic"}),
    "document": ("encode_document", {}),
    "normalized": ("encode", {"normalize_embeddings": True}),
    "truncated and normalized": ("encode", {"truncate_dim": 64, "normalize_embeddings": True}),
    "truncated query": ("encode_query", {"truncate_dim": 128, "normalize_embeddings": True}),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_same_call_gives_the_same_array(ours: Embedder, theirs: Any, call: str) -> None:
    method, options = CALLS[call]
    for inputs in (TEXTS, tuple(TEXTS[:1]), TEXTS[0]):
        expected = getattr(theirs, method)(inputs, **options)
        got = getattr(ours, method)(inputs, **options)
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, atol=ATOL, rtol=0)


def test_no_texts(ours: Embedder, theirs: Any) -> None:
    assert len(ours.encode([])) == len(theirs.encode([])) == 0
    assert ours.encode([]).shape == (0, 384)


def test_token_embeddings(ours: Embedder, theirs: Any) -> None:
    expected = theirs.encode(TEXTS, output_value="token_embeddings")
    got = ours.encode(TEXTS, output_value="token_embeddings")
    assert [len(rows) for rows in got] == [len(rows) for rows in expected]
    for rows, wanted in zip(got, expected, strict=True):
        # not normalized: values reach 10 and more, and fp32's rounding grows with them
        np.testing.assert_allclose(rows, wanted.numpy(), atol=5 * ATOL, rtol=0)
    one, wanted = (model.encode(TEXTS[0], output_value="token_embeddings") for model in (ours, theirs))
    np.testing.assert_allclose(one, wanted.numpy(), atol=5 * ATOL, rtol=0)


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_binary_precisions(ours: Embedder, theirs: Any, precision: str) -> None:
    got, expected = (model.encode(TEXTS, precision=precision) for model in (ours, theirs))
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    sure = np.abs(theirs.encode(TEXTS)) > ATOL  # the sign of anything smaller may turn
    shift = 128 if precision == "binary" else 0
    bits, wanted = (
        np.unpackbits((codes.astype(np.int16) + shift).astype(np.uint8), axis=1) for codes in (got, expected)
    )
    np.testing.assert_array_equal(bits[sure], wanted[sure])


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_integer_precisions_with_the_bundles_ranges(ours: Embedder, theirs: Any, precision: Any) -> None:
    from sentence_transformers.quantization import quantize_embeddings

    reference = np.load(ours.bundle.path(PARITY_VECTORS))
    ranges = np.stack(code_ranges(reference, ours.bundle.manifest.code_width))
    texts = ["why is the sky blue?", "The quick brown fox jumps over the lazy dog."]
    expected = quantize_embeddings(theirs.encode(texts), precision=precision, ranges=ranges)
    got = ours.encode(texts, precision=precision)
    assert got.dtype == expected.dtype
    # sentence-transformers truncates and wraps around where values leave the ranges; ours rounds or saturates there
    inside = ((theirs.encode(texts) > ranges[0]) & (theirs.encode(texts) < ranges[1])).astype(bool)
    assert inside.mean() > 0.9
    assert np.abs(got.astype(int) - expected.astype(int))[inside].max() <= 1


def test_similarity(ours: Embedder, theirs: Any) -> None:
    vectors = theirs.encode(TEXTS)
    np.testing.assert_allclose(ours.similarity(vectors, vectors), theirs.similarity(vectors, vectors), atol=1e-6)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_memory_stays_and_idle_threads_sleep(minilm_bundle: Path, variant: str) -> None:
    from bench.memory import measure

    found = measure(minilm_bundle, variant)
    assert found.growth < 1.1, found
    assert found.idle_cpu_s < 0.05, found
