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
        """What is embedded by one call, for a table under the head "texts x tokens": "8 x 128"."""
        batch = "all" if self.batch is None else str(self.batch)
        return f"{batch} x {'own' if self.tokens is None else self.tokens}"

    @property
    def words(self) -> str:
        """The same where no head explains it: "8 texts of 128 tokens"."""
        batch = "all" if self.batch is None else str(self.batch)
        if self.tokens is None:
            return f"{batch} of your texts"
        return f"{batch} text{'' if self.batch == 1 else 's'} of {self.tokens} tokens"


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

    @property
    def title(self) -> str:
        """Which run this is: bundle, day and machine."""
        threads = sorted({result.cell.threads for result in self.cells})
        used = f"{', '.join(map(str, threads))} thread{'' if threads == [1] else 's'}"
        return f"{self.bundle}, {self.created[:16].replace('T', ' ')}, {self.machine.get('cpu', '?')}, {used}"

    def to_json(self) -> str:
        """JSON text; `read_report` reads it back equal."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"


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
