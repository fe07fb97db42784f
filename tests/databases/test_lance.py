"""LanceDB where it differs from the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedrt.databases import Hashes, Recipe, Row
from embedrt.databases.lance import LanceDatabase

ROWS, WIDTH = 400, 16


@pytest.mark.parametrize(("kind", "cells"), [("int8", 1 << 20), ("ivf-pq", 32)])
def test_all_cells_are_looked_at_where_codes_are_not_sorted_into_them(tmp_path: Path, kind: str, cells: int) -> None:
    """Of a table of a million rows LanceDB divides the one cell that it was told to make."""
    pytest.importorskip("lancedb")
    vectors = np.random.default_rng(0).standard_normal((ROWS, WIDTH), np.float32)
    database = LanceDatabase(tmp_path / "notes.db", write=True)
    database.create(Recipe("0" * 16, "", "drawn", "none", "cosine", WIDTH, ids="number"))
    database.upsert([Row(str(k), "", Hashes("", ""), {}, vector) for k, vector in enumerate(vectors)])
    database.finish(kind, None)
    assert database._num_probes() == cells
    database.close()
    read = LanceDatabase(tmp_path / "notes.db")
    assert read._num_probes() == cells
    read.close()
