"""Traces by OpenTelemetry, only where an endpoint is set: a span per request, with its phases as attributes."""

from __future__ import annotations

import time
from typing import Any

from embedrt.errors import DependencyError
from embedrt.server.call import Call
from embedrt.version import __version__


def require_opentelemetry() -> None:
    """Refuse to go on without it.

    Raises:
        DependencyError: the extra is missing.
    """
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as exc:
        raise DependencyError("otlp_endpoint needs OpenTelemetry; pip install 'embedrt[otel]'") from exc


class Traces:
    """Sends spans in the background by OTLP over HTTP.

    Raises:
        DependencyError: the extra is missing.
    """

    def __init__(self, endpoint: str) -> None:
        require_opentelemetry()
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.propagate import extract
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode

        self._extract: Any = extract
        self._kind = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)
        resource = Resource.create({"service.name": "embedrt", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("embedrt.server", __version__)

    def on_request(self, method: str, route: str, call: Call, seconds: float, headers: dict[bytes, bytes]) -> None:
        """A request was answered; it belongs to the trace that its `traceparent` names."""
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        end = time.time_ns()
        attributes: dict[str, str | int | float] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": call.status,
            "embedrt.request_id": call.request_id,
        }
        if call.identity:
            attributes["embedrt.identity"] = call.identity
        attributes |= {f"embedrt.{name}": value for name, value in call.facts().items()}
        span = self._tracer.start_span(
            f"{method} {route}",
            context=self._extract(carrier),
            kind=self._kind,
            attributes=attributes,
            start_time=end - int(seconds * 1e9),
        )
        if call.status >= 500:
            span.set_status(self._failed)
        span.end(end)

    def stop(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
