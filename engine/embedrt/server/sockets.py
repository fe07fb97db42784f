"""Where the server listens: at a port, or at a Unix socket, a file that only programs of this machine can reach."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from embedrt.errors import OptionError
from embedrt.server.logs import log
from embedrt.server.settings import LOOPBACK, Settings

BACKLOG = 2048


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The socket that the settings name, for a `with` block; a Unix socket's file goes with it.

    Raises:
        OptionError: the address cannot be used.
    """
    if not settings.uds:
        with listen(settings, settings.port) as listener:
            yield listener
        return
    path = Path(settings.uds).expanduser()
    with _listen_at(path) as listener:
        made = path.lstat()
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(made, path.lstat()):  # no other server has put its own there meanwhile
                    path.unlink()


def listen(settings: Settings, port: int, *, shared: bool = False) -> socket.socket:
    """A socket to serve at; `shared` by several processes that open it each for itself.

    Raises:
        OptionError: the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((settings.host, port))
        listener.listen(BACKLOG)
    except OSError as exc:
        raise OptionError(f"cannot listen at {settings.host}:{port}: {exc.strerror or exc}") from exc
    listener.set_inheritable(True)
    return listener


def _listen_at(path: Path) -> socket.socket:
    """A Unix socket. Who may write to its file may use the server: its mode follows the umask, as that of any file."""
    if not hasattr(socket, "AF_UNIX"):
        raise OptionError("uds: this system has no Unix sockets; give host and port")
    _make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise OptionError(f"cannot listen at {path}: {exc.strerror or exc}") from exc
    listener.set_inheritable(True)
    return listener


def _make_room(path: Path) -> None:
    """Remove what a server that was killed has left there.

    Raises:
        OptionError: somebody listens at it, or it is something else.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # bind says what is wrong, if anything is
    if not stat.S_ISSOCK(mode):
        raise OptionError(f"uds: {path} is there and is no socket; remove it, or give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as exc:
            raise OptionError(f"uds: {path} is a socket that cannot be asked: {exc.strerror or exc}") from exc
    raise OptionError(f"uds: another program listens at {path}; stop it, or give another path")


def address_of(settings: Settings, listener: socket.socket) -> str:
    """Where clients reach the server."""
    if settings.uds:
        return f"unix:{listener.getsockname()}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.ssl_certfile else 'http'}://{host}:{listener.getsockname()[1]}"


def announce(settings: Settings, listener: socket.socket) -> None:
    """Say where the server is, and warn when everybody may use it."""
    log("listening", address=address_of(settings, listener), workers=settings.workers)
    if not settings.uds and settings.host not in LOOPBACK and not (settings.api_keys or settings.api_key_file):
        log("open to the network without API keys: set api_key_file, or host 127.0.0.1", level=30, host=settings.host)
