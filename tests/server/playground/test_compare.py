"""What the playground shows of vectors of texts."""

from __future__ import annotations

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from embedrt import Embedder
from tests.browsers import NEEDS_CHROMIUM
from tests.server.playground.page import MAP, Page, check_fits
from tests.server.serving import Served

pytestmark = NEEDS_CHROMIUM


def test_matrix_map_and_tokens(browser: webdriver.Chrome, served: Served, library: Embedder):
    page = Page(browser, served.url)
    texts = ["the water", "water", "stone house", "", "a light river", "stone " * 40]
    page.write("#texts", "\n".join(texts))
    page.press("#compare")
    texts = [text.strip() for text in texts if text]
    vectors = library.encode_detailed(texts).embeddings
    shown = [cell.text for cell in page.all("#matrix td")]
    wanted = library.similarity(vectors, vectors)
    assert [float(cell) for cell in shown] == pytest.approx(wanted.ravel(), abs=0.0051)
    assert len(page.all("#map circle")) == len(texts)
    assert len({dot.get_attribute("data-cluster") for dot in page.all("#map circle")}) >= 2
    rows = page.all("#tokens tbody tr")
    assert [row.find_element(By.CSS_SELECTOR, ".count").text for row in rows] == ["4", "3", "4", "5", "42 · cut at 32"]
    assert len(page.all("#tokens tbody tr:last-child .token.lost")) == 42 - 32  # the closing token stays
    assert f"{len(texts)} texts" in page.one("#status").text
    page.shoot("compared")
    assert page.complaints() == []


def test_the_first_view_is_a_finished_example_that_suits_the_model(browser: webdriver.Chrome, served: Served):
    """The lookup table knows a few Korean letters and no Korean word: its example is English."""
    page = Page(browser, served.url)
    lines = page.one("#texts").get_attribute("value").split("\n")
    assert all(line.isascii() for line in lines)
    assert len(page.all("#matrix tbody tr")) == len(page.all("#map circle")) == len(page.all("#hits li")) == len(lines)
    assert page.one("#query").get_attribute("value")
    assert not [card for card in page.all("section") if card.is_displayed() and not card.text.strip()]
    assert page.complaints() == []


def test_what_somebody_wrote_is_not_replaced(browser: webdriver.Chrome, served: Served):
    page = Page(browser, served.url)
    page.write("#texts", "the water\nstone")
    Select(page.one("#language")).select_by_value("ko")
    Select(page.one("#language")).select_by_value("en")
    page.settle()
    assert page.one("#texts").get_attribute("value") == "the water\nstone"


def test_the_scale_is_of_different_texts_and_never_of_next_to_nothing(browser: webdriver.Chrome, served: Served):
    page = Page(browser, served.url)
    page.write("#texts", "the water\nthe water\nthe water stone")
    page.press("#compare")
    own = ["self" in (cell.get_attribute("class") or "") for cell in page.all("#matrix td")]
    assert own == [True, False, False, False, True, False, False, False, True]
    low, high = (float(part) for part in page.one("#scale").text.split("\n")[:2])
    assert high - low >= 0.09


def test_texts_of_a_language_that_the_model_does_not_know_are_marked(browser: webdriver.Chrome, served: Served):
    page = Page(browser, served.url)
    page.write("#texts", "the water\n서울특별시는 대한민국의 수도\nstone house")
    page.press("#compare")
    assert page.one("#foreign").text.startswith("1 of 3 texts are mostly unknown")
    assert len(page.all("#tokens tr.foreign")) == 1
    page.write("#texts", "the water\nstone house")
    page.press("#compare")
    assert not page.one("#foreign").is_displayed()


def test_what_is_foreign_to_a_model(browser: webdriver.Chrome, served: Served):
    """Words and syllables are known; letters of letters (as MiniLM has for Korean) and unknown pieces are not."""
    page = Page(browser, served.url)
    seen = page.driver.execute_async_script("""
        const done = arguments[arguments.length - 1];
        const pieces = (...tokens) => tokens.map((token) => ({ token, special: false }));
        import("./static/drawings.js").then(({ isForeign: foreign }) => done([
            foreign("오늘 서울 날씨", pieces("▁오늘", "▁서울", "▁날", "씨")),
            foreign("hello jumping fox", pieces("hello", "jump", "##ing", "fox")),
            foreign("서울에서", pieces("ᄉ", "##ᅥ", "##ᄋ", "##ᅮ", "##ᆯ", "##ᄋ", "##ᅦ")),
            foreign("서울 날씨", pieces("[UNK]", "[UNK]")),
            foreign("42 + 17 = 59", pieces("42", "+", "1", "7", "=", "5", "9")),
        ]));
    """)
    assert seen == [False, False, True, True, False]


def test_the_map_has_a_legend_one_scale_and_no_label_on_a_dot(browser: webdriver.Chrome, served: Served):
    page = Page(browser, served.url)
    page.write("#texts", "the water\nwater\nstone house\na stone house\nbread and paper\npaper")
    page.press("#compare")
    clusters = {dot.get_attribute("data-cluster") for dot in page.all("#map circle")}
    assert len(page.all("#legend li")) == len(clusters) >= 2
    assert "% of the differences" in page.one("#share").text
    overlaps = page.driver.execute_script("""
        const box = (e) => e.getBoundingClientRect();
        const dots = [...document.querySelectorAll("#map circle")].map(box);
        return [...document.querySelectorAll("#map text")].map(box).filter((t) => dots.some((d) =>
            t.left < d.right - 1 && d.left < t.right - 1 && t.top < d.bottom - 3 && d.top < t.bottom - 3)).length;
    """)
    assert overlaps == 0


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_widths(browser: webdriver.Chrome, served: Served, width: int, language: str):
    """Nothing is wider than the window, every button is whole, and what is written can be read."""
    page = Page(browser, served.url, language)
    for dark in (False, True):
        check_fits(page, width, dark, f"{width}-{language}")
        page.wait(lambda: page.driver.execute_script(MAP)["right"] <= width)
        assert page.driver.execute_script(MAP)["letters"] >= 11
    page.restore()


def test_prompts_change_what_is_embedded(browser: webdriver.Chrome, served: Served, library: Embedder):
    page = Page(browser, served.url)
    page.write("#texts", "the water\nstone")
    page.one("input[value=':query']").click()
    page.press("#compare")
    vectors = library.encode_query(["the water", "stone"])
    assert float(page.all("#matrix td")[1].text) == pytest.approx(float(vectors[0] @ vectors[1]), abs=0.0051)
    assert page.one("#tokens tbody tr .count").text == str(library.count_tokens("in water : the water"))


def test_search_puts_the_nearest_line_first(browser: webdriver.Chrome, served: Served, library: Embedder):
    page = Page(browser, served.url)
    lines = ["the water", "stone house", "a light river", "bread and paper"]
    page.write("#texts", "\n".join(lines))
    page.write("#query", "house of stone")
    page.press("#search button")
    scores = library.similarity(library.encode_query(["house of stone"]), library.encode_document(lines))[0]
    order = [lines[i] for i in (-scores).argsort()]
    assert [hit.text for hit in page.all("#hits span")] == order
    page.shoot("searched")
    assert page.complaints() == []


def test_korean(browser: webdriver.Chrome, served: Served):
    page = Page(browser, served.url, language="ko")
    assert page.one("#compare").text == "비교하기"
    page.press("#compare")
    assert "토큰" in page.one("#status").text
    page.shoot("korean")
    Select(page.one("#language")).select_by_value("en")
    assert page.one("#compare").text == "Compare"
    words = page.driver.execute_async_script(
        "import('./static/words.js').then(m => arguments[0](Object.values(m.WORDS).map(Object.keys)))"
    )
    assert sorted(words[0]) == sorted(words[1]), "a word lacks its translation"
