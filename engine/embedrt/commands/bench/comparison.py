"""One run of `embedrt bench` against another: the same machine or not, as many threads or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embedrt.commands.bench.report import BenchReport, Cell, CellResult


@dataclass(frozen=True)
class Ratio:
    """The same work in an earlier run and now."""

    cell: Cell  # now
    earlier_cell: Cell  # where it differs, in threads or executor
    earlier_p50_ms: float
    now_p50_ms: float
    is_clear: bool  # the medians of the rounds of one run all lie on one side of the other's

    @property
    def speedup(self) -> float:
        """Over 1: faster now."""
        return self.earlier_p50_ms / self.now_p50_ms


@dataclass(frozen=True)
class Comparison:
    """Two runs."""

    earlier: str  # title
    now: str
    ratios: tuple[Ratio, ...]
    warnings: tuple[str, ...]  # what differs between the runs, and what was left out


def compare(earlier: BenchReport, now: BenchReport) -> Comparison:
    """Pair the work that both runs did: one variant, so many texts of so many tokens.

    What ran on as many threads and the same executor is paired first. What is left is paired where there is no choice:
    one configuration of that work in each run. The user's own texts are comparable only if they are the same.
    """
    warnings = _differences(earlier, now)
    same_texts = earlier.own_texts == now.own_texts
    before, after = ([r for r in run.cells if same_texts or r.cell.tokens is not None] for run in (earlier, now))
    pairs = _pairs(before, after)
    alone = len(before) + len(after) - 2 * len(pairs)
    if alone:
        warnings.append(f"left out: {alone} configuration{'s' if alone > 1 else ''} that only one of the runs has")
    order = {result.cell: place for place, result in enumerate(now.cells)}
    pairs.sort(key=lambda pair: order[pair[1].cell])
    return Comparison(earlier.title, now.title, tuple(_ratio(*pair) for pair in pairs), tuple(warnings))


# From what must be alike to what may differ when there is no choice.
_ALIKE: tuple[Callable[[Cell], tuple[object, ...]], ...] = (
    lambda cell: (cell.variant, cell.batch, cell.tokens, cell.executor, cell.threads),
    lambda cell: (cell.variant, cell.batch, cell.tokens, cell.executor),
    lambda cell: (cell.variant, cell.batch, cell.tokens),
)


def _pairs(before: Sequence[CellResult], after: Sequence[CellResult]) -> list[tuple[CellResult, CellResult]]:
    pairs = []
    for key in _ALIKE:
        left, right = _groups(before, key), _groups(after, key)
        for work in left.keys() & right.keys():
            if len(left[work]) == len(right[work]) == 1:
                pairs.append((left[work][0], right[work][0]))
        taken = {result.cell for pair in pairs for result in pair[:1]}, {result.cell for _, result in pairs}
        before = [result for result in before if result.cell not in taken[0]]
        after = [result for result in after if result.cell not in taken[1]]
    return pairs


def _groups(
    results: Sequence[CellResult], key: Callable[[Cell], tuple[object, ...]]
) -> dict[tuple[object, ...], list[CellResult]]:
    groups: dict[tuple[object, ...], list[CellResult]] = {}
    for result in results:
        groups.setdefault(key(result.cell), []).append(result)
    return groups


def _ratio(before: CellResult, now: CellResult) -> Ratio:
    first, second = before.round_p50_ms, now.round_p50_ms
    apart = max(first) < min(second) or max(second) < min(first)
    return Ratio(now.cell, before.cell, before.p50_ms, now.p50_ms, apart)


def _differences(earlier: BenchReport, now: BenchReport) -> list[str]:
    found = [
        f"another machine: {name} was {earlier.machine.get(name)}, now {value}"
        for name, value in now.machine.items()
        if earlier.machine.get(name) != value
    ]
    found += [
        f"another bundle: identity of {variant} was {earlier.identities[variant]}, now {identity}"
        for variant, identity in now.identities.items()
        if earlier.identities.get(variant, identity) != identity
    ]
    if earlier.own_texts != now.own_texts and earlier.own_texts and now.own_texts:
        found.append("other texts: the files of --texts differ, so your own texts are not compared")
    return found
