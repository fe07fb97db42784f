"""The pages: playground, and the API's description."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedrt.server.answers import to_json
from embedrt.server.openapi import describe_api

_FILES = {  # path -> file, media type
    "/": ("playground.html", "text/html; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/static/playground.js": ("playground.js", "text/javascript; charset=utf-8"),
    "/static/playground.css": ("playground.css", "text/css; charset=utf-8"),
    "/static/calls.js": ("calls.js", "text/javascript; charset=utf-8"),
    "/static/tools.js": ("tools.js", "text/javascript; charset=utf-8"),
    "/static/labels.js": ("labels.js", "text/javascript; charset=utf-8"),
    "/static/pictures.js": ("pictures.js", "text/javascript; charset=utf-8"),
    "/static/scenes.js": ("scenes.js", "text/javascript; charset=utf-8"),
    "/static/dom.js": ("dom.js", "text/javascript; charset=utf-8"),
    "/static/drawings.js": ("drawings.js", "text/javascript; charset=utf-8"),
    "/static/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "/static/geometry.js": ("geometry.js", "text/javascript; charset=utf-8"),
    "/static/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
}
# Nothing from elsewhere, and nobody frames it.
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"


def page_routes() -> list[Route]:
    """For the router."""
    routes = [Route(path, _page(*found), methods=["GET"]) for path, found in _FILES.items()]
    description = _description()
    return [
        *routes,
        *(Route(path, description, methods=["GET"]) for path in ("/openapi.json", "/api-doc/openapi.json")),
    ]


def _page(name: str, media_type: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    content = (files("embedrt.server") / "static" / name).read_bytes()

    async def page(request: Request) -> Response:
        del request
        return Response(content, headers={"Content-Security-Policy": _POLICY}, media_type=media_type)

    return page


def _description() -> Callable[[Request], Coroutine[Any, Any, Response]]:
    content = to_json(describe_api())

    async def description(request: Request) -> Response:
        del request
        return Response(content, media_type="application/json")

    return description
