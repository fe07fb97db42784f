"""What several of the tests share: the browser, and a server of rerankers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver

from tests.browsers import chromium
from tests.conftest import Rerankers
from tests.server.serving import Served, serving


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium(1280, 1500) as driver:
        yield driver


@pytest.fixture(scope="module")
def ranking(rerankers: Rerankers) -> Iterator[Served]:
    """A reranker, and a classifier of pairs by three labels."""
    with serving(f"pairs={rerankers.bundle('bert')}", f"labels={rerankers.bundle('labels')}", variant="fp32") as made:
        yield made
