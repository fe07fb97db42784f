"""Bodies that come side by side take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from embedrt.server.reading import FlowInTurns, Turns


class Loop:
    """An event loop of which each turn is asked for."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, act: Callable[..., None], *args: object) -> None:
        """In the next turn."""
        self.soon.append(lambda: act(*args))

    def turn(self) -> None:
        """What was planned until now."""
        now, self.soon = self.soon, []
        for act in now:
            act()


class Transport:
    """What may be paused."""

    def __init__(self) -> None:
        self.reads = True

    def pause_reading(self) -> None:
        """No more."""
        self.reads = False

    def resume_reading(self) -> None:
        """Again."""
        self.reads = True


def made(count: int, at_once: int) -> tuple[Loop, list[Transport], list[FlowInTurns]]:
    loop, turns = Loop(), Turns(at_once)
    transports = [Transport() for _ in range(count)]
    as_loop = cast(asyncio.AbstractEventLoop, loop)
    flows = [FlowInTurns(cast(Any, each), turns, as_loop) for each in transports]
    for flow in flows:
        flow.pause_reading()
    return loop, transports, flows


def test_so_many_read_on_per_turn_in_the_order_in_which_they_asked():
    loop, transports, flows = made(5, at_once=2)
    for flow in flows:
        flow.resume_reading()
    seen = [[each.reads for each in transports]]
    for _ in range(2):
        loop.turn()
        seen.append([each.reads for each in transports])
    assert seen == [[True, True, False, False, False], [True] * 4 + [False], [True] * 5]


def test_who_has_read_waits_behind_the_others():
    loop, transports, flows = made(3, at_once=1)
    for flow in flows:
        flow.resume_reading()
    flows[0].pause_reading()
    flows[0].resume_reading()
    order = []
    for _ in range(3):
        loop.turn()
        order.append([each.reads for each in transports])
    assert order == [[False, True, False], [False, True, True], [True, True, True]]


def test_who_no_longer_wants_to_read_when_its_turn_comes_does_not():
    loop, transports, flows = made(2, at_once=1)
    for flow in flows:
        flow.resume_reading()
    flows[1].pause_reading()
    loop.turn()
    assert not transports[1].reads
    assert flows[1].read_paused


def test_alone_it_reads_on_at_once_and_nothing_is_planned_for_ever():
    loop, transports, flows = made(1, at_once=4)
    for _ in range(10):
        flows[0].resume_reading()
        assert transports[0].reads
        flows[0].pause_reading()
        loop.turn()
    for _ in range(3):
        loop.turn()
    assert not loop.soon
