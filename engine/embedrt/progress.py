"""How long work tells its listener where it is: steps with a title and, where it is known, a total.

::

    with progress.step("quantize", total=24) as advance:
        for layer in layers:
            ...
            advance(1)

Importing this module imports no other package; `RichProgress` imports rich when it is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

__all__ = ["NullProgress", "Progress", "RichProgress", "progress_bar"]


class Progress(Protocol):
    """Listens to steps. One step at a time, from one thread."""

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """Enter a step of `total` units (None: unknown); the value is `advance(units)`.

        A step that is left by an exception counts as failed, any other as done.
        """


class NullProgress:
    """Listens to nothing."""

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """Enter a step; nothing is shown."""
        del title, total
        return nullcontext(_ignore)


class RichProgress:
    """One line per step on a terminal: a bar while it runs, then the time it took.

    Where `console` is no terminal (a log file, CI), only the finished steps are written. With `unit` ("texts")
    the line shows units per second and the time left.
    """

    def __init__(self, console: Console, unit: str | None = None) -> None:
        self._console = console
        self._unit = unit

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Enter a step and show it until it is left."""
        from rich.progress import Progress as RichBars
        from rich.text import Text

        done = 0
        start = time.perf_counter()
        mark = Text("✗ ", "red")
        try:
            with RichBars(
                *self._columns(total),
                console=self._console,
                transient=True,
                speed_estimate_period=60,
                disable=not self._console.is_terminal,
            ) as bars:
                task = bars.add_task(title, total=total)

                def advance(units: int) -> None:
                    nonlocal done
                    done += units
                    bars.advance(task, units)

                yield advance
            mark = Text("✓ ", "green")
        finally:
            seconds = time.perf_counter() - start
            rate = f", {done / seconds:,.0f} {self._unit}/s" if self._unit and done else ""
            # A log file's line is as long as it is.
            self._console.print(mark + Text(title) + Text(f"  {seconds:.1f} s{rate}", "dim"), soft_wrap=True)

    def _columns(self, total: int | None) -> list[ProgressColumn]:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns: list[ProgressColumn] = [TextColumn("  {task.description}", markup=False)]
        if total is None:
            columns.append(TextColumn("{task.completed:,}" if self._unit else ""))
        else:
            columns += [BarColumn(bar_width=20), TextColumn("{task.completed:,}/{task.total:,}")]
        if self._unit is None:
            return [*columns, TimeElapsedColumn()]
        return [*columns, _rate_column(self._unit), *([TimeRemainingColumn()] if total is not None else [])]


def progress_bar(title: str, total: int, *, shown: bool) -> AbstractContextManager[Callable[[int], None]]:
    """One step on stderr, or nothing at all unless `shown`; the value is `advance(units)`."""
    if not shown:
        return _NOTHING
    from rich.console import Console

    return RichProgress(Console(stderr=True)).step(title, total)


def _rate_column(unit: str) -> ProgressColumn:
    """Units per second; defined late, because its base class is rich's."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f} {unit}/s", "cyan")

    return RateColumn()


def _ignore(units: int) -> None:
    del units


_NOTHING = NullProgress().step("")  # has no state, so that one will do for every call
