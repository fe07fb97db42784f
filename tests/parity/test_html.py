from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from embedrt.parity.html import render_page
from embedrt.parity.report import ParityReport, WorstText
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
