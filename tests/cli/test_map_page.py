"""The map's page in a real headless Chromium (Debian: apt-get install chromium chromium-driver)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from embedrt.commands.map import Groups, Map, Plane
from embedrt.commands.map_picture import draw
from embedrt.commands.reading.records import Record
from tests.browsers import NEEDS_CHROMIUM, SCREENSHOTS, chromium

pytestmark = NEEDS_CHROMIUM
COUNT = 10_000
NAMES = ("한국어, 날씨", "English, weather", "日本語、天気")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium(1280, 900) as driver:
        yield driver


@pytest.fixture(scope="module")
def drawn() -> Map:
    """Ten thousand points around three places; the first lies alone, in a corner."""
    draw_ = np.random.default_rng(4)
    groups = draw_.integers(0, 3, COUNT)
    points = np.array([[-0.5, 0.4], [0.5, 0.3], [0.0, -0.5]])[groups] + 0.12 * draw_.standard_normal((COUNT, 2))
    points = np.clip(points, -0.9, 0.9).astype(np.float32)
    points[0], groups[0] = (0.95, -0.95), 0
    texts = ["서울의 <b>날씨</b>가 좋다"] + [f"text {i} of {NAMES[g]}" for i, g in enumerate(groups) if i]
    records = tuple(Record(i, i + 2, text, None, {"id": f"n{i}"}) for i, text in enumerate(texts))
    return Map("날씨.csv", Plane(points, "by hand"), records, Groups(groups, NAMES, "colours: lang"), "abc")


@pytest.fixture
def page(browser: webdriver.Chrome, drawn: Map, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    draw(drawn, tmp_path / "map.html")
    browser.get((tmp_path / "map.html").as_uri())
    wait(browser, lambda: painted(browser) > 1000)
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    said = [entry["message"] for entry in browser.get_log("browser")]
    assert [message for message in said if "willReadFrequently" not in message] == []  # the tests read it, not the page


def wait(driver: webdriver.Chrome, condition: object) -> None:
    WebDriverWait(driver, 15, 0.05).until(lambda _: condition())


def one(driver: webdriver.Chrome, css: str):
    return driver.find_element(By.CSS_SELECTOR, css)


def painted(driver: webdriver.Chrome) -> int:
    """Pixels of the canvas that are coloured."""
    return driver.execute_script("""
        const map = document.getElementById("map");
        const { data } = map.getContext("2d").getImageData(0, 0, map.width, map.height);
        let painted = 0;
        for (let i = 0; i < data.length; i += 4) painted += Math.abs(data[i] - data[i + 2]) > 40;
        return painted;
    """)


def place_of(driver: webdriver.Chrome, point: int) -> tuple[float, float]:
    """Where a point is, from the middle of the canvas."""
    x, y = driver.execute_script(f"return [acrossOf({point}) - size.width / 2, downOf({point}) - size.height / 2]")
    return round(x), round(y)


def point_at(driver: webdriver.Chrome, point: int) -> None:
    ActionChains(driver).move_to_element_with_offset(one(driver, "#map"), *place_of(driver, point)).perform()


def test_pointing_shows_the_text_and_its_columns(page: webdriver.Chrome) -> None:
    assert not one(page, "#tip").is_displayed()
    point_at(page, 0)
    wait(page, lambda: one(page, "#tip").is_displayed())
    shown = one(page, "#tip").text.split("\n")
    assert shown == [NAMES[0], "서울의 <b>날씨</b>가 좋다", "line 2", "id: n0"]
    box, stage = one(page, "#tip").rect, one(page, "#stage").rect
    assert box["x"] >= stage["x"]
    assert box["x"] + box["width"] <= stage["x"] + stage["width"], "in a corner, and whole"
    assert box["y"] + box["height"] <= stage["y"] + stage["height"]


def test_dragging_moves_and_the_wheel_zooms_where_the_pointer_is(page: webdriver.Chrome) -> None:
    before = place_of(page, 0)
    ActionChains(page).drag_and_drop_by_offset(one(page, "#map"), -60, -40).perform()
    assert place_of(page, 0) == (before[0] - 60, before[1] - 40)
    page.execute_script("""
        const box = canvas.getBoundingClientRect();
        canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: -120, cancelable: true,
            clientX: box.left + acrossOf(0), clientY: box.top + downOf(0) }));
    """)
    assert page.execute_script("return view.scale") > 1.1
    assert place_of(page, 0) == (before[0] - 60, before[1] - 40), "what lies under the pointer stays"
    one(page, "#whole").click()
    assert place_of(page, 0) == before
    one(page, "#in").click()
    assert page.execute_script("return view.scale") == pytest.approx(1.5)


def test_searching_marks_and_finds(page: webdriver.Chrome) -> None:
    one(page, "#search").send_keys("  <B>날씨")
    wait(page, lambda: one(page, "#found").text == "1 of 10,000 texts")
    hit = one(page, "#hits button")
    assert hit.text == "서울의 <b>날씨</b>가 좋다"
    hit.click()
    wait(page, lambda: one(page, "#tip").is_displayed())
    assert place_of(page, 0) == (0, 0)
    one(page, "#search").send_keys("\b" * 20 + "no such text")
    wait(page, lambda: one(page, "#found").text == "0 of 10,000 texts")
    assert not page.find_elements(By.CSS_SELECTOR, "#hits button")


def test_the_legend_hides_groups(page: webdriver.Chrome) -> None:
    items = page.find_elements(By.CSS_SELECTOR, "#legend button")
    assert [item.text.split("\n")[0] for item in items] == list(NAMES)
    assert sum(int(item.text.split("\n")[1].replace(",", "")) for item in items) == COUNT
    before = painted(page)
    items[0].click()
    wait(page, lambda: painted(page) < 0.8 * before)
    point_at(page, 0)
    assert not one(page, "#tip").is_displayed(), "what is hidden is not pointed at"
    one(page, "#all").click()
    wait(page, lambda: painted(page) > 0.95 * before)


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_widths_by_day_and_night(page: webdriver.Chrome, width: int) -> None:
    """Nothing is wider than the window, and the colours are those of the system."""
    backgrounds = set()
    for dark in (False, True):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 2, "mobile": width < 500}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        wait(page, lambda: page.execute_script("return canvas.width === Math.round(size.width * 2)"))
        wait(page, lambda: painted(page) > 1000)
        if SCREENSHOTS:
            page.save_screenshot(str(Path(SCREENSHOTS) / f"map-{width}-{'dark' if dark else 'light'}.png"))
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert one(page, "#map").rect["width"] >= 0.5 * width
        backgrounds.add(one(page, "body").value_of_css_property("background-color"))
        for button in page.find_elements(By.CSS_SELECTOR, "button"):
            assert button.rect["x"] + button.rect["width"] <= width
    assert len(backgrounds) == 2


def test_keys_move_and_zoom(page: webdriver.Chrome) -> None:
    before = place_of(page, 0)
    for key in ("\ue014", "\ue015"):  # arrows right and down
        one(page, "#map").send_keys(key)
    assert place_of(page, 0) == (before[0] - 40, before[1] - 40)
    one(page, "#map").send_keys("+")
    assert page.execute_script("return view.scale") == pytest.approx(1.3)
    one(page, "#map").send_keys("0")
    assert place_of(page, 0) == before


def test_only_groups_that_have_a_place_are_named_in_it(browser: webdriver.Chrome, drawn: Map, tmp_path: Path) -> None:
    """Languages in a map by meaning lie all over each other: a name in their middle would say what is not so."""
    named = "return middles.map(({ group }) => group).sort()"
    draw(drawn, tmp_path / "apart.html")
    browser.get((tmp_path / "apart.html").as_uri())
    assert browser.execute_script(named) == [0, 1, 2]
    mixed = replace(drawn.groups, of_rows=np.random.default_rng(1).integers(0, 3, COUNT))
    draw(replace(drawn, groups=mixed), tmp_path / "mixed.html")
    browser.get((tmp_path / "mixed.html").as_uri())
    assert len(browser.execute_script(named)) < 3
