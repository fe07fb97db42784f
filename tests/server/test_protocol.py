"""Offers of other protocols, as Java's HttpClient and curl send them: they are passed over, and no body is lost."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.server.serving import Served

BODY = b'{"input":"the water"}'
OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\n",
    "closing": b"Connection: close, Upgrade\r\nUpgrade: TLS/1.3\r\n",
}


def head(*lines: bytes, path: bytes = b"/v1/embeddings", method: bytes = b"POST") -> bytes:
    return (
        method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + b"".join(lines)
    )


def sized(offer: bytes, body: bytes = BODY) -> bytes:
    return head(offer, b"Content-Length: %d\r\n\r\n" % len(body)) + body


def chunked(offer: bytes) -> bytes:
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:5], BODY[5:]))
    return head(offer, b"Transfer-Encoding: chunked\r\n\r\n") + pieces + b"0\r\n\r\n"


def exchange(served: Served, parts: Iterable[bytes], answers: int = 1) -> list[tuple[int, bytes]]:
    """Send the parts, each by itself; statuses and bodies of the answers."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            sock.sendall(part)
            time.sleep(0.001)
        data, found = b"", []
        while len(found) < answers:
            received = sock.recv(65536)
            assert received, data
            data += received
            while (gap := data.find(b"\r\n\r\n")) >= 0:
                size = int(re.search(rb"content-length: (\d+)", data[:gap], re.I)[1])
                if len(data) < gap + 4 + size:
                    break
                found.append((int(data.split()[1]), data[gap + 4 : gap + 4 + size]))
                data = data[gap + 4 + size :]
    return found


def vector(served: Served) -> list[float]:
    return served.post("/v1/embeddings", json.loads(BODY)).json()["data"][0]["embedding"]


@pytest.mark.parametrize("build", [sized, chunked])
@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_of_another_protocol_is_passed_over_and_the_body_kept(served: Served, offer: str, build):
    whole = build(OFFERS[offer])
    gap = whole.index(b"\r\n\r\n") + 4
    for parts in ([whole], [whole[:gap], whole[gap:]], [whole[: gap + 3], whole[gap + 3 :]]):
        ((status, body),) = exchange(served, parts)
        assert status == 200, body
        assert json.loads(body)["data"][0]["embedding"] == vector(served)


def test_byte_by_byte(served: Served):
    whole = sized(OFFERS["h2c"])
    ((status, body),) = exchange(served, [whole[i : i + 1] for i in range(len(whole))])
    assert status == 200, body


def test_the_connection_goes_on_after_it(served: Served):
    """Several on one connection, one after the other and at once, with and without an offer."""
    both = sized(OFFERS["h2c"]) + sized(b"") + chunked(OFFERS["websocket"])
    assert [status for status, _ in exchange(served, [both], answers=3)] == [200, 200, 200]
    assert [status for status, _ in exchange(served, [sized(OFFERS["h2c"]), sized(b"")], answers=2)] == [200, 200]


def test_a_body_that_is_left_over_is_not_taken_for_a_request(served: Served):
    """What was a body must not be read as a request of its own."""
    inner = head(path=b"/v1/models", method=b"GET") + b"\r\n"
    ((status, body),) = exchange(served, [sized(OFFERS["h2c"], inner)])
    assert (status, b"not JSON" in body) == (400, True)


def test_connect_and_garbage_are_refused(served: Served):
    host, port = served.url.removeprefix("http://").split(":")
    for sent in (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n\x16\x03", b"\x16\x03\x01 what\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall(sent)
            data = b""
            while received := sock.recv(4096):
                data += received
            assert data.startswith(b"HTTP/1.1 400 ") or not data
    assert served.get("/health").status_code == 200


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_with_http2(served: Served):
    command = ["curl", "-s", "-w", "%{http_code}", "--http2", f"{served.url}/v1/embeddings"]
    options = ["-H", "Content-Type: application/json", "-d", BODY.decode()]
    assert subprocess.run([*command, *options], capture_output=True, text=True).stdout.endswith("200")


JAVA = """
import java.net.URI;
import java.net.http.*;
public class Ask {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create(args[0]))
            .header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofString(args[1])).build();
        for (int i = 0; i < 2; i++) {
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
        }
    }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("java"), reason="java is not installed")
def test_javas_own_client_by_its_defaults(served: Served, tmp_path: Path):
    (tmp_path / "Ask.java").write_text(JAVA)
    command = ["java", str(tmp_path / "Ask.java"), f"{served.url}/v1/embeddings", BODY.decode()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    assert [json.loads(line)["data"][0]["embedding"] for line in shown] == [vector(served)] * 2
