"""Turns in rounds: for each case the systems run one after the other, round after round, all others stopped."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.machine import BusyMeter
from bench.models import ModelFacts
from bench.process import SystemFailed, SystemProcess
from bench.systems import SystemSpec
from bench.texts import SHORT_QUERY, RaggedSet
from bench.worker import Effort

QUIET = 0.05  # a turn with more of the machine busy elsewhere is marked
_WARM_TEXTS = 16
_ONE_CALL = Effort(0.0, 1, math.inf)


@dataclass(frozen=True)
class Case:
    """What is timed: a fixed shape, a ragged set under one batching, or one short text."""

    kind: str  # shape | ragged | latency
    name: str  # "8x128", "xquad-paragraphs", "short query"
    batching: str  # of a ragged set; "" otherwise
    lengths: tuple[int, ...]  # real tokens of each text

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    ragged_rounds: int
    shape_effort: Effort
    latency_effort: Effort
    deadline: float  # time.monotonic() after which no further round of a case starts
    hard_deadline: float  # and after which no case starts at all


@dataclass
class Series:
    """All turns of one system at one case."""

    system: str
    case: Case
    group: int
    turns: list[tuple[float, ...]] = field(default_factory=list)  # seconds of each call, round by round
    others: list[float] = field(default_factory=list)  # share of the machine busy elsewhere, per round

    @property
    def medians(self) -> list[float]:
        """Each round's median seconds."""
        return [statistics.median(turn) for turn in self.turns]

    @property
    def seconds(self) -> float:
        """Median over rounds of the rounds' medians."""
        return statistics.median(self.medians)

    @property
    def tokens_per_s(self) -> float:
        """Real tokens per second at the median."""
        return self.case.num_tokens / self.seconds

    def percentile(self, q: float) -> float:
        """Over all calls of all rounds, in seconds."""
        return float(np.percentile([s for turn in self.turns for s in turn], q))


Say = Callable[[str], None]


def fixed_rows(facts: ModelFacts, batch: int, tokens: int) -> list[list[int]]:
    """Seeded ids of ordinary tokens between the model's first and last special ones: no padding anywhere."""
    rng = np.random.default_rng(batch * 1000 + tokens)
    low = 1000 if facts.vocab_size > 20_000 else 10
    ids = rng.integers(low, facts.vocab_size - 1000 if low == 1000 else facts.vocab_size, (batch, tokens))
    ids[:, 0], ids[:, -1] = facts.first_token, facts.last_token
    rows: list[list[int]] = ids.tolist()
    return rows


class Measurement:
    """Runs the rounds of one group and gathers the series of all groups."""

    def __init__(self, facts: ModelFacts, plan: Plan, say: Say) -> None:
        self.facts = facts
        self.plan = plan
        self.say = say
        self.series: dict[tuple[str, Case, int], Series] = {}
        self.failures: dict[str, str] = {}
        self.cut_short = False

    def run_group(
        self,
        group: int,
        systems: Sequence[tuple[SystemSpec, SystemProcess]],
        shapes: Sequence[tuple[int, int]],
        sets: Sequence[RaggedSet],
        query_tokens: int,
    ) -> None:
        """All rounds of all cases over these systems, each stopped unless it is its turn."""
        for _, process in systems:
            process.pause()
        for number in range(max(self.plan.rounds, self.plan.ragged_rounds)):
            self.say(f"group {group + 1}, round {number + 1}")
            if number < self.plan.rounds:
                self._shape_round(group, number, systems, shapes)
                self._latency_round(group, number, systems, query_tokens)
            if number < self.plan.ragged_rounds:
                for texts in sets:
                    self._ragged_round(group, number, systems, texts)

    def of(self, kind: str) -> list[Series]:
        """All series of one kind of case."""
        return [series for series in self.series.values() if series.case.kind == kind]

    def _shape_round(
        self,
        group: int,
        number: int,
        systems: Sequence[tuple[SystemSpec, SystemProcess]],
        shapes: Sequence[tuple[int, int]],
    ) -> None:
        for batch, tokens in shapes:
            if self._over(number):
                return
            case = Case("shape", f"{batch}x{tokens}", "", (tokens,) * batch)
            rows = fixed_rows(self.facts, batch, tokens)
            effort = self.plan.shape_effort
            for spec, process in self._in_turn(systems):
                if not spec.takes_ids:
                    continue
                known = self.series.get((spec.name, case, group))
                warm = known is None or known.medians[-1] < effort.max_seconds / 2
                self._turn(
                    spec,
                    process,
                    case,
                    group,
                    lambda p=process, w=warm, r=rows: p.time_ids(r, w, self.plan.shape_effort),
                )

    def _latency_round(
        self, group: int, number: int, systems: Sequence[tuple[SystemSpec, SystemProcess]], query_tokens: int
    ) -> None:
        if self._over(number):
            return
        case = Case("latency", "short query", "", (query_tokens,))
        query = [self.facts.prefix + SHORT_QUERY]
        effort = self.plan.latency_effort
        for spec, process in self._in_turn(systems):
            first = spec.batchings[0]
            self._turn(spec, process, case, group, lambda p=process, b=first: p.time_texts(query, b, 1, effort))

    def _ragged_round(
        self, group: int, number: int, systems: Sequence[tuple[SystemSpec, SystemProcess]], texts: RaggedSet
    ) -> None:
        """Each system takes its first batching, then each its second, and so on: what is compared runs side by side."""
        todo = {spec.name: self._batchings(spec, number, texts.name, group) for spec, _ in systems}
        for i in range(max(len(batchings) for batchings in todo.values())):
            for spec, process in self._in_turn(systems):
                if i >= len(todo[spec.name]):
                    continue
                if self._over(number):
                    return
                batching = todo[spec.name][i]
                case = Case("ragged", texts.name, batching, texts.lengths)
                warm = _WARM_TEXTS if number == 0 else 0
                ask = functools.partial(process.time_texts, texts.texts, batching, warm, _ONE_CALL)
                self._turn(spec, process, case, group, ask)

    def _batchings(self, spec: SystemSpec, number: int, name: str, group: int) -> Sequence[str]:
        """All in the first round; then the fastest, and the fastest that keeps the order of arrival."""
        if number == 0:
            return spec.batchings
        first: dict[str, float] = {
            s.case.batching: s.medians[0]
            for s in self.of("ragged")
            if s.system == spec.name and s.case.name == name and s.group == group
        }
        arrival = {b: t for b, t in first.items() if b.startswith(("arrival", "own-32"))}
        kept = {min(times, key=times.__getitem__) for times in (first, arrival) if times}
        return sorted(kept)

    def _in_turn(
        self, systems: Sequence[tuple[SystemSpec, SystemProcess]]
    ) -> Iterator[tuple[SystemSpec, SystemProcess]]:
        return ((spec, process) for spec, process in systems if spec.name not in self.failures)

    def _turn(
        self, spec: SystemSpec, process: SystemProcess, case: Case, group: int, ask: Callable[[], tuple[float, ...]]
    ) -> None:
        try:
            with process.running():
                meter = BusyMeter(process.pid)
                seconds = ask()
                others = meter.others()
        except SystemFailed as exc:
            self.failures[spec.name] = f"at {case.name} {case.batching}: {exc}"
            self.say(f"{spec.name} failed {self.failures[spec.name]}")
            return
        key = (spec.name, case, group)
        series = self.series.setdefault(key, Series(spec.name, case, group))
        series.turns.append(seconds)
        series.others.append(others)

    def _over(self, number: int) -> bool:
        """Whether the time for this is up: for further rounds earlier than for a case's first."""
        end = self.plan.deadline if number else self.plan.hard_deadline
        over = time.monotonic() > end
        self.cut_short |= over
        return over
