"""What the playground takes and gives away (files, code of the last call, times, errors), and the page of the API."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from embedrt import Embedder
from tests.browsers import NEEDS_CHROMIUM
from tests.server.playground.page import Page, run_code
from tests.server.serving import Served, serving

pytestmark = NEEDS_CHROMIUM


def test_the_last_call_as_code_that_runs(browser: webdriver.Chrome, served: Served, library: Embedder):
    """What the page shows is run: curl by the shell, Python by this interpreter."""
    page = Page(browser, served.url)
    page.write("#texts", 'the water\'s "light" $HOME \\ `x`\nstone')
    page.press("#compare")
    wanted = library.encode(['the water\'s "light" $HOME \\ `x`', "stone"])
    answer, vectors = run_code(page, "vectors")
    for rows in ([row["embedding"] for row in answer["data"]], vectors):
        assert np.array_equal(np.array(rows, np.float32), wanted)
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
