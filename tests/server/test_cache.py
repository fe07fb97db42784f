"""Rows of texts that come again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from embedrt import Embedder
from embedrt.server.cache import RowCache, keys_of
from tests.server.serving import Served, serving

ENTRY = 400 + 4 * 4  # bytes of a row of 4 numbers


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def row(value: float) -> np.ndarray:
    return np.full(4, value, np.float32)


def test_what_was_not_asked_for_longest_leaves_first():
    cache = RowCache(2 * ENTRY)
    cache.keep(b"a", row(1))
    cache.keep(b"b", row(2))
    assert cache.find(b"a") is not None
    cache.keep(b"c", row(3))
    assert (cache.find(b"a") is None, cache.find(b"b") is None, cache.find(b"c") is None) == (False, True, False)
    assert (len(cache), cache.held_bytes) == (2, 2 * ENTRY)


def test_a_row_larger_than_the_cache_is_not_kept():
    cache = RowCache(ENTRY - 1)
    cache.keep(b"a", row(1))
    assert (len(cache), cache.held_bytes) == (0, 0)


def test_nobody_can_change_what_is_kept():
    cache, given = RowCache(10 * ENTRY), row(1)
    cache.keep(b"a", given)
    given[0] = 9
    kept = cache.find(b"a")
    assert kept is not None
    assert np.array_equal(kept, row(1))
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 9


def test_keys_differ_by_ids_and_by_whatever_else_decides():
    sorts = [("query: ", "x"), ("query: x", ""), ("query: ", ""), ("", "query: ")]
    texts = [ids(1), ids(1, 2), ids(2, 1), ids(0x0201), ids(0, 1)]
    keys = {keys_of(sort)(text) for sort in sorts for text in texts}
    assert len(keys) == len(sorts) * len(texts)
    assert keys_of(sorts[0])(ids(1, 2)[:1]) == keys_of(sorts[0])(texts[0])


def test_only_what_is_missing_is_computed_and_rows_stay_in_order():
    cache, computed = RowCache(10_000), []

    async def compute(missing: list[Any]) -> list[Any]:
        computed.append([one.tolist() for one in missing])
        return [row(float(one[0])) for one in missing]

    async def ask(*values: int) -> list[float]:
        return [float(found[0]) for found in await cache.rows([ids(v) for v in values], "s", compute)]

    assert asyncio.run(ask(1, 2)) == [1, 2]
    assert asyncio.run(ask(3, 2, 4, 1)) == [3, 2, 4, 1]
    assert asyncio.run(ask(4, 3)) == [4, 3]
    assert computed == [[[1], [2]], [[3], [4]]]


class Counted:
    """Counts the texts that a server's executor runs."""

    def __init__(self, served: Served) -> None:
        self.texts = 0
        original = served.engine.embedder.embed_tokens

        def run(token_ids: Any, options: Any) -> Any:
            self.texts += len(token_ids)
            return original(token_ids, options)

        served.engine.embedder.embed_tokens = run  # type: ignore[method-assign]

    def of(self, answer: httpx.Response) -> int:
        """Texts run since the last time."""
        assert answer.status_code == 200, answer.text
        count, self.texts = self.texts, 0
        return count


def vectors(answer: httpx.Response) -> np.ndarray:
    return np.array(answer.json(), np.float32)


def test_a_text_that_comes_again_gets_the_same_bits_without_being_run(lookup_bundle: Path, library: Embedder):
    texts = ["water stone", "stone light"]
    with serving(lookup_bundle, variant="fp32", cache_mb=1.0) as server:
        counted = Counted(server)
        first = server.post("/embed", {"inputs": texts})
        assert counted.of(first) == 2
        again = server.post("/embed", {"inputs": [texts[1], "river", texts[0]]})
        assert counted.of(again) == 1
        assert np.array_equal(vectors(again), library.encode([texts[1], "river", texts[0]]))
        assert np.array_equal(vectors(first), library.encode(texts))
        third = server.post("/v1/embeddings", {"input": texts})
        assert counted.of(third) == 0
        assert third.json()["usage"]["prompt_tokens"] == int(first.headers["x-embedrt-tokens"])
        page = server.get("/metrics").text
    assert 'embedrt_cache_hits_total{model="lookup"} 4.0' in page
    assert 'embedrt_cache_misses_total{model="lookup"} 3.0' in page
    assert 'embedrt_cache_bytes{model="lookup"}' in page


@pytest.mark.parametrize(
    "other",
    [
        {"prompt_name": "query"},
        {"normalize": False},
        {"inputs": "water stone " * 40, "truncation_direction": "left"},
    ],
)
def test_what_decides_a_vector_is_not_mixed(lookup_bundle: Path, other: dict[str, Any]):
    plain = {"inputs": other.get("inputs", "water stone")}
    with serving(lookup_bundle, variant="fp32") as server:
        wanted = [vectors(server.post("/embed", body)) for body in (plain, {**plain, **other})]
    with serving(lookup_bundle, variant="fp32", cache_mb=1.0) as server:
        counted = Counted(server)
        for _ in range(2):
            for body, vector in zip((plain, {**plain, **other}), wanted, strict=True):
                assert np.array_equal(vectors(server.post("/embed", body)), vector)
        assert counted.texts <= 2


def test_shorter_vectors_come_of_the_same_row(lookup_bundle: Path, library: Embedder):
    with serving(lookup_bundle, variant="fp32", cache_mb=1.0, matryoshka=("lookup",)) as server:
        counted = Counted(server)
        whole = server.post("/embed", {"inputs": "water"})
        short = server.post("/embed", {"inputs": "water", "dimensions": 3})
        assert counted.of(short) == 1
    assert np.array_equal(vectors(whole), library.encode(["water"]))
    assert np.array_equal(vectors(short), library.encode(["water"], truncate_dim=3))


def test_clients_with_different_keys_share_nothing(lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32", cache_mb=1.0, api_keys=("a:first", "b:second")) as server:
        counted = Counted(server)
        for key, runs in (("first", 1), ("second", 1), ("first", 0), ("second", 0)):
            answer = server.post("/embed", {"inputs": "water"}, Authorization=f"Bearer {key}")
            assert counted.of(answer) == runs


def test_vectors_of_tokens_are_not_kept(lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32", cache_mb=1.0) as server:
        counted = Counted(server)
        for _ in range(2):
            assert counted.of(server.post("/embed_all", {"inputs": "water"})) == 1


def test_a_model_that_is_not_what_it_was_answers_nothing_from_before(lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32", cache_mb=1.0, proof_every_s=0.0) as server:
        assert server.post("/embed", {"inputs": "water"}).status_code == 200
        server.engine.watch.proof = None  # it would find nothing wrong
        server.engine.watch.what_is_wrong = "weights are damaged"
        assert server.post("/embed", {"inputs": "water"}).status_code == 503


def test_nothing_is_kept_unless_it_is_asked_for(served: Served):
    assert served.engine.cache is None
    assert "embedrt_cache_bytes{" not in served.get("/metrics").text
