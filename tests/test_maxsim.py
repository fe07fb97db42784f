"""MaxSim against a loop over tokens, and sentence-transformers' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers.util.similarity import maxsim as of_sentence_transformers

from embedrt import OptionError
from embedrt import maxsim as module
from embedrt.maxsim import maxsim, maxsim_pairwise

LENGTHS = ((3, 1, 32, 7), (1, 50, 4, 9, 33))


def texts(lengths: tuple[int, ...], seed: int, width: int = 8) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, width)).astype(np.float32) for n in lengths]


def test_ragged_texts_are_scored_as_sentence_transformers_scores_them() -> None:
    queries, documents = texts(LENGTHS[0], 1), texts(LENGTHS[1], 2)
    expected = of_sentence_transformers(
        [torch.from_numpy(q) for q in queries], [torch.from_numpy(d) for d in documents]
    )
    np.testing.assert_allclose(maxsim(queries, documents), expected.numpy(), rtol=1e-5)
    loop = [[(q @ d.T).max(axis=1).sum() for d in documents] for q in queries]
    np.testing.assert_allclose(maxsim(queries, documents), loop, rtol=1e-5)
    mean = np.array(loop) / np.array(LENGTHS[0])[:, None]
    np.testing.assert_allclose(maxsim(queries, documents, mean=True), mean, rtol=1e-5)
    np.testing.assert_allclose(maxsim_pairwise(queries, documents[:4]), np.diag(loop), rtol=1e-5)


def test_blocks_give_what_one_step_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, documents = texts(LENGTHS[0], 1), texts(LENGTHS[1], 2)
    whole = maxsim(queries, documents)
    monkeypatch.setattr(module, "_QUERY_TOKENS", 5)
    monkeypatch.setattr(module, "_BLOCK_NUMBERS", 60)
    np.testing.assert_allclose(maxsim(queries, documents), whole, rtol=1e-6)


def test_a_single_array_is_one_text_and_empty_ones_have_no_score() -> None:
    query, document = texts((4, 6), 3)
    assert maxsim(query, document).shape == (1, 1)
    empty = np.empty((0, 8), np.float32)
    found = maxsim([query, empty], [document, empty])
    assert found[0, 1] == -np.inf
    assert found[1].tolist() == [0, 0]
    assert maxsim([], [document]).shape == (0, 1)
    assert maxsim([query], []).shape == (1, 0)


def test_what_is_no_vectors_of_tokens_is_refused() -> None:
    query, other = texts((4,), 3)[0], texts((4,), 3, width=6)[0]
    for wrong in ("text", [np.zeros(3, np.float32)], [np.zeros((2, 2), np.int8)], 3):
        with pytest.raises(OptionError, match="queries must be what MultiVectorEncoder"):
            maxsim(wrong, [query])
    with pytest.raises(OptionError, match="6 and 8 dimensions"):
        maxsim(query, other)
    with pytest.raises(OptionError, match="in pairs"):
        maxsim_pairwise([query], [query, query])
