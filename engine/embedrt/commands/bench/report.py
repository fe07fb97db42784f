"""What a benchmark found: JSON out and in, and one run against another."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from embedrt._schema import SchemaError, decode
from embedrt.commands.bench.probe import Probe
from embedrt.errors import FileFormatError

REPORT_FORMAT = 1
FEW_CALLS = 100  # with fewer, the 99th percentile is little more than the slowest call


@dataclass(frozen=True)
class Cell:
    """One configuration. `tokens` None means the user's own texts; `batch` None all of them in one call."""

    variant: str
    executor: str  # "native" or "onnxruntime"
    threads: int
    batch: int | None  # texts per call
    tokens: int | None  # per text, special tokens included

    @property
    def label(self) -> str:
        """What is embedded: "8 x 128"."""
        batch = "all" if self.batch is None else str(self.batch)
        return f"{batch} x {'own' if self.tokens is None else self.tokens}"


@dataclass(frozen=True)
class CellResult:
    """Times of one configuration, over all rounds."""

    cell: Cell
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    tokens_per_s: float  # real tokens of a call at its median time
    round_p50_ms: tuple[float, ...]  # median of each round: how steady the machine was


@dataclass(frozen=True)
class LoadResult:
    """Loading, in processes of its own."""

    variant: str
    executor: str
    threads: int
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class BenchReport:
    """One run."""

    format: int
    created: str  # ISO 8601, UTC
    machine: dict[str, str]
    bundle: str
    model: str
    identities: dict[str, str]  # variant -> identity
    own_texts: str | None  # sha256 of the user's texts
    rounds: int
    cells: tuple[CellResult, ...]
    loads: tuple[LoadResult, ...]

    def to_json(self) -> str:
        """JSON text; `read_report` reads it back equal."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"


@dataclass(frozen=True)
class Ratio:
    """One configuration now and in an earlier run."""

    cell: Cell
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

    ratios: tuple[Ratio, ...]
    warnings: tuple[str, ...]  # why they may not be comparable


def read_report(path: Path) -> BenchReport:
    """Read what `to_json` wrote.

    Raises:
        FileFormatError: it is no report of this format.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and data.get("format") != REPORT_FORMAT:
            raise SchemaError(f"format is {data.get('format')!r}, this embedrt reads {REPORT_FORMAT}")
        return decode(BenchReport, data)
    except FileNotFoundError:
        raise FileFormatError(f"{path} is not there; 'embedrt bench BUNDLE --json {path}' writes one") from None
    except (ValueError, SchemaError) as exc:
        raise FileFormatError(f"{path} is no report of 'embedrt bench --json': {exc}") from exc


def _ratio(before: CellResult, now: CellResult) -> Ratio:
    first, second = before.round_p50_ms, now.round_p50_ms
    apart = max(first) < min(second) or max(second) < min(first)
    return Ratio(now.cell, before.p50_ms, now.p50_ms, apart)


def compare(earlier: BenchReport, now: BenchReport) -> Comparison:
    """Configurations that both runs have."""
    before = {result.cell: result for result in earlier.cells}
    ratios = tuple(_ratio(before[result.cell], result) for result in now.cells if result.cell in before)
    warnings = [
        f"another machine: {name} was {earlier.machine.get(name)}, now {value}"
        for name, value in now.machine.items()
        if earlier.machine.get(name) != value
    ]
    warnings += [
        f"another bundle: identity of {variant} was {earlier.identities[variant]}, now {identity}"
        for variant, identity in now.identities.items()
        if earlier.identities.get(variant, identity) != identity
    ]
    own = any(ratio.cell.tokens is None for ratio in ratios)
    if own and earlier.own_texts != now.own_texts:
        warnings.append("other texts: the files of --texts differ")
    return Comparison(ratios, tuple(warnings))
