"""Texts over the limit over HTTP: read in windows, with the library's bits, within the limits of a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.overflow import joined, parts_of
from embedrt.server.prepare import WINDOWS_CHARACTERS
from tests.server.serving import Gate, Served, serving

LONG = "the quick brown fox jumps over the lazy dog how much protein should a female eat " * 9
OTHER = "a blue sky over the sea and a stone on the way to the river of light " * 5
KOREAN = "서울은 대한민국의 수도이다. 오늘 날씨가 좋다. " * 30
TEXTS = [LONG, "a fox", OTHER, LONG, "", KOREAN]
OPENAI, TEI = "/v1/embeddings", "/embed"


def vectors(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    found = answer.json()
    rows = [entry["embedding"] for entry in found["data"]] if isinstance(found, dict) else found
    return np.array(rows, np.float32)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_windows_are_the_librarys_bit_by_bit(tiny_bundle: Path, variant: Any) -> None:
    with (
        serving(tiny_bundle, variant=variant) as served,
        Embedder(tiny_bundle, variant=variant, num_threads=1) as model,
    ):
        for kind in ("query", "document"):
            expected = model.encode_detailed(TEXTS, kind=kind, on_overflow="windows")
            body = {"input": TEXTS, "input_type": kind, "on_overflow": "windows"}
            answer = served.post(OPENAI, body)
            np.testing.assert_array_equal(vectors(answer), expected.embeddings)
            assert answer.json()["identity"] == answer.headers["x-embedrt-identity"] == expected.identity
            assert answer.json()["truncated"] == []
        expected = model.encode_detailed(TEXTS, on_overflow="windows")
        answer = served.post(TEI, {"inputs": TEXTS, "on_overflow": "windows"})
        np.testing.assert_array_equal(vectors(answer), expected.embeddings)
        cut = served.post(TEI, {"inputs": TEXTS})
        assert cut.headers["x-embedrt-truncated"] == "4"
        assert answer.headers["x-embedrt-truncated"] == "0"
        assert cut.headers["x-embedrt-identity"] != answer.headers["x-embedrt-identity"]
        raw = served.post(TEI, {"inputs": [LONG], "on_overflow": "windows", "normalize": False})
        assert raw.headers["x-embedrt-identity"] not in (expected.identity, cut.headers["x-embedrt-identity"])
        np.testing.assert_allclose(unit(vectors(raw)[0]), expected.embeddings[0], atol=0.05)


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))


def test_the_servers_default_may_be_windows(lookup_bundle: Path, library: Embedder) -> None:
    expected = library.encode_detailed(TEXTS[:3], on_overflow="windows")
    with serving(lookup_bundle, variant="fp32", long="windows") as served:
        answer = served.post(OPENAI, {"input": TEXTS[:3]})
        np.testing.assert_array_equal(vectors(answer), expected.embeddings)
        info, model = served.get("/info").json(), served.get("/v1/models").json()["data"][0]
        assert (info["identity"], info["on_overflow"], info["auto_truncate"]) == (expected.identity, "windows", False)
        assert model["identity"] == expected.identity
        scores = served.post("/similarity", {"inputs": {"source_sentence": LONG, "sentences": [OTHER]}}).json()
        assert scores == pytest.approx([float(expected.embeddings[0] @ expected.embeddings[2])], abs=1e-6)
        for asked in ({"truncate": True}, {"on_overflow": "truncate"}):
            answer = served.post(TEI, {"inputs": LONG, **asked})
            np.testing.assert_array_equal(vectors(answer)[0], library.encode_detailed(LONG).embeddings)
            assert answer.headers["x-embedrt-identity"] == library.identity
        assert served.post(TEI, {"inputs": LONG, "truncate": False}).status_code == 413
        tokens = served.post("/embed_all", {"inputs": LONG})  # no vector of a text: cut, as ever
        assert (len(tokens.json()[0]), tokens.headers["x-embedrt-truncated"]) == (library.max_tokens, "1")


@pytest.mark.parametrize("path", [OPENAI, TEI])
def test_either_field_may_say_it_and_both_must_agree(served: Served, path: str) -> None:
    name = "input" if path == OPENAI else "inputs"
    for said in ({"on_overflow": "error"}, {"truncate": False}, {"truncate": False, "on_overflow": "error"}):
        refused = served.post(path, {name: LONG, **said})
        assert "the model takes" in refused.text
        assert refused.status_code in (400, 413)
    for said in ({"on_overflow": "truncate"}, {"truncate": True, "on_overflow": "truncate"}, {"on_overflow": None}):
        assert served.post(path, {name: LONG, **said}).headers["x-embedrt-truncated"] == "1"
    for truncate, asked in ((True, "windows"), (False, "truncate")):
        body = {name: "a", "truncate": truncate, "on_overflow": asked}
        assert "ask for different things" in served.post(path, body).text
    assert "on_overflow" in served.post(path, {name: "a", "on_overflow": "cut"}).text


def test_what_windows_do_not_go_with_is_refused(served: Served) -> None:
    left = {"inputs": LONG, "on_overflow": "windows", "truncation_direction": "left"}
    assert "truncation_direction says which end is cut" in served.post(TEI, left).text
    assert "on_overflow" in served.post("/embed_all", {"inputs": LONG, "on_overflow": "windows"}).text


def test_tokens_are_counted_as_the_model_reads_them(served: Served, library: Embedder) -> None:
    """Windows with what they share; equal texts each time."""
    count = sum(map(len, parts_of(library.tokenizer, np.array(library.tokenize(LONG)[0], np.int32)).ids))
    assert count > library.count_tokens(LONG) > library.max_tokens
    name = 'embedrt_tokens_total{model="lookup"}'
    before = metric(served, name)
    answer = served.post(OPENAI, {"input": [LONG, LONG, "a fox"], "on_overflow": "windows"})
    used = 2 * count + library.count_tokens("a fox")
    assert answer.json()["usage"]["prompt_tokens"] == int(answer.headers["x-embedrt-tokens"]) == used
    assert metric(served, name) - before == used


def metric(served: Served, name: str) -> float:
    lines = [line for line in served.get("/metrics").text.splitlines() if line.startswith(name)]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


def test_windows_share_batches_with_other_texts(served: Served, gate: Gate, library: Embedder) -> None:
    parts = parts_of(library.tokenizer, np.array(library.tokenize(LONG)[0], np.int32))
    gate.let(100)
    served.post(TEI, {"inputs": [LONG], "on_overflow": "windows"})
    assert sorted(n for batch in gate.batches for n in batch) == sorted(map(len, parts.ids))
    assert all(sum(batch) <= served.service.settings.batch_tokens for batch in gate.batches)


def test_what_is_too_much_is_refused_before_it_is_run(lookup_bundle: Path, library: Embedder) -> None:
    with serving(lookup_bundle, variant="fp32", request_tokens=400) as served:
        gate = Gate(served.engine)
        refused = served.post(OPENAI, {"input": [LONG + OTHER] * 2 + [OTHER + LONG], "on_overflow": "windows"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
        assert "may have 400 tokens" in refused.text
        assert "windows included" in refused.text
        assert "request_tokens" in refused.text
        long = served.post(TEI, {"inputs": ["a", "a " * (WINDOWS_CHARACTERS // 2 + 1)], "on_overflow": "windows"})
        assert (long.status_code, "text 1" in long.text, "windows_characters" in long.text) == (413, True, True)
        assert gate.batches == []
        gate.remove()
        assert served.post(TEI, {"inputs": LONG, "on_overflow": "windows"}).status_code == 200


def test_a_text_of_the_most_characters_is_read(lookup_bundle: Path, library: Embedder) -> None:
    text = ("a fox " * WINDOWS_CHARACTERS)[:WINDOWS_CHARACTERS]
    with serving(lookup_bundle, variant="fp32") as served:
        found = vectors(served.post(TEI, {"inputs": text, "on_overflow": "windows"}))
    np.testing.assert_array_equal(found[0], library.encode(text, on_overflow="windows"))


def test_token_ids_are_read_in_windows_as_well(taking_ids: Served, library: Embedder) -> None:
    (ids,) = library.tokenize(LONG)
    expected = library.encode([LONG], on_overflow="windows")
    for given in (ids, ids[1:-1]):
        found = vectors(taking_ids.post(TEI, {"inputs": [given], "on_overflow": "windows"}))
        np.testing.assert_array_equal(found, expected)


def test_a_prompt_that_leaves_no_room_is_the_requests_fault(tiny_bundle: Path) -> None:
    with serving(tiny_bundle, variant="fp32") as served:
        body = {"input": LONG, "input_type": "query", "task": LONG, "on_overflow": "windows"}
        answer = served.post(OPENAI, body)
    assert answer.status_code == 400, answer.text


def test_joining_weighs_by_tokens() -> None:
    rows = [np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)]
    np.testing.assert_allclose(joined(rows, [3, 1], normalize=False), [0.75, 0.25])
    np.testing.assert_allclose(joined(rows, [1, 1], normalize=True), [0.5**0.5] * 2, rtol=1e-6)
    assert joined(rows[:1], [7], normalize=True) is rows[0]
