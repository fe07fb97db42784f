"""Workers that accept from one socket have as many connections each."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import psutil

from embedrt.server.accepting import SERVES_NOT, Accounts, accept_in_turns
from tests.server.attacks import LIVE, ask
from tests.server.serving import wait_until
from tests.server.test_lifecycle import process


def test_who_has_more_than_another_worker_leaves_the_next_connection_to_it():
    held = [3, 2, SERVES_NOT]
    assert Accounts(held, 0).others_have_fewer()
    assert not Accounts(held, 1).others_have_fewer()
    Accounts(held, 1).tell(3)
    assert not Accounts(held, 0).others_have_fewer()


def test_a_connection_that_no_other_worker_takes_is_taken():
    """The one that should have it is stuck."""
    held = [1, 0]
    answered = b"there"

    class Greeting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(answered)
            transport.close()

    async def greet(listener: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        accept_in_turns(loop, listener, Accounts(held, 0))
        server = await loop.create_server(Greeting, sock=listener, backlog=8)
        held[0] = 1
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        found = await reader.read()
        writer.close()
        server.close()
        return found

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert asyncio.run(greet(listener)) == answered
    assert held[0] == SERVES_NOT


def test_two_workers_share_the_connections_that_come_at_once(tmp_path: Path, lookup_bundle: Path):
    with (
        process(tmp_path, lookup_bundle, "--variant", "fp32", "--workers", 2) as server,
        contextlib.ExitStack() as stack,
    ):
        workers = psutil.Process(server.process.pid).children()
        serving = [one for one in workers if "spawn_main" in " ".join(one.cmdline())]

        def counts() -> list[int]:
            return [
                sum(c.status == "ESTABLISHED" and c.laddr.port == server.port for c in one.net_connections())
                for one in serving
            ]

        def one_more() -> int:
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            return sum(counts())

        wait_until(lambda: len(server.events("ready")) == 2)
        wait_until(lambda: one_more() and min(counts()) > 0)  # the second one accepts a moment later
        before = sum(counts())
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        wait_until(lambda: sum(counts()) >= before + 40)
        assert max(counts()) - min(counts()) <= 2, counts()
        assert ask(server.port, LIVE)[0] == 200
