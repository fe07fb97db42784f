"""Run the server in this process: sockets, signals, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable

from embedrt.errors import EmbedrtError
from embedrt.server.accepting import Accounts, accept_in_turns
from embedrt.server.app import check_parts, make_app, make_service
from embedrt.server.files import allow_files, room_for_connections
from embedrt.server.hosting import QuietServer, http_config, make_wire, on_signal, protocol_on, reread_certificate
from embedrt.server.logs import log, setup_logging
from embedrt.server.models import NamedBundle, open_bundles, parse_aliases
from embedrt.server.notify import Notifier
from embedrt.server.pins import parse_pins
from embedrt.server.service import Service
from embedrt.server.settings import Settings
from embedrt.server.sockets import announce, listen, listening
from embedrt.server.tls import bound_handshakes, check_certificate
from embedrt.server.workers import Supervisor

# Of more objects than were freed, until young ones are looked at; Python's 700 are ten requests.
_GC_ALLOCATIONS = 10_000


def bounded_protocol(service: Service) -> type[asyncio.Protocol]:
    """What makes the protocol of each connection; all of them share one account."""
    settings = service.settings
    service.wire = make_wire(settings, lambda: room_for_connections(settings.connections))
    return protocol_on(service.wire)


def serve_here(
    settings: Settings,
    listener: socket.socket,
    bundles: list[NamedBundle],
    beat: Callable[[], None] | None = None,
    notifier: Notifier | None = None,
    accounts: Accounts | None = None,
) -> int:
    """Serve until told to stop; the exit code: 0, or 1 when a model could not be loaded.

    SIGTERM, SIGINT and SIGQUIT stop it, SIGHUP has it read keys and certificate again, SIGUSR1 has it log its state.

    Args:
        settings, listener, bundles: what to serve, and where.
        beat: called every second, as long as the event loop turns.
        notifier: told what the server does; nobody is if there is a supervisor, who tells for all.
        accounts: of the connections of this worker and of the others, where there are any.
    """
    allow_files(settings.connections)
    service = make_service(settings)
    sockets = [listener]
    if settings.metrics_port:  # each worker has one of its own, and any answers for all
        sockets.append(listen(settings, settings.metrics_port, shared=settings.workers > 1))
    failures: list[str] = []

    def fail(reason: str) -> None:
        log("cannot serve", level=40, reason=reason)
        failures.append(reason)
        server.should_exit = True

    config = http_config(make_app(service, bundles, fail), bounded_protocol(service), settings)
    server = QuietServer(config)

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if not service.health.draining:
                service.health.draining = True
                if notifier is not None:
                    notifier.stopping()
                log("stopping", drain_s=settings.drain_s, grace_s=settings.grace_s)
                loop.call_later(settings.drain_s, setattr, server, "should_exit", True)

        def reload() -> None:
            try:
                if service.keys.refresh(always=True):
                    log("API keys were read again")
                reread_certificate(config, settings)
            except EmbedrtError as exc:
                log("keys and certificate stay as they are", level=40, reason=str(exc))

        def tell() -> None:
            state = service.process_state()
            waiting = sum(engine.waiting_tokens for engine in service.models)
            log("state", connections=state.connections, requests=state.requests, held_bytes=state.held_bytes,
                queue_tokens=waiting, ready=service.health.why_not_ready() or "yes")  # fmt: skip

        for name, act in (
            ("SIGTERM", stop),
            ("SIGINT", stop),
            ("SIGQUIT", stop),
            ("SIGHUP", reload),
            ("SIGUSR1", tell),
        ):
            if hasattr(signal, name):  # Windows has the first two
                on_signal(loop, getattr(signal, name), act)
        gc.set_threshold(_GC_ALLOCATIONS, *gc.get_threshold()[1:])
        service.health.told.append(_sparing())
        if beat is not None:
            service.health.beats.append(beat)
        if notifier is not None:
            service.health.told.append(notifier.readiness)
            service.health.beats.append(notifier.alive)
        if settings.ssl_certfile:
            bound_handshakes(loop, settings.header_timeout_s)
        if accounts is not None and service.wire is not None:
            service.wire.told = accounts.tell
            accept_in_turns(loop, listener, accounts)
        await server.serve(sockets=sockets)

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(main())
    log("stopped", longest_stall_ms=round(service.health.longest_stall_s * 1e3, 1))
    return 1 if failures else 0


def _sparing() -> Callable[[str | None], None]:
    """What spares the garbage collector all that was loaded, once it is told that nothing is missing anymore.

    The collector would look at all of it again and again.
    """
    done = False

    def spare(reason: str | None) -> None:
        nonlocal done
        if reason is None and not done:
            done = True
            gc.collect()
            gc.freeze()

    return spare


def serve(settings: Settings, notifier: Notifier | None = None) -> int:
    """Open the bundles, listen, and serve with one process or several; the exit code."""
    notifier = notifier or Notifier()
    setup_logging(settings.log_format, settings.log_level)
    bundles = open_bundles(settings.bundles)
    parse_aliases(settings.alias, bundles)  # what is wrong with them is said before anything is loaded
    parse_pins(settings.identity)
    check_certificate(settings)
    check_parts(settings)
    with listening(settings) as listener:
        announce(settings, listener)
        if settings.workers > 1:
            return Supervisor(settings, listener, notifier).run()
        return serve_here(settings, listener, bundles, notifier=notifier)
