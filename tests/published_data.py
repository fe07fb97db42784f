"""Published data that lies beside a checkout on some machines; tests that want it skip by name elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Its folder."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no published data at {SHARED_DATA}")
    return SHARED_DATA
