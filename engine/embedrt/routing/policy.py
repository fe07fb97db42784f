"""Which server gets the next request. Pure: whole numbers in, an index out; no sockets, no clock.

What a client waits for is what a server has still to compute, so the server with the fewest outstanding tokens is
chosen. Requests are no measure of that: one of 2,000 texts counts as much as one of a single word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Policy = Literal["tokens", "requests", "turns"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

# The body is not read, only measured. English in JSON has 4 to 5 bytes per token, other scripts in UTF-8 3 to 6. What
# matters is that all servers are measured alike.
_BYTES_PER_TOKEN = 4
_REQUEST_TOKENS = 16  # what the smallest request costs besides


@dataclass(frozen=True)
class Load:
    """What a server has to do of what was sent to it.

    Attributes:
        tokens: estimated, of requests that it has not answered.
        requests: of those, how many there are.
        chosen: when it was chosen last, as a count of choices; larger is later.
    """

    tokens: int = 0
    requests: int = 0
    chosen: int = 0


def estimate_tokens(body_bytes: int) -> int:
    """About what a request with so long a body costs."""
    return _REQUEST_TOKENS + body_bytes // _BYTES_PER_TOKEN


_KEYS: dict[Policy, Callable[[Load], tuple[int, ...]]] = {
    "tokens": lambda load: (load.tokens, load.requests, load.chosen),
    "requests": lambda load: (load.requests, load.chosen),
    "turns": lambda load: (load.chosen,),
}


def choose(loads: Sequence[Load], policy: Policy = "tokens") -> int:
    """The index of the server for the next request; of equal ones, the one that was chosen longest ago.

    Args:
        loads: of the servers that may be chosen, at least one.
        policy: "tokens": fewest outstanding tokens; "requests": fewest outstanding requests; "turns": each in turn.
    """
    return min(range(len(loads)), key=lambda i: _KEYS[policy](loads[i]))
