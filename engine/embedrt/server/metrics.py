"""Prometheus metrics. Several workers write into one folder, and any of them answers for all."""

from __future__ import annotations

import os
import platform
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from embedrt.server.call import Call
from embedrt.server.files import open_files
from embedrt.server.logs import dropped_lines
from embedrt.server.models import Models
from embedrt.version import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own; set for workers by the supervisor
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKENS = (8, 16, 32, 64, 128, 256, 384, 512, 768, 1024, 2048, 4096, 8192)


def resident_bytes() -> int | None:
    """Memory of this process that is in RAM, files mapped by several processes included; None without /proc."""
    found = _proc("statm")
    return None if found is None else int(found.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def num_threads() -> int | None:
    """Threads of this process; None without /proc."""
    found = _proc("stat")
    return None if found is None else int(found.rpartition(")")[2].split()[17])


def _proc(name: str) -> str | None:
    try:
        return Path(f"/proc/self/{name}").read_text(encoding="ascii", errors="replace")
    except OSError:  # macOS and Windows have none
        return None


@dataclass(frozen=True)
class ProcessState:
    """What a process has open and in work."""

    connections: int
    refused: int
    requests: int
    held_bytes: int
    lag_s: float


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody reads
        self._registry = CollectorRegistry()
        self._shared = FOLDER_VARIABLE in os.environ
        self._lock = threading.Lock()
        self._children: dict[tuple[Any, tuple[str, ...]], Any] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"embedrt_{name}", text, labels, registry=self._registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"embedrt_{name}", text, labels, registry=self._registry, buckets=buckets)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"embedrt_{name}", text, labels, registry=self._registry, multiprocess_mode="livesum")

        self._requests = counter("requests", "Requests answered.", "route", "status")
        self._errors = counter("errors", "Requests that got an error, by kind.", "kind")
        self._crashes = counter("background_crashes", "Crashes of the server's own threads and tasks.", "name")
        self._texts = counter("texts", "Texts embedded, tokenized or decoded.", "model")
        self._tokens = counter("tokens", "Tokens embedded, tokenized or decoded, without padding.", "model")
        self._truncated = counter("truncated_texts", "Texts cut at the model's limit.", "model")
        self._padding = counter("padding_tokens", "Tokens of padding that the executor ran.", "model")
        self._client_requests = counter("client_requests", "Requests answered, by name of the key.", "client")
        self._client_tokens = counter("client_tokens", "Tokens of requests, by name of the key.", "client")
        self._duration = histogram("request_seconds", "Time of a request.", _SECONDS, "route")
        self._proofs = counter("proofs", "Parity texts embedded again, and whether their vector was the same.",
                               "model", "same")  # fmt: skip
        self._hits = counter("cache_hits", "Texts of which the vector was kept (cache_mb).", "model")
        self._misses = counter("cache_misses", "Texts that were looked up and had to be run.", "model")
        self._cached = gauge("cache_bytes", "Vectors that are kept for texts that come again.", "model")
        self._phase = histogram("phase_seconds", "Time of a request's phases.", _SECONDS, "phase")
        self._batch_tokens = histogram("batch_tokens", "Tokens of a batch, without padding.", _TOKENS, "model")
        self._batch_seconds = histogram("batch_seconds", "Time of a batch.", _SECONDS, "model")
        self._share = gauge("batch_padding_share", "Padding of the last batch, as a share of what was run.", "model")
        self._waiting = gauge("queue_tokens", "Tokens that wait.", "model")
        self._waiting_requests = gauge("queue_requests", "Requests that wait.", "model")
        self._running = gauge("executor_running_seconds", "Time that the running batch has taken so far.", "model")
        self._resident = gauge("resident_memory_bytes", "Resident memory.")
        self._threads = gauge("threads", "Threads.")
        self._files = gauge("open_files", "Open files and connections.")
        self._connections = gauge("connections", "Open connections of clients.")
        self._refused = gauge("connections_refused", "Connections that were refused, or closed for others, so far.")
        self._dropped = gauge("log_lines_dropped", "Log lines that could not be written, so far.")
        self._in_work = gauge("requests_in_work", "Requests that are being answered.")
        self._held = gauge("held_bytes", "What requests hold: bodies, texts, rows of answers.")
        self._unfit = gauge("model_unfit", "1 where a model's files or vectors are not what they were.", "model")
        self._lag = Gauge(
            "embedrt_event_loop_lag_seconds", "Longest time that the event loop was held up in the last seconds.",
            registry=self._registry, multiprocess_mode="livemax",
        )  # fmt: skip
        build = Gauge(
            "embedrt_build_info", "Versions, as labels.", ("version", "python"), registry=self._registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        build.labels(__version__, platform.python_version()).set(1)

    def on_batch(self, model: str, num_texts: int, num_tokens: int, padded_tokens: int, seconds: float) -> None:
        """A batch has run (told by the engine, in its thread)."""
        del num_texts
        self._of(self._batch_tokens, model).observe(num_tokens)
        self._of(self._batch_seconds, model).observe(seconds)
        self._of(self._padding, model).inc(padded_tokens - num_tokens)
        self._of(self._share, model).set(1 - num_tokens / padded_tokens)

    def on_proof(self, model: str, *, same: bool) -> None:
        """A parity text was embedded again (told by the engine, in its thread)."""
        self._proofs.labels(model, "yes" if same else "no").inc()

    def on_cache(self, model: str, hits: int, misses: int) -> None:
        """Texts of a request were looked up (told by the engine, in the loop's thread)."""
        self._of(self._hits, model).inc(hits)
        self._of(self._misses, model).inc(misses)

    def on_crash(self, name: str) -> None:
        """One of the server's own threads or tasks raised (told by Background, in its thread)."""
        self._crashes.labels(name).inc()

    def on_request(self, route: str, call: Call, seconds: float) -> None:
        """A request was answered."""
        self._of(self._requests, route, str(call.status)).inc()
        self._of(self._duration, route).observe(seconds)
        if call.key:
            self._client_requests.labels(call.key).inc()
            self._client_tokens.labels(call.key).inc(call.num_tokens)
        if call.error:
            self._errors.labels(call.error).inc()
        for phase, spent in call.phases.items():
            self._of(self._phase, phase).observe(spent)
        if call.model:
            self._of(self._texts, call.model).inc(call.num_texts)
            self._of(self._tokens, call.model).inc(call.num_tokens)
            self._of(self._truncated, call.model).inc(call.num_truncated)

    def _of(self, metric: Any, *labels: str) -> Any:
        """The metric with these labels, looked up once: `labels` takes a lock and checks them each time."""
        key = metric, labels
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found

    def refresh(self, models: Models, process: ProcessState | None = None) -> None:
        """Bring the gauges up to date. Workers do it all the time, since any of them answers for all."""
        if process is not None:
            self._connections.set(process.connections)
            self._refused.set(process.refused)
            self._in_work.set(process.requests)
            self._held.set(process.held_bytes)
            self._lag.set(process.lag_s)
        self._dropped.set(dropped_lines())
        for engine in models:
            self._waiting.labels(engine.name).set(engine.waiting_tokens)
            self._waiting_requests.labels(engine.name).set(engine.waiting_requests)
            self._running.labels(engine.name).set(engine.running_for())
            if engine.cache is not None:
                self._cached.labels(engine.name).set(engine.cache.held_bytes)
            self._unfit.labels(engine.name).set(engine.what_is_wrong is not None)
        found = ((self._resident, resident_bytes()), (self._threads, num_threads()), (self._files, open_files()))
        for gauge, value in found:
            if value is not None:
                gauge.set(value)

    def page(self, models: Models, process: ProcessState | None = None) -> bytes:
        """The text of /metrics, of all workers."""
        with self._lock:
            self.refresh(models, process)
            if not self._shared:
                return generate_latest(self._registry)
            every = CollectorRegistry()
            multiprocess.MultiProcessCollector(every)  # type: ignore[no-untyped-call]
            return generate_latest(every)
