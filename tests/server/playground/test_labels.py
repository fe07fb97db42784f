"""What the playground shows of classifiers."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver

from embedrt import Reranker
from tests.browsers import NEEDS_CHROMIUM
from tests.conftest import Rerankers
from tests.server.playground.page import Page, check_fits, choose, run_code
from tests.server.serving import Served, serving

pytestmark = NEEDS_CHROMIUM


LABELLED = """
    return [...document.querySelectorAll("#labels > li")].map((line) => [
        [...line.querySelectorAll("p")].map((part) => part.textContent),
        [...line.querySelectorAll("ul li")].map((row) =>
            [row.querySelector("span").textContent, row.querySelector("output").title]),
    ]);
"""


@pytest.fixture(scope="module")
def labelling(rerankers: Rerankers) -> Iterator[Served]:
    """A classifier of pairs by three labels."""
    with serving(f"labels={rerankers.bundle('labels')}", variant="fp32") as made:
        yield made


def test_texts_and_pairs_are_classified(
    browser: webdriver.Chrome, labelling: Served, rerankers: Rerankers, tmp_path: Path
):
    """Labels, scores and their order, against the library's; a line is a text, or a pair by a tab or two bars."""
    page = Page(browser, labelling.url)
    assert "classifier of 3 labels" in page.one("#served").text
    page.write("#texts", "the fox\nthe fox || a dog\n=stone\twater\n")
    page.press("#compare")
    with Reranker(rerankers.bundle("labels"), variant="fp32", num_threads=1) as library:
        pairs = [("the fox", "a dog"), ("=stone", "water")]
        wanted = [*library.predict([["the fox"]], apply_softmax=True), *library.predict(pairs, apply_softmax=True)]
        names = library.labels
    shown = page.driver.execute_script(LABELLED)
    assert [parts for parts, _ in shown] == [["the fox"], *map(list, pairs)]
    for (_, rows), scores in zip(shown, wanted, strict=True):
        order = np.argsort(-scores, kind="stable")
        assert [name for name, _ in rows] == [names[k] for k in order]
        np.testing.assert_allclose([float(score) for _, score in rows], scores[order], atol=1e-6)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.one("[data-file='labels.csv']").click()
    page.wait(lambda: (tmp_path / "labels.csv").exists())
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["text"], row["second"]) for row in rows] == [
        ("the fox", ""),
        ("the fox", "a dog"),
        ("'=stone", "water"),
    ]
    np.testing.assert_allclose([[float(row[name]) for name in names] for row in rows], wanted, atol=1e-6)
    page.shoot("classified")
    assert page.complaints() == []


def test_a_classifiers_first_view_has_pairs_where_its_labels_compare(browser: webdriver.Chrome, labelling: Served):
    page = Page(browser, labelling.url)
    lines = page.one("#texts").get_attribute("value").split("\n")
    assert all(" || " in line for line in lines)
    assert {line.isascii() for line in lines} == {True, False}  # the model's tokenizer knows Korean
    assert len(page.all("#labels > li")) == len(lines)
    for hidden in ("#searching", "#vectors", "#kinds", "#dimensions-field", "#second-field"):
        assert not page.one(hidden).is_displayed()
    assert not [card for card in page.all("section") if card.is_displayed() and not card.text.strip()]
    assert page.complaints() == []


def test_a_classifier_and_a_reranker_take_turns(browser: webdriver.Chrome, ranking: Served):
    page = Page(browser, ranking.url)
    choose(page, "#model", "labels")
    assert page.one("#labels").is_displayed()
    assert page.one("#compare").text == "Classify"
    assert not page.one("#hits").is_displayed()
    choose(page, "#model", "pairs")
    assert page.one("#hits").is_displayed()
    assert not page.one("#labels").is_displayed()
    page.write("#texts", "the fox\nstone")  # somebody's own, which the next model gets too
    page.write("#query", "fox")
    choose(page, "#model", "labels")
    assert [parts for parts, _ in page.driver.execute_script(LABELLED)] == [["the fox"], ["stone"]]
    assert page.complaints() == []


def test_the_last_labels_as_code_that_runs(browser: webdriver.Chrome, labelling: Served):
    page = Page(browser, labelling.url)
    page.write("#texts", 'the fox\'s "dog" $HOME || `x`\nstone')
    page.press("#compare")
    shown = [[float(score) for _, score in rows] for _, rows in page.driver.execute_script(LABELLED)]
    for labels in run_code(page, "labels"):
        assert [[row["score"] for row in line] for line in labels] == shown
    page.one("#code button:nth-child(3)").click()
    assert "const labels = (await answer.json());" in page.one("#code pre").text


def test_labels_say_what_they_lack_and_what_was_cut(browser: webdriver.Chrome, labelling: Served):
    page = Page(browser, labelling.url)
    page.write("#texts", "one || two\none || two || three")
    page.press("#compare")
    assert page.one("#error").text.startswith("Line 2 has more than two parts")
    page.write("#texts", "dog\n" + "stone " * 200)
    page.press("#compare")
    assert page.one("#labels-note").text.startswith("1 of 2 lines were cut")
    page.write("#texts", " \n")
    page.press("#compare")
    assert page.one("#error").text == "Write at least one text."
    assert page.complaints() == []


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_widths_of_labels(browser: webdriver.Chrome, labelling: Served, width: int, language: str):
    page = Page(browser, labelling.url, language)
    for dark in (False, True):
        check_fits(page, width, dark, f"labels-{width}-{language}")
    page.restore()
