"""Who may ask for what: API keys, the Host header, and the port for metrics."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from starlette.types import Scope

from embedrt.server.errors import ServeError
from embedrt.server.keys import ApiKeys
from embedrt.server.settings import LOOPBACK, Settings

PROBES = frozenset({"/health", "/health/live", "/health/ready", "/ping"})  # open to all
METRICS = "/metrics"
_PAGES = frozenset({"/", "/docs", "/openapi.json", "/api-doc/openapi.json"})  # when they are read; as is /static/


class Guard:
    """Checks a request before anything of it is read."""

    def __init__(self, settings: Settings, keys: ApiKeys) -> None:
        self._keys = keys
        self._metrics_port = settings.metrics_port
        self._hosts = wanted_hosts(settings) if not keys.wanted else None

    def check(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        """Let the request pass, and tell the name of the key that it shows; "" where it needs none.

        Raises:
            ServeError: it shows no key ("unauthorized"), names another host ("wrong_host"), or wants something else
                of the port for metrics ("not_found").
        """
        path = scope["path"]
        if path in PROBES:
            return ""
        if self._metrics_port and (scope.get("server") or ("", 0))[1] == self._metrics_port:
            if path != METRICS:
                raise ServeError("not_found", f"this port answers {METRICS} and {', '.join(sorted(PROBES))}")
            return ""
        if self._hosts is not None and not is_ours(headers.get(b"host", b"").decode("latin-1"), self._hosts):
            raise ServeError(
                "wrong_host",
                "without API keys this server answers to localhost and to IP addresses only, so that no web page can "
                "reach it by a name of its own; serve with --allowed-hosts NAME, or with --api-key-file",
            )
        return self._check_key(scope, headers)

    def _check_key(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        path = scope["path"]
        open_page = scope["method"] in ("GET", "HEAD") and (path in _PAGES or path.startswith("/static/"))
        if not self._keys.wanted or open_page:
            return ""
        shown = headers.get(b"authorization") or b"Bearer " + headers.get(b"api-key", b"")  # the latter is Azure's
        name = self._keys.accepts(shown.decode("latin-1"))
        if name is None:
            raise ServeError(
                "unauthorized",
                "an API key is needed: Authorization: Bearer KEY, or api-key: KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return name


def wanted_hosts(settings: Settings) -> frozenset[str] | None:
    """Names that a Host header may have besides those of the loopback; None where any will do.

    Without a key, who reaches the loopback may use the server, and a browser does so for any page that it shows: a
    name of the page's own that resolves to 127.0.0.1 makes this server the page's own origin. No browser opens a Unix
    socket.
    """
    names = frozenset(name.lower() for name in settings.allowed_hosts)
    reached_by_pages = settings.host in LOOPBACK and not settings.uds
    return names if reached_by_pages and "*" not in names else None


@lru_cache(256)  # clients send the same again and again
def is_ours(host: str, allowed: frozenset[str]) -> bool:
    """Whether a Host header is an address, a name of the loopback, or one that was allowed."""
    name = host_name(host)
    if not host or name == "localhost" or name.endswith(".localhost") or name in allowed:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def host_name(host: str) -> str:
    """The name in a Host header, without its port, in small letters."""
    name, colon, port = host.strip().lower().rpartition(":")
    return (name if colon and port.isdigit() else host.strip().lower()).rstrip(".")
