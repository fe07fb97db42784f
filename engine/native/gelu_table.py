"""Writes gelu_table.inc: what gelu lies under max(x, 0), in pieces, for instruction sets that can look 16 numbers up.

    python engine/native/gelu_table.py

gelu(x) = max(x, 0) - under(|x|), under(a) = a * (1 - Phi(a)). Around each multiple of 1/2 it is a polynomial of
degree 5, by least squares at Chebyshev's nodes; around 0 one that is 0 there with the slope 1/2, as `under` has it.
From 7.25 on it is 0. Errors are under 5e-8 before rounding.
"""

from __future__ import annotations

from math import erfc, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PIECES, DEGREE, WIDTH, NODES = 16, 5, 0.5, 200
OUT = Path(__file__).with_name("gelu_table.inc")


def under(a: float) -> float:
    """What gelu lies under a, or over -a's 0."""
    return 0.5 * a * erfc(a / sqrt(2))


def piece(index: int) -> NDArray[np.float64]:
    """Coefficients around index / 2, of powers from 0 on."""
    coefficients = np.zeros(DEGREE + 1)
    if index == PIECES - 1:
        return coefficients
    known = 2 if index == 0 else 0
    coefficients[:known] = [0.0, 0.5][:known]
    nodes = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES) * WIDTH / 2
    nodes = np.abs(nodes) if index == 0 else nodes
    powers = nodes[:, None] ** np.arange(DEGREE + 1)
    wanted = np.array([under(WIDTH * index + node) for node in nodes]) - powers @ coefficients
    coefficients[known:] = np.linalg.lstsq(powers[:, known:], wanted, rcond=None)[0]
    return coefficients


def main() -> None:
    """Write the table: a row for each power, a column for each piece."""
    table = np.stack([piece(i) for i in range(PIECES)], axis=1).astype(np.float32)
    rows = ("{" + ", ".join(f"{value:.8e}f" for value in row) + "},\n" for row in table)
    OUT.write_text(
        f"// Written by gelu_table.py: a row for each power from 0 on, a column for each piece.\n{''.join(rows)}"
    )


if __name__ == "__main__":
    main()
