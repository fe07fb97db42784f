"""Bodies that are not plain UTF-8 JSON, and what is said of those that are refused."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from embedrt.server.errors import ServeError
from embedrt.server.explain import parse
from embedrt.server.openai import EmbeddingsRequest
from embedrt.server.tei import SimilarityRequest
from tests.server.serving import Served, serving, wait_until

BODY = b'{"input": "the water"}'
HALVES = gzip.compress(BODY[:7], mtime=0) + gzip.compress(BODY[7:], mtime=0)


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip.compress(BODY, mtime=0), "gzip"),
        (gzip.compress(BODY, mtime=0), "X-GZIP"),
        (HALVES, "gzip"),
        (zlib.compress(BODY), "deflate"),
        (BODY, "identity"),
    ],
)
def test_compressed_bodies_are_read(served: Served, packed: bytes, encoding: str):
    plain = served.post("/v1/embeddings", BODY)
    assert served.post("/v1/embeddings", packed, Content_Encoding=encoding).json()["data"] == plain.json()["data"]


@pytest.mark.parametrize(
    ("packed", "encoding", "status", "message"),
    [
        (BODY, "gzip", 400, "the body is not gzip"),
        (gzip.compress(BODY, mtime=0)[:-9], "gzip", 400, "ends in the middle"),
        (gzip.compress(BODY, mtime=0) + b"xxxx", "gzip", 400, "the body is not gzip"),
        (b"", "gzip", 400, "ends in the middle"),
        (BODY, "br", 415, "may be gzip, deflate or absent, not 'br'"),
        (BODY, "gzip, gzip", 415, "not 'gzip, gzip'"),
    ],
)
def test_what_cannot_be_decompressed(served: Served, packed: bytes, encoding: str, status: int, message: str):
    answer = served.post("/v1/embeddings", packed, Content_Encoding=encoding)
    assert (answer.status_code, message in answer.text) == (status, True), answer.text
    assert answer.headers.get("accept-encoding") == ("gzip, deflate" if status == 415 else None)


def test_what_a_compressed_body_becomes_is_bounded(lookup_bundle: Path):
    """200 MB of blanks in 200 KB: refused at the limit, with all that was held given back."""
    with serving(lookup_bundle, variant="fp32", body_mb=1, inflight_mb=3) as server:
        bomb = gzip.compress(b" " * 200_000_000, 6)
        assert len(bomb) < 1e6
        assert server.post("/embed", bomb, Content_Encoding="gzip").status_code == 413
        wait_until(lambda: server.service.budget.held == 0)  # released once the answer is out
        assert server.post("/embed", {"inputs": "a"}).status_code == 200


def test_a_gzip_body_may_be_several_files_but_not_a_million(served: Served):
    several = b"".join(gzip.compress(part) for part in (b'{"inputs":', b"", b'"a"}'))
    assert served.post("/embed", several, Content_Encoding="gzip").status_code == 200
    answer = served.post("/embed", gzip.compress(b"") * 1_000_000, Content_Encoding="gzip")
    assert answer.status_code == 400
    assert "more than 1024 gzip files in a row" in answer.text


def test_a_byte_order_mark_is_passed_over(served: Served):
    assert served.post("/v1/embeddings", b"\xef\xbb\xbf" + BODY).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty; send JSON with the fields: input, model"),
        (b" \r\n", "the body is empty"),
        (BODY.decode().encode("utf-16"), "it is UTF-16 (it begins with a byte order mark); send UTF-8"),
        (BODY.decode().encode("utf-16-le"), "it is UTF-16; send UTF-8"),
        (BODY.decode().encode("utf-32"), "it is UTF-32 (it begins with a byte order mark); send UTF-8"),
        (b'{"input": "\xb0\xa1"}', "a text is not UTF-8: invalid start byte 0xb0"),
        (rb'{"input": "a\ud83d"}', "half a surrogate pair (byte 12)"),
        (rb'{"input": "\ude00 and more of it"}', "half a surrogate pair (byte 11)"),
        (rb'{"input": "\ud83d\ude00\ud83d and more"}', "half a surrogate pair (byte 23)"),
        (b'{"input": "a"', "truncated"),
        (b'{"input": "a"}}', "trailing characters"),
    ],
)
def test_what_is_no_json_is_called_what_it_is(body: bytes, message: str):
    with pytest.raises(ServeError) as caught:
        parse(body, EmbeddingsRequest)
    assert message in str(caught.value)
    assert caught.value.kind == "malformed"


def test_a_whole_surrogate_pair_is_a_character():
    assert parse(rb'{"input": "\ud83d\ude00"}', EmbeddingsRequest).input == "\U0001f600"


@pytest.mark.parametrize(
    ("shape", "body", "param", "message"),
    [
        (EmbeddingsRequest, {"inputs": "a"}, "inputs", "no field 'inputs', did you mean 'input'?"),
        (EmbeddingsRequest, {"input": "a", "temperature": 1}, "temperature", "the fields are: input, model, enc"),
        (EmbeddingsRequest, {}, "input", "the field 'input' is missing"),
        (EmbeddingsRequest, {"input": "a", "encoding_format": "int8"}, "encoding_format",
         "encoding_format must be one of base64, float, not 'int8'"),
        (EmbeddingsRequest, {"input": "a", "input_type": "search_query"}, "input_type",
         "input_type must be one of document, passage, query"),
        (EmbeddingsRequest, {"input": ["a", None]}, "input[1]", "input[1]: expected"),
        (EmbeddingsRequest, [], None, "the body: expected `object`, got `array`"),
        (SimilarityRequest, {"inputs": {"source_sentence": "a"}}, "inputs.sentences",
         "the field 'inputs.sentences' is missing"),
        (SimilarityRequest, {"inputs": {"source_sentence": "a", "sentence": []}}, "inputs.sentence",
         "no field 'sentence' in inputs, did you mean 'sentences'? The fields are: source_sentence, sentences"),
        (SimilarityRequest, {"inputs": {"source_sentence": "a", "sentences": ["b"]},
                             "parameters": {"truncation_direction": "up"}}, "parameters.truncation_direction",
         "parameters.truncation_direction must be one of Left, Right, left, right, not 'up'"),
    ],
)  # fmt: skip
def test_messages_name_the_field_and_what_it_may_be(shape: Any, body: Any, param: str | None, message: str):
    with pytest.raises(ServeError) as caught:
        parse(json.dumps(body).encode(), shape)
    assert message in str(caught.value)
    assert (caught.value.kind, caught.value.param) == ("invalid", param)


@pytest.mark.parametrize(
    "body",
    [
        {"input": "a", "k" * 2_000_000: 1},
        {"input": "a", " - at `$" * 250_000 + "\n": 1},  # the search for the field's path took hours, on the event loop
        {"input": "a", "encoding_format": "f" * 2_000_000},
        {"input": "a", "model": "m" * 2_000_000},
        {"input": "a", "input_type": "query", "task": "t" * 2_000_000},  # would stand before each text
        {"input": ["a"], "dimensions": 10**4000},
    ],
)
def test_errors_do_not_repeat_all_that_is_wrong(served: Served, body: dict[str, Any]):
    answer = served.post("/v1/embeddings", body)
    assert answer.status_code == 400
    assert len(answer.content) < 1500


def test_a_long_name_keeps_its_beginning_and_what_it_is():
    with pytest.raises(ServeError, match=r"^there is no field 'k{150,}\.\.\.k+'; the fields are: input, model"):
        parse(json.dumps({"input": "a", "k" * 5000: 1}).encode(), EmbeddingsRequest)
    with pytest.raises(ServeError, match=r"^model: expected `str` of length <= 1024$"):
        parse(json.dumps({"input": "a", "model": "m" * 1025}).encode(), EmbeddingsRequest)


def test_null_in_fields_that_nobody_knows_is_passed_over():
    read = parse(b'{"service_tier": null, "input": ["a"], "model": null, "extra": null}', EmbeddingsRequest)
    assert read == EmbeddingsRequest(input=["a"])
    with pytest.raises(ServeError, match="no field 'extra'"):
        parse(b'{"service_tier": null, "input": "a", "extra": 0}', EmbeddingsRequest)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "Application/JSON"}, 200),
        ({"Content-Type": "application/vnd.api+json"}, 200),
        ({}, 200),
        ({"Origin": "https://a.example"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "text/plain; application/json"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ],
)
def test_only_what_is_called_json_is_taken(served: Served, headers: dict[str, str], status: int):
    """The types that a page of another origin may send without asking first (and none at all) are refused."""
    for path in ("/v1/embeddings", "/embed"):
        body = BODY if path.startswith("/v1") else b'{"inputs": "the water"}'
        answer = served.client.post(path, content=body, headers=headers)
        assert answer.status_code == status
        assert status == 200 or "Content-Type: application/json" in answer.text


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_gets_its_answer_from_clients_that_send_first(lookup_bundle: Path, chunked: bool):
    with serving(lookup_bundle, body_mb=1) as server:
        host, port = server.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        size = 7_000_000
        body: Any = (b"x" * 100_000 for _ in range(size // 100_000)) if chunked else b"x" * size
        connection.request("POST", "/embed", body, {"Content-Type": "application/json"}, encode_chunked=chunked)
        answer = connection.getresponse()
        assert (answer.status, b"1000000 bytes" in answer.read()) == (413, True)
        connection.request("GET", "/health")  # nothing of it is left on the connection
        assert connection.getresponse().status == 200
        connection.close()


def test_a_client_that_waits_for_leave_gets_413_and_sends_nothing(lookup_bundle: Path):
    with serving(lookup_bundle, body_mb=0.001) as server:
        host, port = server.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        connection.putrequest("POST", "/embed")
        connection.putheader("Expect", "100-continue")
        connection.putheader("Content-Length", str(10**12))
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_node_sees_413(lookup_bundle: Path):
    program = """
        const body = 'x'.repeat(7e6), headers = {'Content-Type': 'application/json'};
        const answer = await fetch(process.argv[1], {method: 'POST', headers, body});
        console.log(answer.status, (await answer.json()).error_type);
    """
    with serving(lookup_bundle, body_mb=1) as server:
        command = ["node", "--input-type=module", "-e", program, f"{server.url}/embed"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=os.environ)
        assert shown.stdout == "413 Validation\n"


@pytest.mark.parametrize("before", [0, 65_520, 65_530, 65_536, 200_000])
@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00"])
def test_half_a_pair_is_found_wherever_it_stands(before: int, half: str):
    body = b'{"input":"' + b"\\ud83d\\ude00" * (before // 12) + b"a" * (before % 12) + half.encode() + b' b"}'
    with pytest.raises(ServeError, match=rf"half a surrogate pair \(byte {10 + before}\)"):
        parse(body, EmbeddingsRequest)
    parse(body.replace(half.encode() + b" ", b"\\ud83d\\ude00"), EmbeddingsRequest)
