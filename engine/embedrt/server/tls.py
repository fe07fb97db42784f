"""Certificates, checked before anything is loaded; and handshakes that have an end."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from pathlib import Path

from embedrt.errors import OptionError
from embedrt.server.settings import Settings


def check_certificate(settings: Settings) -> None:
    """See that certificate and key can be used; nothing without TLS.

    Raises:
        OptionError: one cannot be read, or they do not belong together; the message names the file.
    """
    if not settings.ssl_certfile:
        return
    for name, path in (("ssl_certfile", settings.ssl_certfile), ("ssl_keyfile", settings.ssl_keyfile)):
        try:
            Path(path).open("rb").close()
        except OSError as exc:
            raise OptionError(f"{name} {path} cannot be read: {exc.strerror}") from exc
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password="")  # or OpenSSL would ask for it
    except (ssl.SSLError, ValueError) as exc:
        raise OptionError(
            f"ssl_certfile {settings.ssl_certfile} and ssl_keyfile {settings.ssl_keyfile} cannot be used together: "
            f"{getattr(exc, 'reason', None) or exc}; both must be PEM, the key without a password"
        ) from exc


def bound_handshakes(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """Have handshakes, and the ends of TLS, of the servers of this loop time out; uvicorn leaves them 60 and 30 s.

    What is shaking hands is no connection yet to those who count them (`Door`): time is what bounds it.
    """
    timeouts = {"ssl_handshake_timeout": seconds, "ssl_shutdown_timeout": seconds}
    loop.create_server = partial(loop.create_server, **timeouts)  # type: ignore[method-assign]
