"""The native tokenizer's tables beside the library that they are of."""

from __future__ import annotations

import re
import sys
import unicodedata
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import module_at

SOURCE = Path(__file__).parents[2] / "engine" / "native" / "tokenizer" / "unicode_tables.py"
OFTEN = 0x3100  # scripts with many exceptions lie below


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return module_at(SOURCE)


@pytest.fixture(scope="module")
def written() -> str:
    return SOURCE.with_suffix(".inc").read_text()


def test_the_flags_are_what_the_library_does(tables: ModuleType, written: str):
    """Of the characters of most texts, and of every 31st of the others."""
    if unicodedata.unidata_version not in written.splitlines()[0]:
        pytest.skip("the tables were written by a Python with another version of Unicode")
    flags: dict[int, int] = {}
    for first, last, value in re.findall(r"\{(0x[0-9a-f]+),(0x[0-9a-f]+),(\d+)\}", written):
        flags.update(dict.fromkeys(range(int(first, 16), int(last, 16) + 1), int(value)))
    library = tables.Library()
    for code in (*range(1, OFTEN), *range(OFTEN, sys.maxunicode, 31)):
        if not 0xD800 <= code < 0xE000:
            assert flags.get(code, 0) == library.flags(chr(code)), hex(code)


@pytest.mark.slow
def test_the_tables_are_what_the_library_does(tables: ModuleType, written: str, tmp_path: Path):
    if tables.version not in written.splitlines()[0] or unicodedata.unidata_version not in written.splitlines()[0]:
        pytest.skip("the tables were written with another version")
    tables.OUT = tmp_path / "tables.inc"
    tables.main()
    assert tables.OUT.read_text() == written
