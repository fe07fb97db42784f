"""A real browser for the tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDS_CHROMIUM = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")
SCREENSHOTS = os.environ.get("EMBEDRT_TEST_SCREENSHOTS")
"""A folder to look at the pages in, for people."""


@contextmanager
def chromium(width: int, height: int) -> Iterator[webdriver.Chrome]:
    """Chromium without a screen, in English, that logs all of its console."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    size = f"--window-size={width},{height}"
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", size, "--lang=en"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
