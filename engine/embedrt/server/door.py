"""Which connections are let in when there are many. Pure: numbers and addresses in, what to do out."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache

from embedrt.server.shares import Shares

_SAME_NETWORK = 64  # bits of an IPv6 address that one client has for itself


@lru_cache(4096)
def client_of(address: str) -> str:
    """Who an address is: all of an IPv6 network that one client gets are one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> _SAME_NETWORK << _SAME_NETWORK, _SAME_NETWORK)).network_address)


@dataclass(frozen=True)
class Entry:
    """What becomes of a connection that comes: is it let in, and which other one is closed for it."""

    allowed: bool
    closes: int | None = None


@dataclass
class _Client:
    """A client's connections that wait for a request, the one that has waited longest first."""

    idle: dict[int, None] = field(default_factory=dict)


class Door:
    """Counts connections, in all and per client.

    Where there is no room, the connection that has waited longest for a request of its client is closed for a new one:
    of the same client if that one has its share, else of the client with most. None that is at work is closed.
    """

    def __init__(self, limit: int) -> None:
        self.shares = Shares(limit)
        self._clients: dict[str, _Client] = {}
        self._owners: dict[int, str] = {}

    def enter(self, number: int, client: str) -> Entry:
        """A connection comes, and waits for its first request."""
        closes = None
        if not self.shares.allows(client, 1):
            closes = self._oldest_idle(client)
            if closes is None and not self.shares.held(client):
                closes = self._oldest_idle(str(self.shares.largest()))
            if closes is None:
                return Entry(False)
            self.leave(closes)
        self._owners[number] = client
        self.shares.take(client, 1)
        self.waits(number)
        return Entry(True, closes)

    def waits(self, number: int) -> None:
        """The connection waits for a request from now on."""
        client = self._owners.get(number)
        if client is not None:
            idle = self._clients.setdefault(client, _Client()).idle
            idle.pop(number, None)
            idle[number] = None

    def works(self, number: int) -> None:
        """The connection has a request."""
        client = self._owners.get(number)
        if client is not None:
            self._clients[client].idle.pop(number, None)

    def leave(self, number: int) -> None:
        """The connection is closed."""
        client = self._owners.pop(number, None)
        if client is None:
            return
        self._clients[client].idle.pop(number, None)
        self.shares.give(client, 1)
        if not self.shares.held(client):
            del self._clients[client]

    def _oldest_idle(self, client: str) -> int | None:
        found = self._clients.get(client)
        return next(iter(found.idle), None) if found is not None else None
