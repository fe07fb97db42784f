"""Servers for the tests: one that most of them share, over a bundle that is made in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedrt import Embedder
from tests.cli.conftest import cli, lookup_bundle
from tests.server.serving import Gate, Served, serving

__all__ = ["cli", "lookup_bundle"]


@pytest.fixture(scope="session")
def served(lookup_bundle: Path) -> Iterator[Served]:
    """fp32 under the name "lookup", with everything at its default; tests leave it as it was."""
    with serving(lookup_bundle, variant="fp32", matryoshka=("lookup",)) as made:
        yield made


@pytest.fixture(scope="session")
def taking_ids(lookup_bundle: Path) -> Iterator[Served]:
    """The same, and token ids are the model's own."""
    with serving(lookup_bundle, variant="fp32", token_ids="own") as made:
        yield made


@pytest.fixture(scope="session")
def library(lookup_bundle: Path) -> Iterator[Embedder]:
    """The library on the same bundle and variant."""
    with Embedder(lookup_bundle, variant="fp32", num_threads=1) as embedder:
        yield embedder


@pytest.fixture
def gate(served: Served) -> Iterator[Gate]:
    """Holds the shared server's executor for one test."""
    made = Gate(served.engine)
    yield made
    made.remove()
