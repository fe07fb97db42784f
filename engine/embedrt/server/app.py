"""The application: its parts, its routes, and what happens when it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from embedrt.errors import EmbedrtError, FileFormatError
from embedrt.server.background import Background
from embedrt.server.budget import ByteBudget
from embedrt.server.errors import ServeError
from embedrt.server.front import Front, http_error, serve_error
from embedrt.server.health import Health
from embedrt.server.inputs import InputReader
from embedrt.server.keys import ApiKeys
from embedrt.server.logs import LOGGER, log
from embedrt.server.metrics import CONTENT_TYPE, Metrics
from embedrt.server.models import Models, NamedBundle
from embedrt.server.openai import OpenAIApi
from embedrt.server.pages import page_routes
from embedrt.server.pool import Pool
from embedrt.server.rates import Meters, parse_rates
from embedrt.server.rerank import RerankApi
from embedrt.server.root import RootApi
from embedrt.server.service import Service
from embedrt.server.settings import Settings
from embedrt.server.shares import Shares
from embedrt.server.tei import TeiApi
from embedrt.server.tiktoken import ENCODING, find_file
from embedrt.server.tokens import TokensApi
from embedrt.server.traces import Traces, require_opentelemetry

_TOKENIZATION_WORKERS = 4  # a small request finds one free while a large one is tokenized
_KEYS_EVERY_S = 2.0
# Python lets a thread run for 5 ms before another gets its turn: as long as a short query takes.
_SWITCH_INTERVAL_S = 0.0005
_EXPOSED = ("X-Request-Id", "X-Embedrt-Model", "X-Embedrt-Identity", "X-Embedrt-Tokens", "X-Embedrt-Truncated",
            "Server-Timing", "Retry-After")  # fmt: skip


def make_service(settings: Settings) -> Service:
    """The parts of a server, without models yet.

    Raises:
        FileFormatError: the file of API keys cannot be used.
        OptionError: a file that a setting needs is not there.
    """
    models, metrics = Models(), Metrics()
    background = Background(metrics.on_crash)
    return Service(
        settings=settings,
        models=models,
        background=background,
        budget=ByteBudget(int(settings.inflight_mb * 1e6), shared=True),
        metrics=metrics,
        keys=ApiKeys(settings.api_keys, settings.api_key_file),
        health=Health(models, settings.stall_timeout_s, background),
        inputs=InputReader(settings.token_ids),
        pool=Pool(_TOKENIZATION_WORKERS),
        meters=Meters(parse_rates(settings.rates), settings.workers),
        requests=Shares(settings.connections),
        traces=Traces(settings.otlp_endpoint) if settings.otlp_endpoint else None,
    )


def check_parts(settings: Settings) -> None:
    """Say what is wrong with files and lists that the parts of a server are made of, before any process makes them.

    Raises:
        FileFormatError: the file of API keys cannot be used.
        OptionError: a rate is of another form, or a file that a setting needs is not there.
        DependencyError: an extra is missing.
    """
    parse_rates(settings.rates)
    ApiKeys(settings.api_keys, settings.api_key_file)
    if settings.token_ids == ENCODING:
        find_file()
    if settings.otlp_endpoint:
        require_opentelemetry()


def api_routes(service: Service) -> list[BaseRoute]:
    """Every path that is answered."""

    async def metrics(request: Request) -> Response:
        del request
        return Response(service.metrics.page(service.models, service.process_state()), media_type=CONTENT_TYPE)

    tei, rerank = TeiApi(service), RerankApi(service)
    return [
        *OpenAIApi(service).routes(),
        *RootApi(service, tei, rerank).routes(),
        *tei.routes(),
        *rerank.routes(),
        *TokensApi(service).routes(),
        *service.health.routes(),
        Route("/metrics", metrics, methods=["GET"]),
        *(page_routes() if service.settings.playground else ()),
    ]


def make_app(service: Service, bundles: list[NamedBundle], on_failure: Callable[[str], None]) -> ASGIApp:
    """The ASGI application; `on_failure` is told when a model cannot be loaded."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        loading = asyncio.create_task(_load(service, bundles, on_failure))
        if service.settings.workers > 1:  # the others serve meanwhile: take no connection before it can be answered
            await loading
        if service.settings.workers > 1:  # any of them answers for all
            service.health.beats.append(lambda: service.metrics.refresh(service.models, service.process_state()))
        tasks = [
            loading,
            asyncio.create_task(service.background.task("the watch of health", service.health.watch)),
            asyncio.create_task(service.background.task("the watch of keys", lambda: _watch_keys(service.keys))),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(service.models.stop)
            service.pool.stop()
            if service.traces is not None:
                await asyncio.to_thread(service.traces.stop)

    routes = api_routes(service)
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={ServeError: serve_error, HTTPException: http_error},
    )
    app.router.redirect_slashes = False  # Front has seen to them
    wrapped: ASGIApp = Front(app, service, routes)
    if service.settings.cors_origins:
        wrapped = CORSMiddleware(
            wrapped,
            allow_origins=service.settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
        )
    return wrapped


async def _load(service: Service, bundles: list[NamedBundle], on_failure: Callable[[str], None]) -> None:
    """Load in a thread, so that /health/live answers meanwhile."""
    try:
        await asyncio.to_thread(
            service.models.load, bundles, service.settings, service.pool, service.metrics, service.background
        )
        for engine in service.models:
            embedder = engine.embedder
            log(
                "model loaded", name=engine.name, variant=embedder.variant, identity=embedder.identity,
                dimension=embedder.dimension, max_tokens=embedder.max_tokens, executor=embedder.executor_description,
                reason=embedder.executor_reason,
            )  # fmt: skip
    except EmbedrtError as exc:
        on_failure(str(exc))
    except Exception as exc:
        LOGGER.error("loading failed", exc_info=exc)
        on_failure(f"unexpected {type(exc).__name__}: {exc}")


async def _watch_keys(keys: ApiKeys) -> None:
    while True:
        await asyncio.sleep(_KEYS_EVERY_S)
        try:
            if keys.refresh():
                log("API keys were read again")
        except FileFormatError as exc:
            log("API keys stay as they are", reason=str(exc))
