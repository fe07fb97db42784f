"""Headers that are for one hop, addresses, pins: what is taken and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from embedrt.errors import OptionError
from embedrt.routing.address import addresses_of, parse_address
from embedrt.routing.headers import passed_on
from embedrt.server.pins import parse_pins


def test_headers_of_one_hop_stay() -> None:
    given = [
        (b"Host", b"a"), (b"Connection", b"X-Secret, close"), (b"x-secret", b"1"), (b"Transfer-Encoding", b"chunked"),
        (b"Authorization", b"Bearer k"), (b"Content-Length", b"3"), (b"X-Double", b"1"), (b"X-Double", b"2"),
        (b"Upgrade", b"h2c"), (b"Expect", b"100-continue"), (b"Keep-Alive", b"timeout=5"), (b"TE", b"trailers"),
    ]  # fmt: skip
    assert passed_on(given) == [
        (b"authorization", b"Bearer k"), (b"content-length", b"3"), (b"x-double", b"1"), (b"x-double", b"2"),
    ]  # fmt: skip


def test_connection_cannot_take_the_length_away() -> None:
    given = [(b"connection", b"content-length"), (b"content-length", b"3")]
    assert passed_on(given) == [(b"content-length", b"3")]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("http://10.0.0.5:8080", ("http://10.0.0.5:8080", "10.0.0.5", 8080, False)),
        ("http://embedrt/", ("http://embedrt:80", "embedrt", 80, False)),
        ("https://e.example", ("https://e.example:443", "e.example", 443, True)),
        ("http://[::1]:8080", ("http://[::1]:8080", "::1", 8080, False)),
    ],
)
def test_addresses(text: str, wanted: tuple[str, str, int, bool]) -> None:
    found = parse_address(text)
    assert (found.text, found.host, found.port, found.tls) == wanted


def test_a_unix_socket() -> None:
    assert parse_address("unix:/run/embedrt.sock").path == "/run/embedrt.sock"


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.5:8080", "ftp://a", "http://", "http://a/v1", "http://a?x=1", "http://k@a", "http://a:99999",
     "http://a:x", "unix:"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"address|http|give scheme"):
        parse_address(text)


def test_each_address_of_a_name_is_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(0, 0, 0, "", (host, 81)) for host in ("10.0.0.6", "10.0.0.5", "10.0.0.5", "fd00::1")]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: rows)
    found = asyncio.run(addresses_of(parse_address("https://pods:81")))
    assert [one.text for one in found] == ["https://10.0.0.5:81", "https://10.0.0.6:81", "https://[fd00::1]:81"]
    assert {one.server_name for one in found} == {"pods:81"}  # what the certificate and Host say


def test_pins() -> None:
    assert parse_pins(("m=abc", "a=b=c")) == {"m": "abc", "a=b": "c"}
    for wrong in (("m",), ("=abc",), ("m=",), ("m=a", "m=b")):
        with pytest.raises(OptionError, match="identity"):
            parse_pins(wrong)
