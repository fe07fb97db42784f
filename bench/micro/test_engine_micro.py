"""The engine's own work beside the executor, timed with pytest-benchmark: `pytest bench/micro -m bench`.

Nothing here asserts a time: compare runs with `--benchmark-autosave` and `--benchmark-compare`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bench.models import minilm
from bench.texts import BUILTIN_TEXTS

from embedrt.batching import BatchLimits, plan_groups
from embedrt.pooling import l2_normalize, pool
from embedrt.tokenization import TextTokenizer

pytestmark = pytest.mark.bench

_RNG = np.random.default_rng(0)
_LENGTHS = [int(n) for n in np.clip(_RNG.lognormal(4.0, 0.8, 2048), 3, 512)]  # a window of texts, median 55 tokens


def test_plan_a_window_of_2048_texts(benchmark: Any) -> None:
    groups = benchmark(plan_groups, _LENGTHS, BatchLimits())
    assert sorted(i for group in groups for i in group) == list(range(len(_LENGTHS)))


def test_tokenize_256_short_texts(benchmark: Any) -> None:
    tokenizer = TextTokenizer(minilm() / "tokenizer.json", 256)
    texts = (BUILTIN_TEXTS * 10)[:256]
    assert len(benchmark(tokenizer, texts).token_ids) == 256


@pytest.mark.parametrize("mode", ["cls", "mean", "max"])
@pytest.mark.parametrize(("texts", "tokens"), [(32, 32), (4, 512)])
def test_pool_xlmr_large_hidden_states(benchmark: Any, texts: int, tokens: int, mode: str) -> None:
    hidden = _RNG.standard_normal((texts * tokens, 1024), dtype=np.float32)
    offsets = np.arange(texts + 1, dtype=np.int32) * tokens
    vectors = benchmark(lambda: l2_normalize(pool(hidden, offsets, (mode,))))
    assert vectors.shape == (texts, 1024)
