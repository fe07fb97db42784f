"""The table of gelu is what its script writes, and as near to gelu as it says."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.scripts import module_at

SOURCE = Path(__file__).parents[2] / "engine" / "native" / "gelu_table.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return module_at(SOURCE)


def test_the_table_is_written_by_the_script(script: ModuleType):
    """But for the last place, in which libraries of linear algebra may differ."""
    lines = SOURCE.with_suffix(".inc").read_text().splitlines()[1:]
    written = np.array([[float(value.rstrip("f")) for value in line.strip("{},").split(", ")] for line in lines])
    wanted = np.stack([script.piece(i) for i in range(script.PIECES)], axis=1)
    np.testing.assert_allclose(written, wanted, rtol=1e-5, atol=1e-9)


def test_pieces_are_near_gelu(script: ModuleType):
    for index in range(script.PIECES):
        for offset in np.linspace(0 if index == 0 else -0.25, 0.25, 101):
            value = np.polynomial.polynomial.polyval(offset, script.piece(index))
            assert abs(value - script.under(index / 2 + offset)) < 5e-8, index / 2 + offset
