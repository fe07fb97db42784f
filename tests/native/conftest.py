"""Skips by reason where the native module or an instruction set is not there.

EMBEDRT_TEST_LIBRARY names another build of the module: with sanitizers, or with emulated AVX512.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedrt.errors import DependencyError
from embedrt.executors import library, native
from tests.published_data import shared_data

__all__ = ["shared_data"]

ISAS = ("amx", "avx512bf16", "avx512vnni", "avxvnni", "avx2", "i8mm", "dotprod", "portable")

if "EMBEDRT_TEST_LIBRARY" in os.environ:
    library.LIBRARY = Path(os.environ["EMBEDRT_TEST_LIBRARY"])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark what needs bundles made by the exporter, and so torch: under sanitizers these are left out."""
    for item in items:
        if {"make_bundle", "tiny_bundle"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.exports)


@pytest.fixture(scope="session")
def native_isas() -> dict[str, bool]:
    """Instruction sets of the build, and whether this machine has them."""
    try:
        return native.available_isas(native.load_library())
    except DependencyError as exc:
        pytest.skip(str(exc))


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, native_isas: dict[str, bool]) -> str:
    """Each instruction set in turn."""
    name: str = request.param
    if not native_isas.get(name, False):
        pytest.skip(f"this machine or build has no {name}")
    return name
