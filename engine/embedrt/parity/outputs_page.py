"""The part of the parity page about sparse vectors, vectors of tokens, and scores."""

from __future__ import annotations

from html import escape

from embedrt.heads import OUTPUTS
from embedrt.parity.gates import misses
from embedrt.parity.markup import badge, miss, paragraphs, table
from embedrt.parity.report import OutputReport, ParityReport, show_figure

_COSINES = {
    "cosine_mean": "cosine, mean",
    "cosine_p01": "cosine, 1st percentile",
    "cosine_min": "cosine, min",
}
_ALONE = {"alone_cosine_min": "alone against in a batch, cosine min"}
FIGURES = {  # output -> its figures and what they are called
    "scores": {
        "kendall_apart": "Kendall's tau, documents that are apart",
        "kendall": "Kendall's tau, all documents",
        "correlation": "correlation",
        "max_abs_diff": "largest difference",
        "spread": "standard deviation of the reference",
        "alone_diff": "alone against in a batch, largest difference",
    },
    "sparse": {
        **_COSINES,
        "max_rel_diff": "largest difference, of the largest weight",
        "max_abs_diff": "largest difference",
        "top10_overlap": "ten strongest words that are the same",
        **_ALONE,
        "active_dims": "words of a text, mean",
    },
    "tokens": {**_COSINES, "score_error": "MaxSim, largest difference", **_ALONE},
}
_MEANINGS = {
    "scores": (
        ("scores", "logits, before an activation hides what lies at its ends."),
        (
            "Kendall's tau",
            "how far the order of a query's documents stays, the mean over queries. Apart are documents whose logits "
            "the reference has at least a tenth of its standard deviation apart: most have nothing to do with a query, "
            "and the order among these means nothing.",
        ),
    ),
    "sparse": (
        ("cosine", "between a text's weights and the reference's; texts that have hardly any weight are left out."),
    ),
    "tokens": (
        ("cosine", "between a token's vector and the reference's."),
        ("MaxSim", "the score of each text with each, the mean over the query's tokens."),
    ),
}


def outputs_section(report: ParityReport) -> str:
    """For each output its figures by variant, with the limits that they must keep, and what they are."""
    names = dict.fromkeys(one.output for one in report.outputs)
    return "".join(_section(name, [one for one in report.outputs if one.output == name]) for name in names)


def _section(name: str, reports: list[OutputReport]) -> str:
    noun = OUTPUTS[name][0]
    inputs = f"{reports[0].num_inputs} {'pairs' if name == 'scores' else 'texts'}, against the reference's."
    heads = [
        f"{escape(one.title)} {badge(not one.failures, 'FAILED' if one.failures else 'passed')}" for one in reports
    ]
    rows = [
        [f"<td>{label}</td>", *(_cell(one, figure) for one in reports)]
        for figure, label in FIGURES[name].items()
        if any(figure in one.figures for one in reports)
    ]
    return (
        f'<h2>{noun[0].upper()}{noun[1:]}</h2><p class="dim">{inputs}</p>{table(["", *heads], rows)}'
        f"{paragraphs(_MEANINGS[name])}"
    )


def _cell(report: OutputReport, figure: str) -> str:
    value = report.figures.get(figure)
    if value is None:
        return "<td>-</td>"
    gate = next((gate for gate in report.gates if gate.metric == figure), None)
    limit = "" if gate is None else f'<br><span class="dim">{escape(gate.relation)} {gate.limit:g}</span>'
    return f"<td{miss(gate is not None and misses(gate, value))}>{show_figure(figure, value)}{limit}</td>"
