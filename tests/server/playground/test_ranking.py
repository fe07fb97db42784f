"""What the playground shows of rerankers."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver

from embedrt import Reranker
from tests import tiny
from tests.browsers import NEEDS_CHROMIUM
from tests.conftest import Rerankers
from tests.server.playground.page import Page, check_fits, choose, run_code
from tests.server.serving import Served, serving

pytestmark = NEEDS_CHROMIUM


RANKED = """
    const parts = (hit) => ["span", "output", "small"].map((name) => hit.querySelector(name));
    return [...document.querySelectorAll("#hits li")].map(parts).map(([text, score, place]) =>
        [text.textContent, score.title, place.textContent]);
"""


@pytest.fixture(scope="module")
def both_sorts(rerankers: Rerankers, lookup_bundle: Path) -> Iterator[Served]:
    """An embedder and a reranker."""
    with serving(f"texts={lookup_bundle}", f"pairs={rerankers.bundle('bert')}", variant="fp32") as made:
        yield made


def test_a_pasted_list_is_reranked(browser: webdriver.Chrome, ranking: Served, rerankers: Rerankers, tmp_path: Path):
    """Scores, order, and the line that each was, against the library's."""
    page = Page(browser, ranking.url)
    assert [option.text for option in page.all("#model option")] == ["pairs", "labels"]
    assert not page.one("#second-field").is_displayed()  # a classifier orders nothing
    assert "reranker" in page.one("#served").text
    for hidden in ("#compare", "#kinds", "#matrix", "#map", "#tokens", "#dimensions-field"):
        assert not page.one(hidden).is_displayed()
    documents = [*tiny.CORPUS, tiny.CORPUS[0]]
    page.write("#texts", "\n".join(documents))
    page.write("#query", "fox")
    page.press("#search button")
    with Reranker(rerankers.bundle("bert"), variant="fp32", num_threads=1) as library:
        wanted = library.rank("fox", documents)
    shown = page.driver.execute_script(RANKED)
    assert [text for text, _, _ in shown] == [documents[hit["corpus_id"]] for hit in wanted]
    np.testing.assert_allclose([float(score) for _, score, _ in shown], [hit["score"] for hit in wanted], atol=1e-6)
    moved = [hit["corpus_id"] - rank for rank, hit in enumerate(wanted)]
    arrows = [f"{'▲' if by > 0 else '▼'}{abs(by)}" if by else "" for by in moved]
    assert [place for _, _, place in shown] == [
        f"#{hit['corpus_id'] + 1}{arrow}" for hit, arrow in zip(wanted, arrows, strict=True)
    ]
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.one("[data-file='ranking.csv']").click()
    page.wait(lambda: (tmp_path / "ranking.csv").exists())
    rows = list(csv.DictReader((tmp_path / "ranking.csv").read_text(encoding="utf-8").splitlines()))
    assert [int(row["line"]) - 1 for row in rows] == [hit["corpus_id"] for hit in wanted]
    page.shoot("reranked")
    assert page.complaints() == []


def test_a_rerankers_first_view_is_a_finished_example(browser: webdriver.Chrome, ranking: Served):
    page = Page(browser, ranking.url)
    lines = page.one("#texts").get_attribute("value").split("\n")
    assert {line.isascii() for line in lines} == {True, False}  # the model's tokenizer knows Korean
    assert len(page.all("#hits li")) == len(lines)
    assert page.one("#query").get_attribute("value") == "How do I get my money back?"
    assert not [card for card in page.all("section") if card.is_displayed() and not card.text.strip()]
    assert page.complaints() == []


def test_a_rerankers_order_beside_an_embedders(browser: webdriver.Chrome, both_sorts: Served):
    page = Page(browser, both_sorts.url)
    example = page.one("#texts").get_attribute("value")
    choose(page, "#second", "pairs")
    assert page.one("#matrix").is_displayed()
    assert not page.one("#beside").is_displayed()  # a reranker has no similarities of its own
    assert [page.one(f"#{name}-name").text for name in ("hits", "hits-beside")] == ["texts", "pairs"]
    choose(page, "#model", "pairs")
    assert page.one("#texts").get_attribute("value") != example  # what nobody wrote gives way to a ranking's example
    assert not page.one("#matrix").is_displayed()
    page.write("#texts", "the water\nstone house\na light river")
    page.write("#query", "house of stone")
    choose(page, "#second", "texts")
    assert [page.one(f"#{name}-name").text for name in ("hits", "hits-beside")] == ["pairs", "texts"]
    assert page.all("#hits-beside li span")[0].text == "stone house"
    choose(page, "#model", "texts")
    assert page.one("#matrix").is_displayed()
    assert page.one("#texts").get_attribute("value").startswith("the water")
    assert page.complaints() == []


def test_the_last_ranking_as_code_that_runs(browser: webdriver.Chrome, ranking: Served):
    page = Page(browser, ranking.url)
    page.write("#texts", 'the fox\'s "dog" $HOME\nstone')
    page.write("#query", "fox's `x`")
    page.press("#search button")
    shown = {int(place[1]) - 1: float(score) for _, score, place in page.driver.execute_script(RANKED)}
    for ranked in run_code(page, "ranking"):
        assert {row["index"]: row["score"] for row in ranked} == shown
    page.one("#code button:nth-child(3)").click()
    assert "const ranking = (await answer.json());" in page.one("#code pre").text


def test_a_ranking_says_what_it_lacks_and_what_was_cut(browser: webdriver.Chrome, ranking: Served):
    page = Page(browser, ranking.url)
    page.write("#query", "")
    page.press("#search button")
    assert page.one("#error").text == "Write a query, and at least one line."
    page.write("#query", "fox")
    page.write("#texts", "dog\n" + "stone " * 200)
    page.press("#search button")
    assert "1 of 2 lines were cut: with the query they have more than" in page.one("#hits-note").text
    assert page.complaints() == []


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_widths_of_a_ranking(browser: webdriver.Chrome, ranking: Served, width: int, language: str):
    page = Page(browser, ranking.url, language)
    check_fits(page, width, dark=False, name=f"ranking-{width}-{language}")
    page.restore()
