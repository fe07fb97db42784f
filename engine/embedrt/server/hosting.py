"""What a server and the front before servers have in common: how uvicorn is set up, and who hears signals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from embedrt.server.door import Door
from embedrt.server.intake import Intake
from embedrt.server.logs import log
from embedrt.server.protocol import HttpProtocol
from embedrt.server.settings import Settings
from embedrt.server.sockets import BACKLOG
from embedrt.server.tls import check_certificate
from embedrt.server.wire import Wire, WireLimits


class QuietServer(uvicorn.Server):
    """uvicorn's server, which leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would end the process by the signal itself; we exit with 0."""
        yield


def http_config(app: ASGIApp, protocol: type[asyncio.Protocol], settings: Settings) -> uvicorn.Config:
    """uvicorn's settings for an application behind a protocol of ours."""
    return uvicorn.Config(
        app,
        loop="auto",
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # uvicorn would believe anybody on this machine who says that he is somebody else
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
        ssl_certfile=settings.ssl_certfile or None,
        ssl_keyfile=settings.ssl_keyfile or None,
    )


def make_wire(settings: Settings, room: Callable[[], int]) -> Wire:
    """What the connections of a process share.

    Args:
        settings: how long and how large their requests may be.
        room: how many there may be, once the first one comes.
    """
    limits = WireLimits(
        head_s=settings.header_timeout_s,
        stall_s=settings.idle_timeout_s,
        answer_s=settings.answer_timeout_s,
        drain_bytes=int(settings.body_mb * 1e6),
    )
    return Wire(limits, lambda: Door(room()))


def protocol_on(wire: Wire) -> type[asyncio.Protocol]:
    """What makes the protocol of each connection."""

    def make(**given: Any) -> Intake:
        return Intake(HttpProtocol(**given, wire=wire), wire.buffer)

    return cast("type[asyncio.Protocol]", make)


def reread_certificate(config: uvicorn.Config, settings: Settings) -> None:
    """Have new connections use the certificate, if there is one, as it is now.

    Raises:
        OptionError: it cannot be used, and the old one stays.
    """
    if config.ssl is not None:
        check_certificate(settings)
        config.ssl.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
        log("certificate was read again")


def on_signal(loop: asyncio.AbstractEventLoop, number: int, act: Callable[[], None]) -> None:
    """Have the loop call `act` at a signal, also where loops cannot watch for signals themselves (Windows)."""
    try:
        loop.add_signal_handler(number, act)
    except NotImplementedError:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(act))
