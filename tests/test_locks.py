"""Locks that end with their process, and what happens where the system has none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedrt import locks

pytestmark = pytest.mark.skipif(not locks.available(), reason="this system has no such locks")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lock"
    path.touch()
    return path


def test_one_at_a_time(path: Path) -> None:
    with path.open() as one, path.open() as other:
        assert locks.hold(one.fileno())
        with pytest.raises(BlockingIOError):
            locks.hold(other.fileno(), wait=False)
        with pytest.raises(BlockingIOError):
            locks.hold(other.fileno(), shared=True, wait=False)
    with path.open() as later:
        assert locks.hold(later.fileno(), wait=False)


def test_shared_by_those_who_share_it(path: Path) -> None:
    with path.open() as one, path.open() as other, path.open() as third:
        assert locks.hold(one.fileno(), shared=True)
        assert locks.hold(other.fileno(), shared=True, wait=False)
        with pytest.raises(BlockingIOError):
            locks.hold(third.fileno(), wait=False)


def test_a_killed_process_lets_go(path: Path) -> None:
    program = (
        "import os, sys\n"
        "from embedrt import locks\n"
        "locks.hold(os.open(sys.argv[1], os.O_RDWR))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -9
    descriptor = os.open(path, os.O_RDWR)
    assert locks.hold(descriptor, wait=False)
    os.close(descriptor)
