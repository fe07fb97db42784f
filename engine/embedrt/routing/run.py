"""Run the front in this process: sockets, signals, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import signal

from embedrt.errors import EmbedrtError
from embedrt.routing.address import parse_address
from embedrt.routing.agreement import Agreement
from embedrt.routing.app import FrontApp
from embedrt.routing.fleet import Fleet
from embedrt.routing.settings import FrontSettings
from embedrt.server.files import allow_files, room_for_connections
from embedrt.server.hosting import QuietServer, http_config, make_wire, on_signal, protocol_on, reread_certificate
from embedrt.server.logs import log, setup_logging
from embedrt.server.sockets import address_of, listen, listening
from embedrt.server.tls import bound_handshakes, check_certificate

_FILES_EACH = 2  # of a request: its client's connection and its server's


def make_front(settings: FrontSettings) -> FrontApp:
    """The application.

    Raises:
        OptionError: a server's address cannot be read.
    """
    fleet = Fleet(
        [parse_address(text) for text in settings.servers],
        settings.policy,
        Agreement(settings.identities),
        resolve=settings.resolve,
        check_s=settings.check_timeout_s,
    )
    return FrontApp(settings, fleet)


def run_front(settings: FrontSettings) -> int:
    """Listen, and send requests on until told to stop; the exit code.

    SIGTERM, SIGINT and SIGQUIT stop it; SIGHUP has it read its certificate again.

    Raises:
        OptionError: an address or a file cannot be used.
    """
    edge = settings.edge
    setup_logging(edge.log_format, edge.log_level)
    check_certificate(edge)
    app = make_front(settings)
    allow_files(_FILES_EACH * edge.connections)
    wire = make_wire(edge, lambda: room_for_connections(_FILES_EACH * edge.connections) // _FILES_EACH)
    config = http_config(app, protocol_on(wire), edge)
    server = QuietServer(config)
    with listening(edge) as listener:
        log("listening", address=address_of(edge, listener), servers=" ".join(settings.servers), policy=settings.policy)
        sockets = [listener, *([listen(edge, edge.metrics_port)] if edge.metrics_port else [])]

        async def main() -> None:
            loop = asyncio.get_running_loop()

            def stop() -> None:
                if not app.draining:
                    app.draining = True
                    log("stopping", drain_s=edge.drain_s, grace_s=edge.grace_s, requests=app.requests)
                    loop.call_later(edge.drain_s, setattr, server, "should_exit", True)

            def reload() -> None:
                try:
                    reread_certificate(config, edge)
                except EmbedrtError as exc:
                    log("certificate stays as it is", level=40, reason=str(exc))

            for name, act in (("SIGTERM", stop), ("SIGINT", stop), ("SIGQUIT", stop), ("SIGHUP", reload)):
                if hasattr(signal, name):
                    on_signal(loop, getattr(signal, name), act)
            if edge.ssl_certfile:
                bound_handshakes(loop, edge.header_timeout_s)
            await server.serve(sockets=sockets)

        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(main())
    log("stopped")
    return 0
