"""The plan of an input, made or taken up again a file at a time: neither a listing nor a plan is held."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from embedrt.datasets.inputs import groups_of, input_files
from embedrt.datasets.ledger import Ledger, Planned, Totals
from embedrt.datasets.plan import Changes, InputFile, changes, cut, paired
from embedrt.datasets.sources import Source
from embedrt.datasets.stores import is_url
from embedrt.errors import FileFormatError

_URL_THREADS = 32  # that read footers of an object store: each takes some round trips
A = TypeVar("A")
B = TypeVar("B")


class Planner:
    """Writes the plan of a source into a ledger; shards of files that did not change stay as they were."""

    def __init__(
        self, ledger: Ledger, source: Source, max_tokens: int, shard_tokens: int, say: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self._source = source
        self._max_tokens = max_tokens
        self._shard_tokens = shard_tokens
        self._say = say

    def plan(self) -> tuple[Totals, Changes]:
        """The plan of the input as it is now: its sums, and what has changed since the one before."""
        entries: Iterator[tuple[Planned | None, InputFile | None]]
        changed = Changes()
        if self._ledger.has_plan():
            before = _Counted(self._ledger.plan())
            changed = changes((entry.file for entry in before), input_files(self._source))
            for line in changed.told():
                self._say(f"since the plan was made: {line}")
            if not changed and not before.broken:
                return before.totals, changed
            entries = paired(self._ledger.plan(), input_files(self._source))
        else:
            entries = ((None, file) for file in input_files(self._source))
        wanted = ((old, file) for old, file in entries if file is not None)
        threads = _URL_THREADS if is_url(self._source.place) else 1
        return self._ledger.save_plan(in_order(lambda some: self._plan_file(*some), wanted, threads)), changed

    def _plan_file(self, old: Planned | None, file: InputFile) -> Planned:
        if old is not None and old.file == file and old.problem is None:
            return old
        groups = groups_of(self._source, file)
        try:
            return Planned(file, tuple(cut(file, groups, self._max_tokens, self._shard_tokens)))
        except FileFormatError as exc:
            return Planned(file, (), " ".join(str(exc).split()))


class _Counted:
    """A plan's entries, and their sums once they have gone by."""

    def __init__(self, plan: Iterable[Planned]) -> None:
        self._plan = plan
        self.totals = Totals()
        self.broken = False  # whether a file could not be planned

    def __iter__(self) -> Iterator[Planned]:
        for entry in self._plan:
            self.totals = replace(self.totals, files=self.totals.files + 1)
            for shard in entry.shards:
                self.totals = self.totals.plus(shard)
            self.broken = self.broken or entry.problem is not None
            yield entry


def in_order(function: Callable[[A], B], items: Iterable[A], threads: int) -> Iterator[B]:
    """What becomes of the items, in their order; on more than one thread twice as many are under way at once."""
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[B]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
