"""What a run of the benchmark measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.machine import Machine
from bench.measure import Series
from bench.models import ModelFacts
from bench.peaks import Peaks
from bench.systems import SYSTEMS, SystemSpec
from bench.texts import RaggedSet
from bench.verify import Deviation


@dataclass
class SystemReport:
    """One system that was verified."""

    spec: SystemSpec
    description: str
    load_seconds: float
    rss_loaded: int  # bytes
    anonymous_loaded: int
    deviation: Deviation
    rss_after: int = 0
    peak: int = 0


@dataclass(frozen=True)
class Report:
    """One run."""

    date: str
    command: str
    machine: Machine
    peaks: Peaks
    facts: ModelFacts
    systems: dict[str, SystemReport]
    failures: dict[str, str]
    groups: list[tuple[str, ...]]
    sets: list[RaggedSet]
    series: list[Series] = field(repr=False)
    cut_short: bool
    memory_budget: int
    seconds: float

    def best(self, kind: str, name: str, system: str, accept: Callable[[str], bool] = bool) -> Series | None:
        """The fastest series of a system at a case, over the batchings accepted; the first group's where several."""
        found = [
            s for s in self.series
            if s.case.kind == kind and s.case.name == name and s.system == system
            and (kind != "ragged" or accept(s.case.batching))
        ]  # fmt: skip
        found = [s for s in found if s.group == found[0].group]
        return min(found, key=lambda s: s.seconds, default=None)

    def beside(self, series: Series, system: str) -> Series | None:
        """The first series of `system` at the same kind of case and name, measured in the same group."""
        wanted = (series.group, series.case.kind, series.case.name)
        return next((s for s in self.series if s.system == system
                     and (s.group, s.case.kind, s.case.name) == wanted), None)  # fmt: skip

    def share(self, series: Series) -> float | None:
        """Of the machine's limit for this arithmetic: peak operations, or the weights read once from memory."""
        spec = SYSTEMS[series.system]
        limit = self.peaks.limit_seconds(self.facts, series.case.lengths, spec.compute, spec.weight_bytes)
        return None if limit is None else limit / series.seconds

    def case_names(self, kind: str) -> list[str]:
        """Of the cases of a kind, in the order in which they were timed."""
        return list(dict.fromkeys(s.case.name for s in self.series if s.case.kind == kind))
