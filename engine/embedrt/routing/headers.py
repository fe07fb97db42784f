"""Which headers are for the next one only, and are not passed on (RFC 9110, 7.6.1). Pure."""

from __future__ import annotations

from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

# What says how a message is framed is written anew for each connection; Host and Date as well.
_FOR_ONE_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"http2-settings", b"expect", b"host", b"date",
})  # fmt: skip


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Those that go on, with names in small letters: all but the hop's own, and those that `Connection` names."""
    every = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in every if name == b"connection" for part in value.split(b",")} - {
        b"content-length"
    }
    return [(name, value) for name, value in every if name not in _FOR_ONE_HOP and name not in named]


def value_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first header of that name."""
    return next((value for key, value in headers if key == name), None)
