"""The benchmark of rerankers, SPLADE and ColBERT: what is timed, and what counts as the same answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench import kinds
from bench.systems import KIND_SYSTEMS
from bench.systems.kinds import _scores
from scipy.sparse import csr_matrix
from tokenizers import Tokenizer


def test_pairs_have_the_tokens_that_the_table_says(minilm_model: Path) -> None:
    query, *passages = kinds.passages(minilm_model)
    tokenizer = Tokenizer.from_file(str(minilm_model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    assert len(passages) == len(set(passages)) == kinds.PASSAGES
    assert {len(tokenizer.encode(query, passage).ids) for passage in passages} == {kinds.TOKENS}


def test_agreement_is_of_the_worst_answer() -> None:
    scores = np.arange(5.0)
    assert kinds.agreement("rerank", scores, 2 * scores + 1) == pytest.approx(1)
    assert kinds.agreement("rerank", scores, scores[::-1]) == pytest.approx(-1)
    weights = csr_matrix(np.array([[1.0, 0, 2], [0, 3, 0]]))
    assert kinds.agreement("splade", weights, 2 * weights) == pytest.approx(1)
    assert kinds.agreement("splade", weights, csr_matrix(np.array([[1.0, 0, 2], [1, 0, 0]]))) == pytest.approx(0)
    tokens = [np.eye(3), np.eye(2)]
    assert kinds.agreement("colbert", tokens, tokens) == 1
    assert kinds.agreement("colbert", tokens, [np.eye(3), -np.eye(2)]) == -1


def test_the_reference_is_the_first_of_its_kind() -> None:
    for kind in ("rerank", "splade", "colbert"):
        assert next(name for name in KIND_SYSTEMS if name.startswith(kind)) == f"{kind}-st-torch"


def test_the_head_of_a_peer_is_two_layers_with_a_tanh() -> None:
    first = np.array([[0.5, -1.0]], np.float32)
    dense, last = np.array([[1.0, 2.0], [0.0, 1.0]], np.float32), np.array([[2.0, -1.0]], np.float32)
    got = _scores(first, [(dense, np.zeros(2, np.float32)), (last, np.ones(1, np.float32))])
    assert got == pytest.approx([2 * np.tanh(-1.5) - np.tanh(-1.0) + 1], abs=1e-6)
