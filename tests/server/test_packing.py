"""Answers in gzip and zstd."""

from __future__ import annotations

import gzip
import http.client
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import zstandard

from embedrt.server.packing import choose
from tests.server.serving import Served, serving

LEAST = 2_000
LARGE = {"inputs": [f"water {k}" for k in range(100)]}


@pytest.fixture(scope="module")
def packing(lookup_bundle: Path) -> Iterator[Served]:
    with serving(lookup_bundle, variant="fp32", compress_kb=LEAST / 1e3) as made:
        yield made


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),  # what httpx sends
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("zstd;q=0, gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("*", "zstd"),
        ("*;q=0", ""),
        ("gzip;q=0", ""),
        ("identity, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip", "gzip"),
        ("br, deflate", ""),
        ("gzip;q=nonsense", ""),
        (";;,,q=", ""),
    ],
)
def test_what_the_client_likes_best_is_chosen(accept: str, chosen: str):
    assert choose(accept) == chosen


def raw(
    server: Served, path: str, body: dict[str, object], accept: str, version: int = 11
) -> tuple[dict[str, str], bytes]:
    """Headers, in small letters, and the body as it came."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    connection._http_vsn, connection._http_vsn_str = version, f"HTTP/1.{version % 10}"  # type: ignore[attr-defined]
    content = httpx.Request("POST", server.url, json=body).content
    headers = {"Content-Type": "application/json", "Accept-Encoding": accept}
    connection.request("POST", path, content, headers)
    answer = connection.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    data = answer.read()
    connection.close()
    return found, data


UNPACK = {
    "gzip": gzip.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(),
}


@pytest.mark.parametrize("encoding", UNPACK)
@pytest.mark.parametrize("path", ["/embed", "/openai/deployments/lookup/embeddings"])
def test_a_large_answer_is_packed(packing: Served, encoding: str, path: str):
    body = LARGE if path == "/embed" else {"input": LARGE["inputs"]}
    headers, data = raw(packing, path, body, encoding)
    plain_headers, plain = raw(packing, path, body, "identity")
    assert headers["content-encoding"] == encoding
    assert UNPACK[encoding](data) == plain
    assert int(headers["content-length"]) == len(data) < len(plain)
    assert "content-encoding" not in plain_headers
    assert headers["vary"] == plain_headers["vary"] == "accept-encoding"
    assert int(headers["x-embedrt-tokens"]) > 0


@pytest.mark.parametrize("version", [10, 11])
def test_an_answer_in_pieces_is_packed(packing: Served, version: int):
    body = {"inputs": [f"{k} " + "water stone " * 14 for k in range(600)]}
    headers, data = raw(packing, "/embed_all", body, "gzip", version)
    _, plain = raw(packing, "/embed_all", body, "identity", version)
    assert len(plain) > 500_000  # pieces have half as much
    assert headers["content-encoding"] == "gzip"
    assert ("content-length" in headers) is (version == 10)
    assert gzip.decompress(data) == plain


def test_a_small_answer_is_as_it_was(packing: Served):
    headers, data = raw(packing, "/embed", {"inputs": "water"}, "gzip")
    assert "content-encoding" not in headers
    assert len(data) < LEAST
    assert data.startswith(b"[[")


def test_a_client_that_knows_nothing_of_it_reads_the_same(packing: Served, served: Served):
    assert packing.post("/embed", LARGE).json() == served.post("/embed", LARGE).json()


def test_errors_and_probes_are_answered(packing: Served):
    assert packing.post("/embed", {"inputs": []}).status_code == 400
    assert packing.get("/health/live").json() == {"status": "live"}
    assert packing.get("/metrics").status_code == 200
    assert packing.client.head("/health/live").status_code in (200, 405)


def test_nothing_is_packed_unless_it_is_asked_for(served: Served):
    headers, data = raw(served, "/embed", LARGE, "gzip, zstd")
    assert not {"content-encoding", "vary"} & set(headers)
    assert len(data) > LEAST
