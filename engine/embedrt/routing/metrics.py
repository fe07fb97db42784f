"""Prometheus metrics of the front."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from embedrt.routing.fleet import Fleet

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class FrontMetrics:
    """The counters of one front."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "embedrt_front_requests", "Requests answered by a server.", ("server", "status"), registry=registry
        )
        self.refused = Counter(
            "embedrt_front_errors", "Requests that the front answered itself, by kind.", ("kind",), registry=registry
        )
        self.again = Counter(
            "embedrt_front_tries_again", "Requests sent to another server, by why.", ("why",), registry=registry
        )
        self.seconds = Histogram(
            "embedrt_front_request_seconds", "Time of a request.", ("server",), buckets=_SECONDS, registry=registry
        )
        self._tokens = Gauge(
            "embedrt_front_outstanding_tokens", "Estimated tokens of requests that a server has not answered.",
            ("server",), registry=registry,
        )  # fmt: skip
        self._ready = Gauge("embedrt_front_server_ready", "Whether a server gets requests.", ("server",),
                            registry=registry)  # fmt: skip
        self._differs = Gauge(
            "embedrt_front_server_differs", "Whether a server serves other identities than agreed.", ("server",),
            registry=registry,
        )  # fmt: skip

    def forget(self, server: str) -> None:
        """Drop the gauges of a server that is no more."""
        for gauge in (self._tokens, self._ready, self._differs):
            with contextlib.suppress(KeyError):
                gauge.remove(server)

    def page(self, fleet: Fleet) -> bytes:
        """The text of /metrics."""
        for server in fleet.servers.values():
            self._tokens.labels(server.name).set(server.load.tokens)
            self._ready.labels(server.name).set(server.why_out is None)
            self._differs.labels(server.name).set(server.differs)
        return generate_latest(self.registry)
