"""torch's work by several threads that do not wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from embedrt.threads import side_by_side

A = TypeVar("A")
B = TypeVar("B")


def in_lanes(work: Callable[[A], B], items: Sequence[A], *, one_at_a_time: bool = False) -> Iterator[B]:
    """What `work` makes of each item, in order, as many at once as torch has threads, each with one of them."""
    threads = torch.get_num_threads()
    lanes = 1 if one_at_a_time else min(threads, max(len(items), 1))
    torch.set_num_threads(1)
    try:
        yield from side_by_side(work, items, lanes, "embedrt-torch")
    finally:
        torch.set_num_threads(threads)
