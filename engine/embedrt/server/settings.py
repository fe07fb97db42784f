"""Every setting of the server: one table from which flags, environment, TOML keys and help come."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

Overflow = Literal["truncate", "error", "windows"]
VARIANT_CHOICES = ("auto", "fp32", "fp16", "int8", "bf16")
DEVICE_CHOICES = ("auto", "cpu", "cuda")
EXECUTOR_CHOICES = ("auto", "native", "onnxruntime")
TOKEN_IDS = ("refuse", "own", "cl100k_base")
LONG = ("cut", "windows")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
SECRET = frozenset({"api_keys"})


def _setting(default: Any, text: str, *, minimum: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": text, "minimum": minimum, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """What `embedrt serve` can be told. Lists are comma-separated in flags and environment; flags may be repeated."""

    bundles: tuple[str, ...] = _setting((), "bundles to serve: PATH, or NAME=PATH; the first is the default model")
    alias: tuple[str, ...] = _setting((), "other names of models, ALIAS=NAME, for clients that know only their own")
    identity: tuple[str, ...] = _setting(
        (), "what models must be, NAME=IDENTITY; a server whose models are something else does not start"
    )
    host: str = _setting("127.0.0.1", "address to listen at; 0.0.0.0 for all")
    port: int = _setting(8080, "port to listen at; 0 takes a free one", minimum=0)
    uds: str = _setting("", "path of a Unix socket to listen at, instead of a port")
    metrics_port: int = _setting(0, "another port for /metrics and health only, without keys; 0: none", minimum=0)
    workers: int = _setting(1, "processes behind the port, each with the models", minimum=1)
    variant: str = _setting("auto", "precision of the models", choices=VARIANT_CHOICES)
    device: str = _setting("auto", "where to compute", choices=DEVICE_CHOICES)
    executor: str = _setting("auto", "what computes; auto: native kernels where they fit", choices=EXECUTOR_CHOICES)
    isa: str = _setting("auto", "instruction set of the native kernels")
    threads: int = _setting(0, "threads to compute with, over all workers; 0: what affinity and quota allow", minimum=0)
    share_threads: bool = _setting(True, "several models take turns with all threads, instead of dividing them")
    packed_cache: bool = _setting(True, "keep packed weights in a file beside the bundle, which workers share")
    packed_dir: str = _setting("", "folder for those files instead, where bundles are read-only")
    verify_hashes: bool = _setting(True, "compare the bundles' files with their hashes when loading")
    batch_tokens: int = _setting(256, "padded tokens of one batch", minimum=1)
    cache_mb: float = _setting(
        0.0, "MB of vectors to keep for texts that come again, over all workers and models; 0: none", minimum=0.0
    )
    compress_kb: float = _setting(
        0.0, "JSON answers of so many KB are sent in zstd or gzip to clients that take it; 0: none", minimum=0.0
    )
    queue_tokens: int = _setting(1_000_000, "tokens that may wait per model; beyond them requests get 429", minimum=1)
    request_texts: int = _setting(2048, "texts of one request; more get 413", minimum=1)
    request_tokens: int = _setting(
        1_048_576, "tokens of one request, 2048 texts of 512; more get 413 before they are run", minimum=1
    )
    request_pictures: int = _setting(64, "pictures of one request; more get 413 before any is decoded", minimum=1)
    picture_mpixels: float = _setting(
        40.0, "largest picture in millions of pixels; others are refused before they are decoded", minimum=0.001
    )
    answer_mb: float = _setting(64.0, "largest answer in MB; requests that would get more get 413", minimum=0.001)
    body_mb: float = _setting(32.0, "largest request body in MB", minimum=0.001)
    inflight_mb: float = _setting(
        256.0, "what requests hold at once in MB: bodies, texts, rows; beyond it 429", minimum=0.001
    )
    request_timeout_s: float = _setting(300.0, "time of a request that says no X-Request-Timeout", minimum=0.001)
    body_timeout_s: float = _setting(30.0, "time in which a request's body must have come", minimum=0.001)
    header_timeout_s: float = _setting(10.0, "time in which a request's headers must have come", minimum=0.001)
    idle_timeout_s: float = _setting(
        10.0, "time between two pieces of a body, and in which a client must go on reading its answer", minimum=0.001
    )
    answer_timeout_s: float = _setting(
        120.0, "time in which a client that reads slowly must have its answer", minimum=0.001
    )
    connections: int = _setting(
        1024, "connections of a process; idle ones are closed for new ones, else those get 503", minimum=4
    )
    stall_timeout_s: float = _setting(
        60.0, "an executor that takes longer for one batch turns readiness off", minimum=0.001
    )
    proof_every_s: float = _setting(
        60.0,
        "an idle model embeds a parity text again that often, a busy one ten times as rarely; 0: never",
        minimum=0.0,
    )
    grace_s: float = _setting(30.0, "after SIGTERM, time to finish what is in flight", minimum=0.0)
    drain_s: float = _setting(0.0, "after SIGTERM, time not ready but still accepting, for load balancers", minimum=0.0)
    truncate: bool = _setting(True, "cut texts over the model's limit where the request does not say")
    long: str = _setting(
        "cut",
        "texts over the model's limit where the request does not say: cut (see truncate), or read in windows",
        choices=LONG,
    )
    matryoshka: tuple[str, ...] = _setting((), "models whose vectors may be shortened by 'dimensions'; * for all")
    token_ids: str = _setting(
        "refuse", "what token ids of clients mean: the model's own, or OpenAI's, which become texts", choices=TOKEN_IDS
    )
    api_keys: tuple[str, ...] = _setting((), "keys of which clients must show one, KEY or NAME:KEY; no flag")
    api_key_file: str = _setting("", "file with NAME:KEY, one a line; read again when it changes")
    rates: tuple[str, ...] = _setting(
        (), "what clients may ask for, NAME=N requests/minute or NAME=N tokens/day; NAME is a key's, or *"
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (), "names in Host that are answered besides localhost, when listening there without keys; * for all"
    )
    cors_origins: tuple[str, ...] = _setting((), "origins whose pages may call; * for all")
    playground: bool = _setting(True, "serve the playground at / and the API's description at /docs")
    log_format: str = _setting("text", "how logs are written", choices=("text", "json"))
    log_level: str = _setting("info", "what is logged", choices=("debug", "info", "warning", "error"))
    ssl_certfile: str = _setting("", "certificate for TLS")
    ssl_keyfile: str = _setting("", "its key")
    otlp_endpoint: str = _setting("", "send traces there by OTLP over HTTP; needs embedrt[otel]")

    @property
    def default_overflow(self) -> Overflow:
        """What becomes of texts over the limit where the request does not say."""
        if self.long == "windows":
            return "windows"
        return "truncate" if self.truncate else "error"


NAMES = tuple(entry.name for entry in fields(Settings))
DEFAULTS = Settings()
