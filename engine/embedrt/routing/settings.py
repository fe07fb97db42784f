"""What `embedrt front` can be told: its own settings, and those that it shares with `embedrt serve`."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedrt.routing.policy import Policy
from embedrt.server.settings import Settings

# Settings of the server that mean the same here: where it listens, what a connection may do, how it ends, its logs.
SHARED = (
    "host", "port", "uds", "metrics_port", "body_mb", "request_timeout_s", "body_timeout_s", "header_timeout_s",
    "idle_timeout_s", "answer_timeout_s", "connections", "grace_s", "drain_s", "allowed_hosts", "log_format",
    "log_level", "ssl_certfile", "ssl_keyfile",
)  # fmt: skip


@dataclass(frozen=True)
class FrontSettings:
    """The front's.

    Attributes:
        servers: addresses as `embedrt.routing.address` reads them.
        policy: by what a server is chosen.
        identities: that names must have, by name.
        resolve: each address of a server's name is a server of its own.
        check_every_s: seconds between two looks at a server.
        check_timeout_s: in which it must take a connection, and say whether it is ready.
        edge: what is shared with the server.
    """

    servers: tuple[str, ...]
    policy: Policy = "tokens"
    identities: dict[str, str] = field(default_factory=dict)
    resolve: bool = False
    check_every_s: float = 1.0
    check_timeout_s: float = 5.0
    edge: Settings = field(default_factory=Settings)

    @property
    def body_bytes(self) -> int:
        """Of one request."""
        return int(self.edge.body_mb * 1e6)
