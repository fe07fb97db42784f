"""Spans, as a collector receives them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.server.serving import serving


def test_a_request_becomes_a_span_of_its_callers_trace(lookup_bundle: Path):
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
        trace = "0af7651916cd43dd8448eb211c80319c"
        with serving(lookup_bundle, otlp_endpoint=endpoint) as server:
            server.post("/embed", {"inputs": "zebra"}, traceparent=f"00-{trace}-b7ad6b7169203331-01")
            server.get("/health")
        collector.shutdown()
    spans = [
        span
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    (span,) = spans
    assert span.name == "POST /embed"
    assert span.trace_id.hex() == trace
    facts = {row.key: row.value for row in span.attributes}
    assert facts["embedrt.tokens"].int_value == 3
    assert facts["embedrt.compute_ms"].double_value > 0
    assert b"zebra" not in b"".join(bodies)
