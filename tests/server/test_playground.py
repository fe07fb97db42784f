"""The playground in a real headless Chromium (Debian: apt-get install chromium chromium-driver)."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from embedrt import Embedder, Reranker
from embedrt.pictures.generated import generated_pictures
from tests import tiny
from tests.browsers import NEEDS_CHROMIUM, SCREENSHOTS, chromium
from tests.conftest import Rerankers
from tests.server.serving import Served, serving
from tests.server.test_outputs import Export

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium(1280, 1500) as driver:
        yield driver


# Where the map ends, and the height of its letters as they are seen.
MAP = """
    const drawn = document.querySelector("#map svg"), { right, width } = drawn.getBoundingClientRect();
    const size = parseFloat(getComputedStyle(drawn.querySelector("text")).fontSize);
    return { right, letters: size * width / drawn.viewBox.baseVal.width };
"""


class Page:
    """The playground, opened anew."""

    def __init__(self, driver: webdriver.Chrome, url: str, language: str = "en") -> None:
        self.driver = driver
        driver.get(url)
        driver.execute_script(f"localStorage.setItem('language', '{language}')")
        driver.get(url)
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is being worked on: the example is there, or an error."""
        done = lambda: self.all("#hits li, #labels > li") or self.one("#error").is_displayed()  # noqa: E731
        self.wait(lambda: done() and self.one("#compare").is_enabled())

    def wait(self, condition: object) -> None:
        WebDriverWait(self.driver, 15, 0.05).until(lambda _: condition())

    def one(self, css: str):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def write(self, css: str, text: str) -> None:
        self.driver.execute_script("arguments[0].value = arguments[1]", self.one(css), text)

    def press(self, css: str) -> None:
        self.one(css).click()
        self.wait(lambda: self.one("#compare").is_enabled())

    def resize(self, width: int, *, dark: bool = False) -> None:
        """The window of a phone, a tablet or a desk, by day or by night."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def shoot(self, name: str) -> None:
        if SCREENSHOTS:
            self.driver.save_screenshot(str(Path(SCREENSHOTS) / f"{name}.png"))

    def complaints(self) -> list[str]:
        """What the console says, but for answers that the test asked for."""
        return [e["message"] for e in self.driver.get_log("browser") if "status of 4" not in e["message"]]


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


def check_fits(page: Page, width: int, dark: bool, name: str) -> None:
    """Nothing is wider than the window, and every button is whole."""
    page.resize(width, dark=dark)
    page.settle()
    page.shoot(f"{name}-{'dark' if dark else 'light'}")
    assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
    for button in page.all("button"):
        assert button.rect["x"] >= 0
        assert button.rect["x"] + button.rect["width"] <= width
        assert button.rect["height"] < 50  # its words are on one line


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_widths(browser: webdriver.Chrome, served: Served, width: int, language: str):
    """Nothing is wider than the window, every button is whole, and what is written can be read."""
    page = Page(browser, served.url, language)
    for dark in (False, True):
        check_fits(page, width, dark, f"{width}-{language}")
        page.wait(lambda: page.driver.execute_script(MAP)["right"] <= width)
        assert page.driver.execute_script(MAP)["letters"] >= 11
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.fixture(scope="module")
def two(lookup_bundle: Path) -> Iterator[Served]:
    with serving(f"one={lookup_bundle}", f"two={lookup_bundle}", variant="fp32", matryoshka=("one",)) as made:
        yield made


def choose(page: Page, css: str, value: str) -> None:
    Select(page.one(css)).select_by_value(value)
    page.wait(lambda: page.one("#compare").is_enabled())


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


def test_the_last_call_as_code_that_runs(browser: webdriver.Chrome, served: Served, library: Embedder):
    """What the page shows is run: curl by the shell, Python by this interpreter."""
    page = Page(browser, served.url)
    page.write("#texts", 'the water\'s "light" $HOME \\ `x`\nstone')
    page.press("#compare")
    wanted = library.encode(['the water\'s "light" $HOME \\ `x`', "stone"])
    done = subprocess.run(["sh", "-c", page.one("#code pre").text], capture_output=True, text=True, check=True)
    rows = [row["embedding"] for row in json.loads(done.stdout)["data"]]
    assert np.array_equal(np.array(rows, np.float32), wanted)
    page.one("#code button:nth-child(2)").click()
    code = page.one("#code pre").text + "\nimport json; print(json.dumps(vectors))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert np.array_equal(np.array(json.loads(done.stdout), np.float32), wanted)
    page.one("#code button:nth-child(3)").click()
    assert page.one("#code pre").text.startswith("const answer = await fetch(")


def test_where_the_time_went(browser: webdriver.Chrome, served: Served):
    page = Page(browser, served.url)
    phases = [row.text for row in page.all(".phases li")]
    assert {"tokenizing", "queue", "model", "writing"} <= {text.rsplit(" ", 2)[0] for text in phases}
    assert all(text.endswith(" ms") for text in phases)


def test_a_file_is_opened_and_answers_are_given_away(browser: webdriver.Chrome, served: Served, tmp_path: Path):
    page = Page(browser, served.url)
    (tmp_path / "rows.jsonl").write_text('{"text": "the water"}\n"=stone"\n{"content": "a\\nriver"}\n')
    page.one("#file").send_keys(str(tmp_path / "rows.jsonl"))
    page.wait(lambda: page.one("#texts").get_attribute("value") == "the water\n=stone\na river")
    page.wait(lambda: page.one("#compare").is_enabled())
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for name in ("similarities.csv", "vectors.jsonl"):
        page.one(f"[data-file='{name}']").click()
        page.wait(lambda name=name: (tmp_path / name).exists())
    rows = list(csv.reader((tmp_path / "similarities.csv").read_text(encoding="utf-8").splitlines()))
    assert [row[0] for row in rows] == ["", "the water", "'=stone", "a river"]  # no formula for a spreadsheet
    vectors = [json.loads(line) for line in (tmp_path / "vectors.jsonl").read_text().splitlines()]
    assert [row["text"] for row in vectors] == ["the water", "=stone", "a river"]
    assert len(vectors[0]["embedding"]) == 8
    (tmp_path / "bad.jsonl").write_text('{"text": "the water"}\n{"title": 1}\n')
    page.one("#file").send_keys(str(tmp_path / "bad.jsonl"))
    page.wait(lambda: page.one("#error").is_displayed())
    assert "Line 2 of bad.jsonl has no text" in page.one("#error").text
    (tmp_path / "many.txt").write_text("".join(f"stone {i}\n" for i in range(2001)))
    page.one("#file").send_keys(str(tmp_path / "many.txt"))
    page.wait(lambda: "The first 2000 of 2001 lines" in page.one("#error").text)


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


RANKED = """
    const parts = (hit) => ["span", "output", "small"].map((name) => hit.querySelector(name));
    return [...document.querySelectorAll("#hits li")].map(parts).map(([text, score, place]) =>
        [text.textContent, score.title, place.textContent]);
"""


@pytest.fixture(scope="module")
def ranking(rerankers: Rerankers) -> Iterator[Served]:
    """A reranker, and a classifier of pairs by three labels."""
    with serving(f"pairs={rerankers.bundle('bert')}", f"labels={rerankers.bundle('labels')}", variant="fp32") as made:
        yield made


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
    done = subprocess.run(["sh", "-c", page.one("#code pre").text], capture_output=True, text=True, check=True)
    assert {row["index"]: row["score"] for row in json.loads(done.stdout)} == shown
    page.one("#code button:nth-child(2)").click()
    code = page.one("#code pre").text + "\nimport json; print(json.dumps(ranking))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {row["index"]: row["score"] for row in json.loads(done.stdout)} == shown
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
    page.resize(width)
    page.settle()
    page.shoot(f"ranking-{width}-{language}")
    assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
    for button in page.all("button"):
        assert button.rect["x"] + button.rect["width"] <= width
        assert button.rect["height"] < 50
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_errors_and_keys_are_shown(browser: webdriver.Chrome, lookup_bundle: Path):
    with serving(lookup_bundle, api_keys=("secret",)) as server:
        page = Page(browser, server.url)
        assert page.one("#error").text == "This server wants an API key."
        page.one("#key").send_keys("secret\t")
        page.settle()
        page.write("#texts", " \n ")
        page.press("#compare")
        assert page.one("#error").text == "Write at least one text."
        page.write("#texts", "<img src=x onerror=alert(1)>\nstone")
        page.press("#compare")
        assert not page.all("#matrix img, #tokens img")
        assert len(page.all("#matrix td")) == 4


def test_the_api_page(browser: webdriver.Chrome, served: Served):
    browser.get_log("browser")  # what earlier tests left in it
    browser.get(f"{served.url}/docs")
    WebDriverWait(browser, 15).until(lambda d: len(d.find_elements(By.CSS_SELECTOR, "#operations section")) > 10)
    assert "POST /v1/embeddings" in browser.find_element(By.TAG_NAME, "main").text
    section = browser.find_element(By.ID, "post_v1_embeddings")
    assert "NAME:query" in section.text  # what a field means
    opened = section.find_element(By.XPATH, ".//summary[.='Embedding']")
    assert "a string of base64" in section.text  # an answer's types are open
    browser.execute_script("arguments[0].click()", opened)
    assert "a string of base64" not in section.text
    assert "data:image/png;base64" in section.text
    browser.execute_script("arguments[0].open = true", section.find_element(By.CSS_SELECTOR, "details.try"))
    titles = [one.text for one in section.find_elements(By.CSS_SELECTOR, "form option")]
    assert titles == ["texts", "a query, in base64", "a picture"]
    section.find_element(By.CSS_SELECTOR, "form button").click()
    WebDriverWait(browser, 15).until(lambda _: "200" in section.find_element(By.CSS_SELECTOR, "form pre").text)
    assert '"identity"' in section.find_element(By.CSS_SELECTOR, "form pre").text
    Select(section.find_element(By.CSS_SELECTOR, "form select")).select_by_visible_text("a query, in base64")
    section.find_element(By.CSS_SELECTOR, "form button").click()
    WebDriverWait(browser, 15).until(lambda _: "=" in section.find_element(By.CSS_SELECTOR, "form pre").text[-200:])
    assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    for width in (360, 1280):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_pictures_are_dropped_and_found_by_words(browser, clip_bundle: Path, tmp_path: Path):
    """Where the model embeds both; in the order of the library's cosines, and in Korean."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, pixels in zip(paths, generated_pictures(5, seed=3), strict=True):
        Image.fromarray(pixels).save(path)
    with serving(f"clip={clip_bundle}", variant="fp32") as server, Embedder(clip_bundle, variant="fp32") as library:
        page = Page(browser, server.url, "ko")
        assert len(page.all("#pictures img")) == 5  # the page's own, as an example
        assert page.one("#picture-query").get_attribute("value") == "the sun over the sea"  # the model knows no Korean
        assert page.all("#pictures figcaption")[0].text.lstrip("-").startswith("0.")
        page.one("#picture-files").send_keys("\n".join(map(str, paths)))
        names = "return [...document.querySelectorAll('#pictures img')].map((image) => image.alt)"
        mine = sorted(path.name for path in paths)
        page.wait(lambda: sorted(browser.execute_script(names)) == mine and page.one("#compare").is_enabled())
        assert page.all("#pictures img")[0].get_attribute("naturalWidth") != "0"
        page.write("#picture-query", "서울의 여우")
        page.press("#picture-search button")
        page.wait(lambda: page.all("#pictures figcaption")[0].text.lstrip("-").startswith("0."))
        scores = library.similarity(library.encode("서울의 여우"), library.encode(paths))[0]
        order = [paths[i].name for i in np.argsort(-scores)]
        assert [image.get_attribute("alt") for image in page.all("#pictures img")] == order
        shown = [float(caption.text) for caption in page.all("#pictures figcaption")]
        np.testing.assert_allclose(shown, np.sort(scores)[::-1], atol=6e-4)
        page.shoot("pictures")


def test_a_model_of_texts_has_no_place_for_pictures(browser, served: Served):
    page = Page(browser, served.url)
    assert not page.one("#picture-query").is_displayed()


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
    done = subprocess.run(["sh", "-c", page.one("#code pre").text], capture_output=True, text=True, check=True)
    assert [[row["score"] for row in line] for line in json.loads(done.stdout)] == shown
    page.one("#code button:nth-child(2)").click()
    code = page.one("#code pre").text + "\nimport json; print(json.dumps(labels))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [[row["score"] for row in line] for line in json.loads(done.stdout)] == shown
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
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
