"""Which models the playground offers, and several of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.browsers import NEEDS_CHROMIUM
from tests.server.playground.page import Page, choose
from tests.server.serving import Served, serving
from tests.server.test_outputs import Export

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def two(lookup_bundle: Path) -> Iterator[Served]:
    with serving(f"one={lookup_bundle}", f"two={lookup_bundle}", variant="fp32", matryoshka=("one",)) as made:
        yield made


def test_nothing_is_left_of_other_texts_or_another_model(browser: webdriver.Chrome, two: Served):
    page = Page(browser, two.url)
    page.write("#texts", "the water\nstone")
    page.press("#compare")
    assert sorted(hit.text for hit in page.all("#hits span")) == ["stone", "the water"]
    page.write("#texts", "bread\npaper")
    choose(page, "#model", "two")
    assert sorted(hit.text for hit in page.all("#hits span")) == ["bread", "paper"]


def test_two_models_side_by_side(browser: webdriver.Chrome, two: Served):
    page = Page(browser, two.url)
    assert not page.one("#beside").is_displayed()
    page.write("#texts", "the water\nwater\nstone house\na river")
    choose(page, "#second", "two")
    assert "ranked alike to 1.000 (Spearman)" in page.one("#beside p").text
    assert "the same for 4 of 4 texts" in page.one("#beside p").text
    assert [figure.text.split()[0] for figure in page.all("#beside figcaption")] == ["one", "two"]
    first, second = ([hit.text for hit in page.all(f"#{name} span")] for name in ("hits", "hits-beside"))
    assert first == second
    assert len(first) == 4
    page.shoot("beside")
    choose(page, "#second", "")
    assert not page.one("#beside").is_displayed()
    assert not page.one("#hits-beside").is_displayed()
    assert page.complaints() == []


def test_dimensions_are_offered_where_the_model_may_be_shortened(browser: webdriver.Chrome, two: Served):
    """The table's 8 dimensions leave nothing to offer; the field says so by not being there."""
    page = Page(browser, two.url)
    assert two.get("/v1/models").json()["data"][0]["matryoshka"] is True
    assert not page.one("#dimensions-field").is_displayed()
    page.driver.execute_script("document.getElementById('dimensions').append(new Option('4', '4'))")
    page.driver.execute_script("document.getElementById('dimensions-field').hidden = false")
    choose(page, "#dimensions", "4")
    assert '"dimensions": 4' in page.one("#code pre").text
    assert page.complaints() == []


def test_models_that_give_no_vectors_of_texts_are_not_offered(
    browser: webdriver.Chrome, lookup_bundle: Path, export_outputs: Export
):
    words = export_outputs("splade", variants=("fp32",))[1]
    with serving(f"words={words}", f"texts={lookup_bundle}") as server:
        page = Page(browser, server.url)
        assert [option.text for option in page.all("#model option")] == ["texts"]
        assert page.all("#matrix td")
    with serving(f"words={words}") as server:
        page = Page(browser, server.url)
        assert page.one("#error").text.startswith(
            "This page shows vectors of texts, rankings and labels, and words gives none of them"
        )
