"""Reading and throwing away what is left of a body that is too large, before it is refused.

Clients such as Python's http.client read no answer before they have sent everything; a connection that is closed
on what they send shows them a broken pipe instead of the answer.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import Receive

_DRAINED_BODIES = 8  # of the largest size; so much of one that is too large is read and thrown away
_DRAIN_S = 5.0  # and for no longer


async def drain(receive: Receive, expect: str, limit: int, size: int) -> bool:
    """Read the rest of a body that is too large; whether all of it was read, so that the connection can go on.

    Args:
        receive: gives its pieces.
        expect: the header; a client that waits for "100 Continue" sends nothing.
        limit: bytes that bodies may have.
        size: bytes that this one has, or more.
    """
    whole = False
    if "100-continue" not in expect.lower() and size <= _DRAINED_BODIES * limit:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                whole = await _read(receive, _DRAINED_BODIES * limit)
    return whole


async def _read(receive: Receive, limit: int) -> bool:
    seen = 0
    while seen <= limit:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return True
        seen += len(message.get("body", b""))
    return False
