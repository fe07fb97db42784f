"""The playground for its tests, in a real headless Chromium (Debian: apt-get install chromium-driver chromium)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.browsers import SCREENSHOTS

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

    def restore(self) -> None:
        """The window as it was before `resize`."""
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def shoot(self, name: str) -> None:
        if SCREENSHOTS:
            self.driver.save_screenshot(str(Path(SCREENSHOTS) / f"{name}.png"))

    def complaints(self) -> list[str]:
        """What the console says, but for answers that the test asked for."""
        return [e["message"] for e in self.driver.get_log("browser") if "status of 4" not in e["message"]]


def run_code(page: Page, variable: str) -> tuple[Any, Any]:
    """The last call as the page shows it, run: what curl gives in the shell, and `variable` of the Python beside it."""

    def run(*command: str) -> Any:
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    answer = run("sh", "-c", page.one("#code pre").text)
    page.one("#code button:nth-child(2)").click()
    code = f"{page.one('#code pre').text}\nimport json; print(json.dumps({variable}))"
    return answer, run(sys.executable, "-c", code)


def choose(page: Page, css: str, value: str) -> None:
    Select(page.one(css)).select_by_value(value)
    page.wait(lambda: page.one("#compare").is_enabled())


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
