"""The API's description in OpenAPI 3.1, made from the request types themselves."""

from __future__ import annotations

from typing import Any


def describe_api() -> dict[str, Any]:
    """The document of /openapi.json."""
    return {}
