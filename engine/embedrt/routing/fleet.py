"""The servers: which of them may have requests, what each has to do, and the watch over them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from embedrt.routing.address import Address, addresses_of
from embedrt.routing.agreement import Agreement
from embedrt.routing.policy import Load, Policy, choose
from embedrt.routing.upstream import UnreachableError, Upstream
from embedrt.server.logs import log

_NOT_ASKED = "it was not asked yet"


@dataclass
class Server:
    """One server as the front knows it."""

    upstream: Upstream
    load: Load = field(default_factory=Load)
    why_out: str | None = _NOT_ASKED  # why it gets no requests; None where it may
    differs: bool = False  # it serves other identities than agreed

    @property
    def name(self) -> str:
        """What it is called in logs and metrics."""
        return self.upstream.address.text


class Fleet:
    """All servers.

    Args:
        addresses: where they are, or with `resolve` names of which each address is a server.
        policy: by what a server is chosen.
        agreement: on what they serve.
        resolve: look the names up again in each round.
        check_s: time to connect, and to say whether it is ready.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        policy: Policy = "tokens",
        agreement: Agreement | None = None,
        *,
        resolve: bool = False,
        check_s: float = 5.0,
    ) -> None:
        self._addresses = tuple(addresses)
        self._policy = policy
        self.agreement = agreement or Agreement()
        self._resolve = resolve
        self._check_s = check_s
        self._choices = 0
        self._disagreement: str | None = None
        self.on_gone: Callable[[str], None] = lambda _: None  # told the name of a server that is no more
        self.servers: dict[str, Server] = {}
        if not resolve:
            self._become(self._addresses)

    def choose(self, tried: Collection[str] = ()) -> Server | None:
        """The server for the next request, not one of those that were tried; None where there is none."""
        ready = [one for one in self.servers.values() if one.why_out is None and one.name not in tried]
        if not ready:
            return None
        found = ready[choose([one.load for one in ready], self._policy)]
        self._choices += 1
        found.load = replace(found.load, chosen=self._choices)
        return found

    def has_other(self, tried: Collection[str]) -> bool:
        """Whether a server is ready besides those that were tried."""
        return any(one.why_out is None and one.name not in tried for one in self.servers.values())

    @contextlib.contextmanager
    def working(self, server: Server, tokens: int) -> Iterator[None]:
        """Count a request among what a server has to do, for a `with` block."""
        self._add(server, tokens, 1)
        try:
            yield
        finally:
            self._add(server, -tokens, -1)

    def _add(self, server: Server, tokens: int, requests: int) -> None:
        load = server.load
        server.load = replace(load, tokens=load.tokens + tokens, requests=load.requests + requests)

    def take_out(self, server: Server, reason: str) -> None:
        """Send it nothing, until the watch finds it ready."""
        if server.why_out is None:
            log("server is out", level=30, server=server.name, reason=reason)
        elif server.why_out != reason:
            log("server stays out", level=30, server=server.name, reason=reason)
        server.why_out = reason
        server.upstream.close()

    def why_not_ready(self) -> str | None:
        """The reason, or None where at least one server may have requests. Names no server: clients may read it."""
        if any(one.why_out is None for one in self.servers.values()):
            return None
        return f"none of {len(self.servers)} servers is ready; the front's log says why"

    async def watch(self, every_s: float) -> None:
        """Ask all servers every `every_s` seconds, for ever; the first time after so long."""
        while True:
            await asyncio.sleep(every_s)
            await self.check()

    async def check(self) -> None:
        """Ask every server once whether it is ready and what it serves."""
        if self._resolve:
            await self._look_up()
        servers = list(self.servers.values())
        told = await asyncio.gather(*(self._ask(server) for server in servers))
        if self.agreement.settled is not None:
            return
        reason = self.agreement.settle(one for one in told if one is not None)
        if reason is not None and reason != self._disagreement:
            log("nothing is served", level=40, reason=reason)
        self._disagreement = reason
        for server, identities in zip(servers, told, strict=True):
            if identities is not None:
                self._judge(server, identities)

    async def _ask(self, server: Server) -> dict[str, str] | None:
        server.upstream.prune()
        try:
            connection, told = await server.upstream.ask()
        except UnreachableError as exc:
            self.take_out(server, str(exc))
            return None
        server.upstream.keep(connection)  # until it is judged, which closes it where it differs
        if self.agreement.settled is not None:  # else all are asked before any is judged
            self._judge(server, told)
        return told

    def _judge(self, server: Server, told: dict[str, str]) -> None:
        wrong = self.agreement.against(told)
        server.differs = wrong is not None
        if wrong is not None:
            self.take_out(server, wrong)
            return
        if server.why_out is not None:
            log("server is ready", server=server.name, identities=" ".join(f"{k}={v}" for k, v in told.items()))
        server.why_out = None

    async def _look_up(self) -> None:
        found: list[Address] = []
        for address in self._addresses:
            try:
                found += await addresses_of(address)
            except OSError as exc:
                log("name cannot be looked up", level=30, server=address.text, reason=exc.strerror or str(exc))
                return  # what was found before stays
        self._become(found)

    def _become(self, addresses: Sequence[Address]) -> None:
        wanted = {address.text: address for address in addresses}
        for name in [name for name in self.servers if name not in wanted]:
            log("server is no more", server=name)
            self.servers.pop(name).upstream.close()
            self.on_gone(name)
        for name, address in wanted.items():
            if name not in self.servers:
                upstream = Upstream(address, lambda told: self.agreement.against(told), self._check_s)
                self.servers[name] = Server(upstream)

    def close(self) -> None:
        """Close all connections that are not at work."""
        for server in self.servers.values():
            server.upstream.close()
