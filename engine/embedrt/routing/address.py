"""Where a server is: http://HOST:PORT, https://HOST:PORT, or unix:PATH."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, replace
from functools import cache
from urllib.parse import urlsplit

from embedrt.errors import OptionError

_PORTS = {"http": 80, "https": 443}
_READ_BYTES = 64 * 1024


@dataclass(frozen=True)
class Address:
    """One server's."""

    text: str  # for logs and metrics
    host: str = ""  # name or IP address; "" with a path
    port: int = 0
    tls: bool = False
    path: str = ""  # of a Unix socket
    server_name: str = ""  # what Host and the certificate say

    async def connect(self, timeout_s: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection: OSError (TimeoutError is one), ssl.SSLError where that fails."""
        async with asyncio.timeout(timeout_s):
            if self.path:
                return await asyncio.open_unix_connection(self.path, limit=_READ_BYTES)
            context = _trust() if self.tls else None
            name = self.server_name.rpartition(":")[0].strip("[]") if self.tls else None
            return await asyncio.open_connection(
                self.host, self.port, limit=_READ_BYTES, ssl=context, server_hostname=name
            )


@cache  # reading a system's certificates takes longer than a handshake
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def parse_address(text: str) -> Address:
    """The address that `text` says.

    Raises:
        OptionError: it says none, or more than an address.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise OptionError("a server's address is missing its path: unix:PATH")
        return Address(text, path=path, server_name="localhost")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise OptionError(f"{text!r} is no address of a server: {exc}") from exc
    if parts.scheme not in _PORTS or not parts.hostname:
        raise OptionError(f"{text!r} is no address of a server; give http://HOST:PORT, https://HOST:PORT or unix:PATH")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise OptionError(f"{text!r}: give scheme, host and port only; paths and keys come from clients")
    port = _PORTS[parts.scheme] if port is None else port
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    name = f"{host}:{port}"
    return Address(f"{parts.scheme}://{name}", parts.hostname, port, parts.scheme == "https", server_name=name)


async def addresses_of(address: Address) -> list[Address]:
    """Each IP address that the host's name has, as a server of its own: OSError where it has none."""
    if not address.host:
        return [address]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    hosts = sorted({str(row[4][0]) for row in found})
    scheme = address.text.partition(":")[0]
    return [
        replace(address, text=f"{scheme}://{f'[{host}]' if ':' in host else host}:{address.port}", host=host)
        for host in hosts
    ]
