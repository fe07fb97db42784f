"""Servers for the tests of the front: two that serve the same, and one that serves another variant by the same name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import lookup_bundle
from tests.server.serving import Served, serving

__all__ = ["lookup_bundle"]


@pytest.fixture(scope="session")
def one(lookup_bundle: Path) -> Iterator[Served]:
    """fp32 under the name "lookup"."""
    with serving(lookup_bundle, variant="fp32") as made:
        yield made


@pytest.fixture(scope="session")
def two(lookup_bundle: Path) -> Iterator[Served]:
    """The same again."""
    with serving(lookup_bundle, variant="fp32") as made:
        yield made


@pytest.fixture(scope="session")
def other(lookup_bundle: Path) -> Iterator[Served]:
    """int8 under the same name: another identity."""
    with serving(lookup_bundle, variant="int8") as made:
        yield made
