"""Keys, headers, CORS, metrics and logs."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import httpx
import pytest

from embedrt.errors import FileFormatError
from embedrt.server.keys import ApiKeys
from embedrt.server.logs import _JsonFormatter, _TextFormatter
from tests.server.serving import Served, serving, wait_until


def test_any_of_several_keys_opens_the_api_and_nothing_else_does(lookup_bundle: Path, tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("# of the staff\nfrom-file\n")
    with serving(lookup_bundle, api_keys=("one", "two"), api_key_file=str(file)) as server:
        for key in ("one", "two", "from-file"):
            assert server.get("/v1/models", Authorization=f"Bearer {key}").status_code == 200
        for header in ({}, {"Authorization": "Bearer three"}, {"Authorization": "one"}, {"Authorization": "Basic one"}):
            refused = server.get("/v1/models", **header)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        assert server.post("/", {"inputs": "a"}).status_code == 401
        assert server.get("/metrics").status_code == 401
        for path in ("/health/live", "/health/ready", "/", "/docs"):
            assert server.get(path).status_code == 200


def test_the_key_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("old\n")
    keys = ApiKeys((), str(file))
    assert keys.wanted
    assert keys.accepts("Bearer old")
    file.write_text("new key\n")
    os.utime(file, ns=(1, 1))
    assert keys.refresh()
    assert keys.accepts("bearer new key")
    assert not keys.accepts("Bearer old")
    assert not keys.refresh()
    file.unlink()
    with pytest.raises(FileFormatError, match="cannot be read"):
        keys.refresh()
    assert keys.accepts("Bearer new key")


@pytest.mark.parametrize("content", ["", "# only a comment\n\n"])
def test_a_key_file_without_keys_is_an_error_and_no_open_door(tmp_path: Path, content: str):
    (tmp_path / "keys").write_text(content)
    with pytest.raises(FileFormatError, match="holds no key"):
        ApiKeys((), str(tmp_path / "keys"))


def test_request_ids_come_back_if_they_are_harmless(served: Served):
    assert served.get("/health", **{"X-Request-Id": "abc-1.2:3"}).headers["x-request-id"] == "abc-1.2:3"
    made = served.get("/health", **{"X-Request-Id": "a b"}).headers["x-request-id"]
    assert len(made) == 32


def test_cors_is_off_unless_told(served: Served, lookup_bundle: Path):
    ask = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in served.client.options("/embed", headers=ask).headers
    with serving(lookup_bundle, cors_origins=("https://a.example",)) as server:
        allowed = server.client.options("/embed", headers=ask)
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        other = server.client.options("/embed", headers=ask | {"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


def test_metrics_count_what_happened(lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32") as server:
        server.post("/embed", {"inputs": ["the water", "a", "stone " * 50]})
        server.post("/embed", {"inputs": []})
        server.get("/no/such/path/1")
        wait_until(lambda: 'route="other"' in server.get("/metrics").text)
        rows = dict(
            line.rsplit(" ", 1) for line in server.get("/metrics").text.splitlines() if not line.startswith("#")
        )
    assert rows['embedrt_requests_total{route="/embed",status="200"}'] == "1.0"
    assert rows['embedrt_requests_total{route="/embed",status="400"}'] == "1.0"
    assert rows['embedrt_errors_total{kind="empty"}'] == "1.0"
    assert rows['embedrt_texts_total{model="lookup"}'] == "3.0"
    assert rows['embedrt_tokens_total{model="lookup"}'] == "39.0"
    assert rows['embedrt_truncated_texts_total{model="lookup"}'] == "1.0"
    assert rows['embedrt_padding_tokens_total{model="lookup"}'] == "1.0"  # 3 and 4 tokens run together
    assert float(rows["embedrt_resident_memory_bytes"]) > 1e7
    assert float(rows["embedrt_threads"]) >= 2
    assert not any("/no/such" in name for name in rows)


def test_logs_hold_no_texts(served: Served, caplog: pytest.LogCaptureFixture):
    logger = logging.getLogger("embedrt.server")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.DEBUG)
    try:
        for body in ({"input": "zebra water"}, {"input": ["zebra", 1]}, {"input": "a", "task": "zebra"}, b"zebra"):
            served.post("/v1/embeddings", body)
        served.get("/zebra?zebra=1")
        wait_until(lambda: sum(r.getMessage() == "request" for r in caplog.records) >= 5)
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(logging.NOTSET)
    for formatter in (_JsonFormatter(), _TextFormatter()):
        lines = [formatter.format(record) for record in caplog.records]
        assert not any("zebra" in line for line in lines)
        assert any("texts" in line and "200" in line for line in lines)
        assert any("malformed" in line for line in lines)


@pytest.mark.parametrize(
    "path", ["/v1/embeddings/", "//v1/embeddings", "/v1//embeddings//", "/embeddings", "/embeddings/"]
)
def test_paths_as_clients_join_them(served: Served, path: str):
    answer = served.client.post(path, json={"input": "a"}, headers={"X-Forwarded-Proto": "https"})
    assert (answer.status_code, "location" in answer.headers) == (200, False)


def test_a_slash_at_the_end_of_models_names_no_model(served: Served):
    for path in ("/v1/models/", "/models"):
        assert len(served.get(path).json()["data"]) == 3
    assert served.get("/v1/models/lookup/").json()["id"] == "lookup"


def test_no_spelling_of_a_path_goes_around_the_keys(lookup_bundle: Path):
    with serving(lookup_bundle, api_keys=("one",)) as server:
        for path in (
            "//v1/models",
            "/v1/models/",
            "/health/../v1/models",
            "/static/../v1/models",
            "/health//..//metrics",
        ):
            assert httpx.get(f"{server.url}{path}").status_code in (401, 404), path
            assert send_path(server, path) in (401, 404), path


def send_path(server: Served, path: str) -> int:
    """The status for a path that no client library has cleaned."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return int(sock.recv(4096).split()[1])


def test_errors_name_the_path_and_the_methods(served: Served):
    assert "there is no path /v1/embedding; see /docs" in served.post("/v1/embedding", {"input": "a"}).text
    assert "GET is not allowed at /embed, but POST" in served.get("/embed").text


def test_a_key_file_may_begin_with_a_byte_order_mark(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbffirst\r\nsecond\r\n")
    keys = ApiKeys((), str(file))
    assert keys.accepts("Bearer first")
    assert keys.accepts("Bearer second")
    file.write_bytes("first\n".encode("utf-16"))
    with pytest.raises(FileFormatError, match="is not UTF-8"):
        ApiKeys((), str(file))
    with pytest.raises(FileFormatError, match="nowhere cannot be read: No such file"):
        ApiKeys((), str(tmp_path / "nowhere"))
