"""Threads: counts that wrap around, and how many calls run side by side."""

from __future__ import annotations

import pytest

from tests.native import door


@pytest.mark.parametrize("first", [0, 2**31 - 2, 2**32 - 2], ids=["zero", "as signed", "as unsigned"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_counts_of_calls_and_barriers_wrap_around(native_isas: dict[str, bool], threads: int, first: int) -> None:
    assert door.count_barriers(threads, first, calls=5, barriers=3) == threads * 5 * 3


@pytest.mark.parametrize(
    ("threads", "available", "callers", "wanted"),
    [
        (1, 2, 2, 2),  # two callers with a thread each, on a machine with two
        (1, 4, 3, 3),
        (1, 2, 5, 2),  # and no more than the machine has
        (2, 2, 3, 1),
        (2, 5, 3, 2),
        (2, 1, 2, 1),  # more threads than there are: still one call
    ],
)
def test_calls_run_side_by_side_where_threads_are_free(
    native_isas: dict[str, bool], threads: int, available: int, callers: int, wanted: int
) -> None:
    assert door.most_at_once(threads, available, callers, wanted) == wanted
