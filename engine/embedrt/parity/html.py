"""The parity report as one page that needs nothing else: no script, no font, no image from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

from embedrt.parity.gates import INVARIANCE_MIN_COSINE, METRICS, Gate, misses, show_value
from embedrt.parity.invariance import Invariance
from embedrt.parity.markup import badge, miss, paragraphs, table
from embedrt.parity.metrics import MIN_RANK_TEXTS, Deviation
from embedrt.parity.outputs_page import outputs_section
from embedrt.parity.report import ParityReport, VariantReport, picture_report
from embedrt.parity.svg import ecdf_plot, scatter_plot

_COLUMNS = {  # metric -> its heading in tables
    "cosine_mean": "cosine mean",
    "cosine_p01": "cosine p01",
    "cosine_min": "cosine min",
    "centered_mean": "centered mean",
    "centered_p01": "centered p01",
    "centered_min": "centered min",
    "max_abs_diff": "largest difference",
    "spearman": "Spearman",
    "top10_overlap": "top-10 overlap",
    "max_norm_error": "length error",
}
_HOW_TO_READ = (
    ("cosine", "between a text's vector and the reference's; p01 is the 1st percentile over the texts."),
    (
        "centered",
        "the same after the mean vector of the reference is subtracted from both sides. Raw cosines flatter "
        "models whose vectors all point one way; these do not.",
    ),
    ("largest difference", "of one number, over all texts and dimensions, of vectors at length 1."),
    (
        "Spearman",
        "rank correlation of the similarities of all pairs of texts; top-10 overlap is the share of each text's ten "
        f"nearest that stays the same. Both need at least {MIN_RANK_TEXTS} texts; with fewer there is a dash.",
    ),
    ("length error", "largest relative error of a vector's length before normalizing."),
)


def render_page(report: ParityReport) -> str:
    """One HTML document, about 100 kB for 300 texts and three variants."""
    style = resources.files("embedrt.parity").joinpath("data/page.css").read_text(encoding="utf-8")
    pictures = picture_report(report)
    sections = (
        _header(report),
        *(_dense(report) if report.variants else ()),
        *(_of_pictures(pictures) if pictures is not None else ()),
        outputs_section(report),
        *(("<h2>How to read this</h2>", paragraphs(_HOW_TO_READ)) if report.variants else ()),
        "<h2>Made with</h2>",
        _made_with(report),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Parity of {escape(report.bundle)}</title><style>\n{style}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _dense(report: ParityReport) -> tuple[str, ...]:
    """What is said of dense vectors."""
    return (
        '<div class="cards">' + "".join(_card(variant) for variant in report.variants) + "</div>",
        "<h2>All texts</h2>",
        _overview(report),
        "<h2>How far, and where</h2>",
        _plots(report),
        "<h2>By length</h2>",
        _buckets(report),
        "<h2>Alone, in a batch, in another order: the same vector</h2>",
        _invariances(report, "text"),
        "<h2>Worst texts</h2>",
        *(_worst(variant) for variant in report.variants),
        "<h2>Gates</h2>",
        _gates(report),
    )


def _of_pictures(report: ParityReport) -> tuple[str, ...]:
    """What is said of pictures' vectors: of one length all of them, so nothing by length."""
    return (
        "<h2>Pictures</h2>",
        f'<p class="dim">{report.variants[0].deviation.num_texts} pictures, from their files on.</p>',
        '<div class="cards">' + "".join(_card(variant) for variant in report.variants) + "</div>",
        _table_of_metrics(report),
        f'<div class="plots"><figure>{ecdf_plot(report, "pictures")}<figcaption>{_PASSES}</figcaption></figure></div>',
        "<h3>Alone, in a batch, in another order: the same vector</h3>",
        _invariances(report, "picture"),
        "<h3>Worst pictures</h3>",
        *(_worst_pictures(variant) for variant in report.variants),
        "<h3>Gates of pictures</h3>",
        _gates(report),
    )


def _header(report: ParityReport) -> str:
    failures = "".join(f"<li>{escape(sentence)}</li>" for sentence in report.failures)
    count = len(report.failures)
    verdict = "every gate kept" if report.passed else f"{count} gate{'s' if count > 1 else ''} missed"
    return (
        f"<h1>Parity of {escape(report.bundle)} {badge(report.passed, verdict)}</h1>"
        f'<p class="dim">Model: {escape(report.source)}. Reference: {escape(_described(report))}. '
        f"{_compared(report)}. {escape(report.created)}.</p>"
        + (f'<ul class="failures">{failures}</ul>' if failures else "")
    )


def _compared(report: ParityReport) -> str:
    """How many of what."""
    pairs = next((one.num_inputs for one in report.outputs if one.output == "scores"), 0)
    pictures = report.pictures[0].deviation.num_texts if report.pictures else 0
    counts = ((len(report.num_tokens), "texts"), (pictures, "pictures"), (pairs, "pairs of texts"))
    return " and ".join(f"{count} {noun}" for count, noun in counts if count)


def _described(report: ParityReport) -> str:
    return report.reference.description if report.reference is not None else "the model's own library in PyTorch, fp32"


def _card(variant: VariantReport) -> str:
    found = variant.deviation
    same = min((i.cosine_min for i in variant.invariances), default=None)
    rows = (
        ("smallest cosine", show_value("cosine_min", found.cosine.min)),
        ("smallest centered cosine", show_value("centered_min", found.centered.min if found.centered else None)),
        ("Spearman", show_value("spearman", found.spearman)),
        ("alone = in a batch", show_value("cosine_min", same)),
    )
    lines = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    verdict = badge(variant.passed, "passed" if variant.passed else "FAILED")
    return f'<div class="card {_class(variant)}"><h3>{escape(variant.title)} {verdict}</h3><dl>{lines}</dl></div>'


def _overview(report: ParityReport) -> str:
    return _table_of_metrics(report) + "".join(f'<p class="dim">{escape(sentence)}</p>' for sentence in report.notes())


def _table_of_metrics(report: ParityReport) -> str:
    rows = [[f"<td><b>{escape(v.title)}</b></td>", *_metric_cells(v.deviation, v.gates.gates)] for v in report.variants]
    return table(["variant", *_COLUMNS.values()], rows)


_PASSES = "A curve passes if it reaches 100 % left of its limit."


def _plots(report: ParityReport) -> str:
    return (
        f'<div class="plots"><figure>{ecdf_plot(report)}<figcaption>{_PASSES}</figcaption></figure>'
        f"<figure>{scatter_plot(report)}<figcaption>A variant passes if all its markers are below its limit."
        "</figcaption></figure></div>"
    )


def _buckets(report: ParityReport) -> str:
    rows = []
    for variant in report.variants:
        rows.append([_group(variant, len(_COLUMNS) + 2)])
        for bucket in variant.buckets:
            cells = [f"<td>{escape(bucket.label)}</td>", f"<td>{bucket.deviation.num_texts}</td>"]
            rows.append([*cells, *_metric_cells(bucket.deviation)])
    return table(["tokens", "texts", *_COLUMNS.values()], rows)


def _invariances(report: ParityReport, noun: str) -> str:
    rows = []
    for variant in report.variants:
        rows.append([_group(variant, 6)])
        for found in variant.invariances:
            missed = not found.cosine_min > INVARIANCE_MIN_COSINE
            rows.append(
                [
                    f"<td>{escape(found.name)}</td><td>{found.num_texts}</td>",
                    f"<td{miss(missed)}>{found.cosine_min:.9f}</td>{_text_cell(found, found.cosine_min_text)}",
                    f"<td>{found.max_abs_diff:.1e}</td>{_text_cell(found, found.max_abs_diff_text)}",
                ]
            )
    of = f"of {noun}"
    headings = ("embedded again", f"{noun}s", "smallest cosine", of, "largest difference", of)
    return (
        f'<p class="dim">{noun.capitalize()}s\' vectors, against those from a call over many {noun}s; '
        f"every cosine must be over {INVARIANCE_MIN_COSINE}.</p>" + table(headings, rows)
    )


def _text_cell(found: Invariance, index: int) -> str:
    """Which text it was; none where nothing differs."""
    return f"<td>{index if found.max_abs_diff > 0 else '-'}</td>"


def _worst(variant: VariantReport) -> str:
    rows = []
    for worst in variant.worst:
        shown, kind = (worst.text, "text") if worst.text.strip() else ("empty or spaces only", "text nothing")
        rows.append(
            [
                f"<td>{worst.index}</td><td>{worst.num_tokens}</td>",
                f"<td>{worst.cosine:.7f}</td><td>{variant.distances[worst.index]:.1e}</td>",
                f'<td class="{kind}" dir="auto">{escape(shown)}</td>',
            ]
        )
    headings = ("text", "tokens", "cosine", "1 − cosine", "its beginning")
    return f"<h3>{escape(variant.title)}</h3>{table(headings, rows, left=(4,))}"


def _worst_pictures(variant: VariantReport) -> str:
    rows = [
        [
            f"<td>{escape(worst.text)}</td><td>{worst.cosine:.7f}</td>",
            f"<td>{variant.distances[worst.index]:.1e}</td>",
        ]
        for worst in variant.worst
    ]
    return f"<h4>{escape(variant.title)}</h4>{table(('file in the bundle', 'cosine', '1 − cosine'), rows)}"


def _gates(report: ParityReport) -> str:
    rows = []
    for variant in report.variants:
        rows.append([_group(variant, 3)])
        for gate in variant.gates.gates:
            value = METRICS[gate.metric].read(variant.deviation)
            rows.append(
                [
                    f"<td>{METRICS[gate.metric].label}</td><td>{escape(gate.relation)} {gate.limit:g}</td>",
                    f"<td{miss(misses(gate, value))}>{show_value(gate.metric, value)}</td>",
                ]
            )
    reasons = "".join(
        f'<p class="dim">{escape(v.title)}: the gates for a {escape(v.gates.name)} corpus, because '
        f"{escape(v.gates.reason)}.</p>"
        for v in report.variants
    )
    return table(("metric", "must be", "is"), rows) + reasons


def _made_with(report: ParityReport) -> str:
    machine = report.machine
    tools = ", ".join(f"{name} {version}" for name, version in report.tools.items())
    quota = "" if machine.cgroup_quota_cpus is None else f", quota of {machine.cgroup_quota_cpus:g} CPUs"
    lines = [
        f"{machine.cpu}, {machine.affinity_cpus} of {machine.logical_cpus} CPUs{quota}, "
        f"{machine.memory_bytes / 2**30:.0f} GiB; {' '.join(machine.isa)}; {report.num_threads} threads",
        tools,
        *(f"{v.title}: {v.executor}; identity {v.identity}" for v in report.variants),
        *(dict.fromkeys(f"{one.title}: {one.executor}" for one in report.outputs) if not report.variants else ()),
        *(f"pictures, {v.title}: {v.executor}" for v in report.pictures),
    ]
    return "".join(f'<p class="dim">{escape(line)}</p>' for line in lines)


def _metric_cells(deviation: Deviation, gates: Sequence[Gate] = ()) -> list[str]:
    cells = []
    for name in _COLUMNS:
        value = METRICS[name].read(deviation)
        missed = any(misses(gate, value) for gate in gates if gate.metric == name)
        cells.append(f"<td{miss(missed)}>{show_value(name, value)}</td>")
    return cells


def _group(variant: VariantReport, columns: int) -> str:
    return f'<td class="group {_class(variant)}" colspan="{columns}">{escape(variant.title)}</td>'


def _class(variant: VariantReport) -> str:
    return f"v-{escape(variant.title.replace(', ', '-'))}"
