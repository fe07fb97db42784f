"""What a service manager is told by sd_notify(3): ready, alive, stopping. Lines in a datagram; no library is needed."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


class Notifier:
    """Tells systemd, or whoever reads `NOTIFY_SOCKET`; says nothing where there is nobody.

    Args:
        address: of a datagram socket: a path, or with "@" in front an abstract name; "" is nobody.
    """

    def __init__(self, address: str = "") -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._ready: str | None = "not yet"
        self._was_ready = False

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notifier:
        """Whom the environment names."""
        return cls(environ.get("NOTIFY_SOCKET", ""))

    def alive(self) -> None:
        """Work goes on: call it as long as it does, more often than `WatchdogSec`."""
        self._send("WATCHDOG=1")

    def readiness(self, reason: str | None) -> None:
        """The server is ready (None), or is not, and why."""
        if reason == self._ready:
            return
        self._ready = reason
        if reason is None and not self._was_ready:
            self._was_ready = True  # READY=1 ends the start; what comes after is a status only
            self._send("READY=1", "STATUS=ready")
        else:
            self._send("STATUS=ready" if reason is None else f"STATUS=not ready: {reason}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1", "STATUS=stopping")

    def _send(self, *lines: str) -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        text = "\n".join(line.replace("\n", " ") for line in lines)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)  # a manager that does not read holds nothing up
            sock.sendto(text.encode("utf-8", "replace"), self._address)
