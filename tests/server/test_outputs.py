"""Sparse vectors and vectors of tokens over HTTP, and three outputs of one loaded model, against the library's bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder, Model, MultiVectorEncoder, SparseEncoder, SparseVector
from embedrt.executors import choice
from embedrt.server import models
from embedrt.server.sizes import WEIGHT_BYTES, size_of_weights
from tests import tiny
from tests.server.serving import Served, serving, wait_until

TEXTS = [*tiny.CORPUS, "fox", "dog fox dog", "The quick brown dog? " * 2, tiny.CORPUS[0]]
LONG = "dog stone " * 80 + "fox"
Export = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="module")
def bundles(export_outputs: Export) -> dict[str, Path]:
    expansion = {"strategy": "fixed", "length": 12}
    return {
        "splade": export_outputs("splade", variants=("fp32", "int8"))[1],
        "table": export_outputs("splade", variants=("fp32",), activation="log1p_relu", table=True)[1],
        "colbert": export_outputs("colbert", variants=("fp32", "int8"), expansion=expansion)[1],
        "m3": export_outputs("m3", variants=("fp32", "int8"))[1],
    }


@pytest.fixture(scope="module")
def served(bundles: dict[str, Path], rerankers: Any) -> Iterator[Served]:
    """All of them, and a reranker in front."""
    named = [f"bert={rerankers.bundle('bert')}", *(f"{name}={path}" for name, path in bundles.items())]
    with serving(*named, request_texts=64, token_ids="own") as made:
        yield made


def weights(rows: list[list[dict[str, Any]]]) -> list[dict[int, np.float32]]:
    return [{one["index"]: np.float32(one["value"]) for one in row} for row in rows]


def kept(vectors: Any) -> list[dict[int, np.float32]]:
    return [dict(zip(row.indices.tolist(), row.values, strict=True)) for row in vectors]


def same_rows(found: list[Any], wanted: list[Any]) -> None:
    assert len(found) == len(wanted)
    for row, right in zip(found, wanted, strict=True):
        assert np.array_equal(np.array(row, np.float32), right)


def test_sparse_vectors_are_the_librarys(served: Served, bundles: dict[str, Path]) -> None:
    with SparseEncoder(bundles["splade"], num_threads=1) as library:
        answer = served.post("/embed_sparse", {"inputs": TEXTS})
        assert answer.status_code == 200, answer.text
        assert weights(answer.json()) == kept(library.encode(TEXTS))
        assert answer.headers["x-embedrt-model"] == "splade"
        assert answer.headers["x-embedrt-identity"] == library.identity
        assert int(answer.headers["x-embedrt-tokens"]) == sum(map(len, library.tokenize(TEXTS)))
        few = served.post("/embed_sparse", {"inputs": TEXTS, "max_active_dims": 3})
        assert weights(few.json()) == kept(library.encode(TEXTS, max_active_dims=3))
        assert few.headers["x-embedrt-identity"] == library.identify(max_active_dims=3) != library.identity
        (single,) = weights(served.post("/embed_sparse", {"inputs": "fox"}).json())
        assert single == kept([library.encode("fox")])[0]
        ids = served.post("/embed_sparse", {"inputs": library.tokenize(TEXTS)})
        assert weights(ids.json()) == kept(library.encode(TEXTS))


def test_a_text_that_is_cut_is_told(served: Served, bundles: dict[str, Path]) -> None:
    with SparseEncoder(bundles["splade"], num_threads=1) as library, pytest.warns(UserWarning, match="cut"):
        wanted = library.encode([LONG])
    answer = served.post("/embed_sparse", {"inputs": [LONG]})
    assert (weights(answer.json()), answer.headers["x-embedrt-truncated"]) == (kept(wanted), "1")
    left = served.post("/embed_sparse", {"inputs": [LONG], "truncation_direction": "left"})
    assert weights(left.json()) != kept(wanted)
    refused = served.post("/embed_sparse", {"inputs": ["a", LONG], "truncate": False})
    assert (refused.status_code, "text 1: has" in refused.text) == (413, True)


def test_the_root_is_what_the_first_model_is_for(bundles: dict[str, Path]) -> None:
    for name, path in (("splade", "/embed_sparse"), ("colbert", "/embed_all"), ("m3", "/embed")):
        with serving(bundles[name]) as alone:
            assert alone.post("/", {"inputs": "fox"}).json() == alone.post(path, {"inputs": "fox"}).json()


def test_queries_are_looked_up_where_the_model_has_a_table(
    served: Served, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with SparseEncoder(bundles["table"], num_threads=1) as library:
        documents = served.post("/embed_sparse", {"inputs": TEXTS, "model": "table:document"})
        assert weights(documents.json()) == kept(library.encode_document(TEXTS))
        engine: Any = served.service.models.find("table")[0]
        kind = type(engine.outputs._loaded.executor)
        monkeypatch.setattr(kind, "run", lambda *given, **named: pytest.fail("the encoder ran"))
        queries = served.post("/embed_sparse", {"inputs": [*TEXTS, ""], "model": "table:query"})
        assert weights(queries.json()) == kept(library.encode_query([*TEXTS, ""]))
        with pytest.warns(UserWarning, match="cut"):
            wanted = library.encode_query([LONG])
    found = served.post("/embed_sparse", {"inputs": [LONG], "model": "table:query"})
    assert (weights(found.json()), found.headers["x-embedrt-truncated"]) == (kept(wanted), "1")


@pytest.mark.filterwarnings("ignore::embedrt.TruncationWarning")
def test_vectors_of_tokens_are_the_librarys(served: Served, bundles: dict[str, Path]) -> None:
    with MultiVectorEncoder(bundles["colbert"], num_threads=1) as library:
        for name, encode in (
            ("colbert", library.encode),
            ("colbert:query", library.encode_query),
            ("colbert:document", library.encode_document),
        ):
            answer = served.post("/embed_all", {"inputs": TEXTS, "model": name})
            assert answer.status_code == 200, answer.text
            same_rows(answer.json(), encode(TEXTS))
        assert answer.headers["x-embedrt-identity"] == library.identify(kind="document")
        same_rows(served.post("/embed_all", {"inputs": "fox"}).json(), library.encode(["fox"]))
        assert len(served.post("/embed_all", {"inputs": "fox", "model": "colbert:query"}).json()[0]) == 12


def test_three_outputs_of_one_loaded_model(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    whole = choice.load_executor
    monkeypatch.setattr(
        "embedrt.loading.load_executor", lambda *given, **named: loads.append(1) or whole(*given, **named)
    )
    with serving(bundles["m3"]) as served, Model(bundles["m3"], num_threads=1) as library:
        assert len(loads) == 2  # the server's, and the library's here
        wanted = library.encode(TEXTS)
        dense = served.post("/embed", {"inputs": TEXTS})
        assert np.array_equal(np.array(dense.json(), np.float32), wanted.dense)
        assert weights(served.post("/embed_sparse", {"inputs": TEXTS}).json()) == kept(wanted.sparse)
        same_rows(served.post("/embed_all", {"inputs": TEXTS}).json(), wanted.tokens or [])
        with Embedder(bundles["m3"], num_threads=1) as embedder:
            assert dense.headers["x-embedrt-identity"] == embedder.identity
        (engine,) = served.service.models
        assert engine.embedder._model is engine.outputs._model  # type: ignore[attr-defined]
        assert served.get("/info").json()["outputs"] == ["dense", "sparse", "tokens"]


def test_requests_for_each_output_wait_in_one_queue(served: Served, bundles: dict[str, Path]) -> None:
    paths = ("/embed", "/embed_sparse", "/embed_all")
    texts = [f"{text} {k}" for k, text in enumerate(TEXTS)]
    with ThreadPoolExecutor(12) as pool:
        asked = [
            (path, text, pool.submit(served.post, path, {"inputs": [text], "model": "m3"}))
            for text in texts
            for path in paths
        ]
        answers = {(path, text): done.result().json() for path, text, done in asked}
    with Model(bundles["m3"], num_threads=1) as library:
        wanted = library.encode(texts)
    for k, text in enumerate(texts):
        assert wanted.dense is not None
        assert wanted.sparse is not None
        assert wanted.tokens is not None
        assert np.array_equal(np.array(answers["/embed", text][0], np.float32), wanted.dense[k])
        assert weights(answers["/embed_sparse", text]) == kept([wanted.sparse[k]])
        same_rows(answers["/embed_all", text], [wanted.tokens[k]])


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/embed", {"inputs": "a", "model": "splade"}, 424, "vectors, and splade gives sparse vectors: /embed_sparse"),
        ("/v1/embeddings", {"input": "a", "model": "colbert"}, 400, "colbert gives vectors of tokens: /embed_all"),
        ("/embed_all", {"inputs": "a", "model": "splade"}, 424, "vectors of tokens, and splade gives sparse"),
        ("/embed_sparse", {"inputs": "a", "model": "colbert"}, 424, "colbert gives vectors of tokens: /embed_all"),
        ("/embed_sparse", {"inputs": "a", "model": "bert"}, 424, "bert gives scores of pairs of texts: /rerank"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "model": "splade"}, 424, "splade"),
        ("/rerank", {"query": "a", "texts": ["b"], "model": "colbert"}, 424, "colbert gives vectors of tokens"),
        ("/embed_sparse", {"inputs": "a", "model": "nobody"}, 404, "there is no model 'nobody'"),
        ("/embed_sparse", {"inputs": []}, 400, "inputs must not be empty"),
        ("/embed_sparse", {"inputs": ["a"] * 65}, 413, "64"),
        ("/embed_sparse", {"inputs": "a", "max_active_dims": 0}, 422, "max_active_dims"),
        ("/embed_sparse", {"inputs": "a", "normalize": True}, 422, "there is no field 'normalize'"),
        ("/embed_sparse", {"inputs": "a", "prompt_name": "nobody"}, 413, "there is no prompt 'nobody'"),
        ("/embed_sparse", {"inputs": [[99999]]}, 422, "token ids go to"),
    ],
)  # fmt: skip
def test_bad_requests(served: Served, path: str, body: dict[str, Any], status: int, message: str) -> None:
    answer = served.post(path, body)
    assert message in answer.text
    assert answer.status_code == status, answer.text


def test_a_server_without_such_a_model_says_what_it_has(served: Served, lookup_bundle: Path) -> None:
    with serving(lookup_bundle, variant="fp32") as dense:
        answer = dense.post("/embed_sparse", {"inputs": "a"})
    assert (answer.status_code, "needs a model of sparse vectors" in answer.text) == (424, True)
    assert "/embed or /v1/embeddings" in answer.text


def test_models_say_what_they_give(served: Served) -> None:
    listed = {one["id"]: one["outputs"] for one in served.get("/v1/models").json()["data"]}
    assert listed["m3"] == ["dense", "sparse", "tokens"]
    assert (listed["splade"], listed["colbert:query"], listed["bert"]) == (["sparse"], ["tokens"], ["scores"])
    assert "table:query" in listed
    assert served.get("/v1/models/splade").json()["dimension"] == 323
    for name, sort in (("splade", "splade"), ("colbert", "none"), ("m3", "cls")):
        info = served.get(f"/info?model={name}").json()
        assert info["model_type"] == {"embedding": {"pooling": sort}}
    assert list(served.get("/info?model=bert").json()["model_type"]) == ["reranker"]


def test_tokens_of_every_kind_of_model(served: Served) -> None:
    for name in ("splade", "colbert", "m3", "bert"):
        (row,) = served.post("/tokenize", {"inputs": "fox", "model": name}).json()
        assert served.post("/decode", {"ids": [token["id"] for token in row], "model": name}).status_code == 200
    refused = served.post("/tokenize", {"inputs": "fox", "model": "bert", "prompt_name": "query"})
    assert (refused.status_code, "scores pairs of texts" in refused.text) == (413, True)


def test_answers_that_would_be_too_large_are_refused_before_the_work_where_that_is_known(
    bundles: dict[str, Path],
) -> None:
    """With a limit on weights, and of BGE-M3's weights, which are not more than tokens."""
    with serving(f"s={bundles['splade']}", f"m3={bundles['m3']}", answer_mb=0.003) as served:
        for engine in served.service.models:
            engine.outputs.embed_tokens = lambda *given: pytest.fail("it was run")  # type: ignore[attr-defined]
        for body in ({"model": "s", "max_active_dims": 20}, {"model": "m3"}):
            answer = served.post(
                "/embed_sparse", {"inputs": [f"{text} {k}" for k in range(4) for text in TEXTS], **body}
            )
            assert (answer.status_code, "an answer may have 3000 bytes" in answer.text) == (413, True), answer.text


def test_a_request_ends_when_its_weights_are_too_many(bundles: dict[str, Path]) -> None:
    with SparseEncoder(bundles["splade"], num_threads=1) as library:
        vectors = library.encode(TEXTS)
    written = len(vectors.indices) * WEIGHT_BYTES / 1e6
    with serving(bundles["splade"], answer_mb=written / 2) as served:
        answer = served.post("/embed_sparse", {"inputs": TEXTS})
        assert (answer.status_code, "more weights than an answer may hold" in answer.text) == (413, True), answer.text
        again = served.post("/embed_sparse", {"inputs": ["fox"] * 64})  # computed once, and written too often
        assert (again.status_code, "an answer may have" in again.text) == (413, True), again.text
        assert served.post("/embed_sparse", {"inputs": "fox"}).status_code == 200
        wait_until(lambda: served.service.budget.held == 0)


def test_what_is_held_for_weights_is_bounded_by_the_answer() -> None:
    whole = size_of_weights([10, 20], [0, 1, 1], [30522, 30522])
    bounded = size_of_weights([10, 20], [0, 1, 1], [30522, 30522], room=46_000)
    assert whole.answer > 3 * 30522 * WEIGHT_BYTES
    assert (bounded.tokens, bounded.answer) == (30, 46_000)
    assert bounded.held < 30 * 4 + 8 * 1001 + 2 * 256


def test_a_bundle_that_gives_other_weights_is_not_served(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Model.encode_detailed

    def damaged(self: Model, *given: Any, **named: Any) -> Any:
        found = whole(self, *given, **named)
        if found.sparse is not None:
            found.sparse.values[:] += 0.5
        return found

    monkeypatch.setattr(Model, "encode_detailed", damaged)
    with pytest.raises(AssertionError, match="weights of words that differ"), serving(bundles["splade"]):
        pass


@pytest.mark.parametrize("name", ["splade", "colbert", "m3"])
def test_they_are_proven_while_they_are_served(bundles: dict[str, Path], name: str) -> None:
    """A bit that flips in a text's outputs takes the model out of service."""
    with serving(bundles[name], proof_every_s=0.05) as served:
        engine: Any = served.engine
        path = "/embed_all" if name == "colbert" else "/embed_sparse"
        wait_until(lambda: "embedrt_proofs_total" in served.get("/metrics").text)
        assert served.post(path, {"inputs": "fox"}).status_code == 200
        whole = engine.outputs.embed_tokens

        def flipped(token_ids: Any, options: Any) -> Any:
            rows = whole(token_ids, options)
            for row in rows:
                part = row.tokens if row.sparse is None else row.sparse.values
                part *= np.float32(-1)
            return rows

        engine.outputs.embed_tokens = flipped
        wait_until(lambda: served.post(path, {"inputs": "fox"}).status_code == 503)
        engine.outputs.embed_tokens = whole
        wait_until(lambda: served.post(path, {"inputs": "fox"}).status_code == 200)


def test_values_that_are_not_finite_are_one_requests_trouble(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = served.service.models.find("splade")[0]
    whole = engine.outputs.embed_tokens
    nothing = SparseVector(np.empty(0, np.int32), np.empty(0, np.float32), 323)

    def spoiled(token_ids: Any, options: Any) -> Any:
        return [type(row)(sparse=nothing, is_finite=False) for row in whole(token_ids, options)]

    monkeypatch.setattr(engine.outputs, "embed_tokens", spoiled)
    answer = served.post("/embed_sparse", {"inputs": "fox"})
    assert (answer.status_code, "NaN or infinity" in answer.text) == (424, True)


def test_names_that_differ_by_kind(served: Served) -> None:
    assert {"colbert:query", "table:query", "m3"} <= set(served.service.models.names)
    assert "bert:query" not in served.service.models.names
    assert isinstance(served.service.models, models.Models)
