from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from embedrt.parity.gates import Gate
from embedrt.parity.html import render_page
from embedrt.parity.outputs_page import FIGURES
from embedrt.parity.report import OutputReport, ParityReport, WorstText
from embedrt.parity.svg import ecdf_plot, scatter_plot

HOSTILE = "<script>alert('x')</script> & \"quoted\" </td>"


class Checker(HTMLParser):
    """Collects tags and attributes, and checks that what is opened is closed in order."""

    void = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def test_it_is_well_formed_and_self_contained(report: ParityReport) -> None:
    page = render_page(report)
    checker = checked(page)
    assert not checker.tags & {"script", "link", "img", "iframe", "object", "base", "image", "use"}
    assert not checker.attributes & {"src", "href", "xlink:href", "srcset", "onload", "style"}
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"(https?:)?//\w", re.sub(r'<td class="text".*?</td>', "", page))  # texts may hold a URL
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in style


def test_texts_and_names_are_escaped(report: ParityReport) -> None:
    worst = (WorstText(0, HOSTILE, 3, 0.5),)
    variants = tuple(replace(v, worst=worst, failures=(HOSTILE,), executor=HOSTILE) for v in report.variants)
    hostile = replace(report, bundle=HOSTILE, source=HOSTILE, tools={HOSTILE: HOSTILE}, variants=variants)
    page = render_page(hostile)
    assert "script" not in checked(page).tags
    assert page.count("&lt;script&gt;") >= 10


def test_it_shows_everything(report: ParityReport) -> None:
    page = render_page(report)
    for variant in report.variants:
        for words in (variant.identity, *(bucket.label for bucket in variant.buckets)):
            assert words in page
        assert f"{variant.deviation.cosine.min:.7f}" in page
    for words in ("in another order", "Spearman", "every gate kept", "copies at length 1", "torch 2.13.0"):
        assert words in page


def test_it_shows_what_failed(report: ParityReport) -> None:
    int8 = report.variants[2]
    deviation = replace(int8.deviation, cosine=replace(int8.deviation.cosine, min=0.9))
    failed = replace(int8, failures=("int8: smallest cosine is 0.9",), deviation=deviation)
    page = render_page(replace(report, variants=(*report.variants[:2], failed)))
    assert "1 gate missed" in page
    assert "<li>int8: smallest cosine is 0.9</li>" in page
    assert '<td class="miss">0.9000000</td>' in page
    assert 'class="miss"' not in render_page(report)


def test_a_blank_text_is_named_so(report: ParityReport) -> None:
    worst = (WorstText(0, "  ", 2, 0.5),)
    page = render_page(replace(report, variants=(replace(report.variants[0], worst=worst),)))
    assert "empty or spaces only" in page


def test_pictures_have_their_part(report: ParityReport) -> None:
    """Verdicts, distances, the worst files; nothing by length, for a picture has none."""
    worst = (WorstText(0, "parity/pictures/019.png", 17, 0.5),)
    pictures = tuple(replace(one, worst=worst) for one in report.variants)
    page = render_page(replace(report, pictures=pictures))
    checked(page)
    part = page[page.index("<h2>Pictures</h2>") : page.index("<h2>How to read this</h2>")]
    assert "Share of pictures within a distance" in part
    assert part.count("parity/pictures/019.png") == len(pictures)
    assert "Pictures' vectors, against those" in part
    assert "By length" not in part
    for one in pictures:
        assert f"{one.deviation.cosine.min:.7f}" in part
    assert f"{pictures[0].deviation.num_texts} pictures" in page[: page.index("<h2>")]
    assert "Pictures" not in render_page(report)


def output(name: str, figures: dict[str, float], *gates: Gate, failures: tuple[str, ...] = ()) -> OutputReport:
    return OutputReport("fp32", name, "onnxruntime 1", 145, figures, gates, failures)


def test_a_reranker_has_pairs_and_no_texts(report: ParityReport) -> None:
    """Figures with their limits, by names that say what they are; what misses one is marked."""
    tau, largest = Gate("kendall_apart", ">", 0.99), Gate("max_abs_diff", "<=", 1e-4)
    figures = {"kendall_apart": 1.0, "max_abs_diff": 0.5, "spread": 2.0}
    scores = output("scores", figures, tau, largest, failures=("fp32, scores: max_abs_diff is 0.5",))
    page = render_page(replace(report, variants=(), num_tokens=(), reference=None, outputs=(scores,)))
    checked(page)
    assert "145 pairs of texts." in page
    assert " texts. " not in page[: page.index("<h2>")].replace("pairs of texts. ", "")
    assert "<h2>Scores of pairs of texts</h2>" in page
    assert '<td>1.0000000<br><span class="dim">&gt; 0.99</span></td>' in page
    assert '<td class="miss">5.0e-01' in page
    assert "standard deviation of the reference" in page
    assert "fp32: onnxruntime 1" in page
    assert "1 gate missed" in page


def test_every_figure_of_an_output_is_shown(export_outputs: Callable[..., tuple[Path, Path]]) -> None:
    report = ParityReport.from_json((export_outputs("m3")[1] / "parity" / "report.json").read_text(encoding="utf-8"))
    page = render_page(report)
    assert "<h2>Sparse vectors</h2>" in page
    assert "<h2>Vectors of tokens</h2>" in page
    for one in report.outputs:
        assert set(one.figures) == set(FIGURES[one.output])


@pytest.mark.parametrize("plot", [ecdf_plot, scatter_plot])
def test_the_legend_has_room(report: ParityReport, plot) -> None:  # type: ignore[no-untyped-def]
    """Of every variant at once."""
    one = report.variants[0]
    native = replace(one, variant="int8", executor="embedrt native int8")
    every = tuple(replace(one, variant=name) for name in ("fp32", "fp16", "int8", "bf16"))
    root = ElementTree.fromstring(plot(replace(report, variants=(*every, native))))
    (limit,) = [element for element in root.iter("text") if element.text == "limit"]
    assert float(limit.attrib["x"]) + 30 <= 500


@pytest.mark.parametrize("plot", [ecdf_plot, scatter_plot])
def test_plots_are_xml_with_titles_and_one_mark_per_text(report: ParityReport, plot) -> None:  # type: ignore[no-untyped-def]
    text = plot(report)
    root = ElementTree.fromstring(text)
    words = ["".join(element.itertext()) for element in root.iter("text")]
    assert any("1 − cosine" in word for word in words)
    assert any("log" in word for word in words)
    assert "nan" not in text
    assert "inf" not in text
    if plot is scatter_plot:
        assert text.count("<title>") == 3 * len(report.num_tokens)


@pytest.mark.parametrize("plot", [ecdf_plot, scatter_plot])
def test_plots_of_one_perfect_text_and_of_many(report: ParityReport, plot) -> None:  # type: ignore[no-untyped-def]
    for count, distance in ((1, 0.0), (1, 2.0), (5000, 0.0)):
        variants = tuple(replace(v, distances=(distance,) * count) for v in report.variants)
        text = plot(replace(report, variants=variants, num_tokens=(1,) * count))
        ElementTree.fromstring(text)
        assert len(text) < 1_000_000
