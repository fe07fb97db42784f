"""How long it will take to compare all texts with all: worth saying before, because it grows with their square."""

from __future__ import annotations

import time

from embedrt.vectors.nearest import nearest
from embedrt.vectors.rows import Floats

_QUERIES, _CORPUS = 256, 65_536  # rows that are compared to see how fast this machine does it
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
_WORTH_SAYING = 60.0  # seconds


def seconds_to_compare(a: Floats, b: Floats, k: int) -> float:
    """About how long finding the k nearest rows of `b` takes for all rows of `a`, from a few of both.

    0 where there are so few that nobody would ask.
    """
    if len(a) * len(b) <= _QUERIES * _CORPUS * 8:
        return 0.0
    some, others = a[:_QUERIES], b[:_CORPUS]
    nearest(some[:1], others, k)  # what is mapped from a file is read
    began = time.perf_counter()
    nearest(some, others, k)
    return (time.perf_counter() - began) * (len(a) / len(some)) * (len(b) / len(others))


def told(seconds: float) -> str | None:
    """A time in words, such as "3 hours"; None for one that needs none."""
    if seconds < _WORTH_SAYING:
        return None
    for size, name in _UNITS:
        if seconds >= size:
            number = round(seconds / size)
            return f"{number:,} {name}{'s' * (number != 1)}"
    return None
