"""What a request is called in logs and answers."""

from __future__ import annotations

import itertools
import re
import secrets

_PROCESS_ID = secrets.token_hex(10)  # of ids that are made up: what follows is a count
_NUMBERS = itertools.count(1)
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


def request_id(given: bytes) -> str:
    """The X-Request-ID that a client has given, if it is fit for a log; else one of its own."""
    text = given.decode("latin-1")
    return text if _REQUEST_ID.fullmatch(text) else f"{_PROCESS_ID}{next(_NUMBERS):012x}"
