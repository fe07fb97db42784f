"""Where the benchmark finds its data and keeps what it builds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
DATA = REPO.parent / "shared" / "data"  # measuring data; everything works without it


def cache_dir() -> Path:
    """The cache: $EMBEDRT_BENCH_CACHE, else .cache/bench in the repository (git-ignored)."""
    root = os.environ.get("EMBEDRT_BENCH_CACHE")
    path = Path(root) if root else REPO / ".cache" / "bench"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def whole_or_nothing(target: Path) -> Iterator[Path]:
    """A temporary directory beside `target` that becomes `target` when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
