"""How long it will take to compare all texts with all: worth saying before, because it grows with their square."""

from __future__ import annotations

import time

import numpy as np

from embedrt.vectors.groups import representatives
from embedrt.vectors.nearest import nearest
from embedrt.vectors.rows import Floats

_QUERIES, _CORPUS = 256, 32_768  # rows that are compared to see how fast this machine does it
_ROWS = 16_384  # that are deduplicated to see the same
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
_WORTH_SAYING = 60.0  # seconds


def seconds_to_compare(a: Floats, b: Floats, k: int) -> float:
    """About how long finding the k nearest rows of `b` takes for all rows of `a`, from a few of both.

    A piece of `b` costs most where it comes first, because nearly all of its scores are among the best for a while; how
    many are falls by half with each doubling of what was seen. A piece that comes again displaces nothing.

    0 where there are so few that nobody would ask.
    """
    if len(a) * len(b) <= _QUERIES * _CORPUS * 32:
        return 0.0
    size = min(_CORPUS, len(b) // 2)
    some, piece = a[:_QUERIES], np.asarray(b[:size])
    times = [time.perf_counter()]
    for rows in (piece, b[: 2 * size], np.concatenate([piece, piece])):
        nearest(some, rows, k)
        times.append(time.perf_counter())
    first, both, again = np.diff(times)
    plain = max(again - first, both / 20)
    found = max(both - first - plain, 0.0) * np.log2(len(b) / size)
    seconds = (plain * len(b) / size + max(first - plain, 0.0) + found) * len(a) / len(some)
    return float(seconds)


def seconds_to_deduplicate(vectors: Floats, threshold: float) -> float:
    """About how long `representatives` takes for all rows, from twice as many of them as at first: what grows with the
    square is what counts.

    0 where there are so few that nobody would ask.
    """
    if len(vectors) <= 4 * _ROWS:
        return 0.0
    times = [time.perf_counter()]
    for count in (_ROWS, 2 * _ROWS):
        representatives(np.asarray(vectors[:count]), threshold)
        times.append(time.perf_counter())
    once, twice = np.diff(times)
    square = max(twice - 2 * once, twice / 8) / 2  # of _ROWS rows
    return float(square * (len(vectors) / _ROWS) ** 2)


def told(seconds: float) -> str | None:
    """A time in words, such as "3 hours"; None for one that needs none."""
    if seconds < _WORTH_SAYING:
        return None
    for size, name in _UNITS:
        if seconds >= size:
            number = round(seconds / size)
            return f"{number:,} {name}{'s' * (number != 1)}"
    return None
