"""The parity report: what was compared with what, where, and what came out; as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from embedrt._schema import SchemaError, decode
from embedrt.errors import FileFormatError, OptionError
from embedrt.machine import MachineInfo
from embedrt.manifest import BF16, OutputParity, ParitySummary
from embedrt.parity.gates import Gate, GateSet, show_value
from embedrt.parity.invariance import Invariance
from embedrt.parity.metrics import Deviation

if TYPE_CHECKING:
    from rich.table import Table

REPORT_FORMAT = 1


@dataclass(frozen=True)
class Reference:
    """What the variants are compared with."""

    description: str  # e.g. "sentence-transformers 5.2.0, torch 2.13.0, fp32; vectors kept in the bundle"
    dimension: int
    normalized: bool  # whether its vectors have length 1; if not, normalized copies are compared
    mean_pairwise_cosine: float  # of different texts


@dataclass(frozen=True)
class BucketReport:
    """Texts of about one length in tokens."""

    label: str  # e.g. "9-32" or "cut at 512"
    deviation: Deviation


@dataclass(frozen=True)
class WorstText:
    """One of the texts with the smallest cosines."""

    index: int  # position among the texts compared
    text: str  # shortened, control characters escaped
    num_tokens: int  # before cutting
    cosine: float


def _title(variant: str, executor: str) -> str:
    is_native = executor.startswith("embedrt native") and variant != BF16
    return f"{variant}, native" if is_native else variant


@dataclass(frozen=True)
class VariantReport:
    """One variant against the reference."""

    variant: str
    identity: str
    executor: str  # what ran it
    deviation: Deviation
    buckets: tuple[BucketReport, ...]
    invariances: tuple[Invariance, ...]
    gates: GateSet
    failures: tuple[str, ...]  # one sentence per gate missed
    worst: tuple[WorstText, ...]  # smallest cosine first
    distances: tuple[float, ...]  # 1 - cosine of each text

    @property
    def title(self) -> str:
        """The variant, and "native" where that ran what ONNX Runtime runs too; a report may have both."""
        return _title(self.variant, self.executor)

    @property
    def passed(self) -> bool:
        """Whether every gate was kept."""
        return not self.failures

    def summary(self) -> ParitySummary:
        """The numbers that the bundle's manifest keeps.

        Raises:
            OptionError: there were too few texts for all of them.
        """
        found = self.deviation
        if found.centered is None or found.spearman is None or found.top10_overlap is None:
            raise OptionError(f"{found.num_texts} texts are too few for a parity summary")
        return ParitySummary(
            num_texts=found.num_texts,
            cosine_mean=found.cosine.mean,
            cosine_p01=found.cosine.p01,
            cosine_min=found.cosine.min,
            centered_min=found.centered.min,
            max_abs_diff=found.max_abs_diff,
            spearman=found.spearman,
            top10_overlap=found.top10_overlap,
            passed=self.passed,
        )


@dataclass(frozen=True)
class OutputReport:
    """One output of one variant against the reference."""

    variant: str
    output: str  # its name in `embedrt.heads.OUTPUTS`
    executor: str  # what ran it
    num_inputs: int
    figures: dict[str, float]
    gates: tuple[Gate, ...]
    failures: tuple[str, ...]  # one sentence per gate missed

    @property
    def title(self) -> str:
        """As of a `VariantReport`."""
        return _title(self.variant, self.executor)

    def summary(self) -> OutputParity:
        """What the bundle's manifest keeps."""
        return OutputParity(self.num_inputs, self.figures, not self.failures)


@dataclass(frozen=True)
class ParityReport:
    """Every variant of a bundle against the reference."""

    format: int
    bundle: str  # its name
    source: str  # the model it was made of
    created: str  # ISO 8601, UTC
    machine: MachineInfo
    num_threads: int
    tools: dict[str, str]  # package -> version on this machine
    reference: Reference | None  # of dense vectors, as `variants`
    max_tokens: int
    num_tokens: tuple[int, ...]  # per text, before cutting
    variants: tuple[VariantReport, ...]
    pictures: tuple[VariantReport, ...] = ()  # of the encoder of pictures, where there is one
    outputs: tuple[OutputReport, ...] = ()  # of other outputs
    bundle_notes: tuple[str, ...] = ()  # what the exporter says of the model, e.g. that its graph runs unfused

    @property
    def passed(self) -> bool:
        """Whether every variant kept every gate."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """What was missed, over all variants."""
        every = [one.failures for one in self.variants] + [one.failures for one in self.outputs]
        every += [tuple(f"pictures, {sentence}" for sentence in one.failures) for one in self.pictures]
        return tuple(sentence for sentences in every for sentence in sentences)

    def output_summaries(self, variant: str) -> dict[str, OutputParity]:
        """Of a variant's other outputs, for the manifest."""
        return {report.output: report.summary() for report in reversed(self.outputs) if report.variant == variant}

    def summary(self, variant: str) -> ParitySummary:
        """The numbers for the manifest, the first of the variant; OptionError if there are none. See VariantReport."""
        for report in self.variants:
            if report.variant == variant:
                return report.summary()
        raise OptionError(f"variant {variant!r} is not in this report")

    def notes(self) -> tuple[str, ...]:
        """What a reader needs to judge the numbers, a sentence each."""
        notes = list(self.bundle_notes)
        for variant in self.variants:
            if variant.gates.name == "collapsed" and variant.variant == "int8":
                notes.append(f"{variant.title}: {variant.gates.reason}.")
        if self.reference is not None and not self.reference.normalized:
            notes.append("The pipeline does not normalize its vectors; copies at length 1 are compared.")
        for variant in self.variants:
            checked = max((found.num_texts for found in variant.invariances), default=len(self.num_tokens))
            if checked < len(self.num_tokens):
                same = all(found.max_abs_diff == 0 for found in variant.invariances)
                told = ", of which no bit differed" if same else ""
                what = f"invariances were checked on {checked} texts, spread over the lengths"
                notes.append(f"{variant.title}: {what}{told}.")
        return tuple(notes)

    def to_json(self) -> str:
        """JSON text; `ParityReport.from_json` reads it back equal."""
        data = asdict(self)
        data["passed"] = self.passed
        return json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ParityReport:
        """Read what `to_json` wrote.

        Raises:
            FileFormatError: it is not a parity report of this format.
        """
        try:
            data = json.loads(text)
            if isinstance(data, dict):
                data.pop("passed", None)  # follows from the rest
                if data.get("format") != REPORT_FORMAT:
                    raise SchemaError(f"format is {data.get('format')!r}, this embedrt reads {REPORT_FORMAT}")
            return decode(cls, data)
        except (ValueError, RecursionError) as exc:
            raise FileFormatError(f"not a parity report of this embedrt: {exc}") from exc


def render_table(report: ParityReport) -> Table:
    """The report as a rich Table that fits 80 columns, one column per variant; what failed is `report.failures`."""
    from rich.table import Table
    from rich.text import Text

    inputs = f"{len(report.num_tokens)} texts"
    if not report.num_tokens and report.variants:
        inputs = f"{report.variants[0].deviation.num_texts} pictures"
    if report.reference is not None:
        inputs += f", {report.reference.description}"
    elif report.outputs:
        inputs = f"{report.outputs[0].num_inputs} inputs, the model's own library in PyTorch, fp32"
    table = Table(
        title=Text(f"Parity of {report.bundle}: {inputs}"),
        title_justify="left",
        caption=Text("\n".join(report.notes())) if report.notes() else None,
        caption_justify="left",
        min_width=_TABLE_WIDTH,
    )
    table.add_column("")
    passed = {variant.title: variant.passed for variant in report.variants}
    for output in report.outputs:
        passed[output.title] = passed.get(output.title, True) and not output.failures
    for name in passed:
        table.add_column(name, justify="right", no_wrap=True)
    for title, show in _ROWS if report.variants else ():
        cells = {variant.title: show(variant) for variant in report.variants}
        table.add_row(title, *(cells.get(name, "-") for name in passed))
    for title, cells in output_rows(report):
        table.add_row(title, *(cells.get(name, "-") for name in passed))
    table.add_row("verdict", *(Text("passed", "green") if ok else Text("FAILED", "bold red") for ok in passed.values()))
    return table


def picture_report(report: ParityReport) -> ParityReport | None:
    """The pictures' part as a report of its own; None where there is none."""
    if not report.pictures:
        return None
    return replace(
        report, bundle=f"{report.bundle}, pictures", variants=report.pictures, pictures=(), outputs=(), num_tokens=()
    )


def output_rows(report: ParityReport) -> list[tuple[str, dict[str, str]]]:
    """Figures of other outputs: a title, and by variant what stands there."""
    rows: dict[str, dict[str, str]] = {}
    for one in report.outputs:
        for figure, value in one.figures.items():
            rows.setdefault(f"{one.output}: {figure.replace('_', ' ')}", {})[one.title] = show_figure(figure, value)
    return list(rows.items())


def show_figure(figure: str, value: float) -> str:
    """A figure of another output, with the digits that matter."""
    digits = ".1f" if figure == "active_dims" else ".1e" if figure in _ERRORS else ".7f"
    return f"{value:{digits}}"


def _worst_invariance(variant: VariantReport) -> float | None:
    return min((invariance.cosine_min for invariance in variant.invariances), default=None)


_ERRORS = ("max_abs_diff", "max_rel_diff", "score_error", "alone_diff")
_TABLE_WIDTH = 72  # columns; so that the title and the notes need few lines
# Title of a row -> what stands in a variant's column.
_ROWS: tuple[tuple[str, Callable[[VariantReport], str]], ...] = (
    ("cosine, mean", lambda v: show_value("cosine", v.deviation.cosine.mean)),
    ("cosine, 1st percentile", lambda v: show_value("cosine", v.deviation.cosine.p01)),
    ("cosine, min", lambda v: show_value("cosine", v.deviation.cosine.min)),
    (
        "cosine less the corpus mean, min",
        lambda v: show_value("cosine", v.deviation.centered.min if v.deviation.centered else None),
    ),
    ("largest difference", lambda v: show_value("max_abs_diff", v.deviation.max_abs_diff)),
    ("Spearman of all pairs", lambda v: show_value("spearman", v.deviation.spearman)),
    ("top-10 overlap", lambda v: "-" if v.deviation.top10_overlap is None else f"{v.deviation.top10_overlap:.4f}"),
    ("same in any batch, cosine min", lambda v: show_value("cosine", _worst_invariance(v))),
)
