"""From a new process to its first vector: the whole, and where it goes.

    python -m bench.cold_start BUNDLE [--variant int8] [--processes 15] [--packed-cache]

Each process starts an interpreter, imports numpy and embedrt, opens the bundle with its hashes checked, and embeds one
text. Files are in the page cache and modules are compiled: some processes before them are not counted. Hashing, weights
and tokenizer go on side by side while the bundle is opened, and each is timed within it. Medians; the whole is also the
quickest.
"""

from __future__ import annotations

import argparse
import ast
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.paths import REPO

PARTS = ("interpreter", "import numpy", "import embedrt", "open", "hashes", "weights", "tokenizer", "first text")
BESIDE = ("hashes", "weights", "tokenizer")  # within "open", at once
_WARM_UP = 2


def measure(bundle: Path, variant: str, packed: bool, processes: int) -> list[dict[str, float]]:
    """Seconds of each part and of the "whole", in so many processes, one after the other."""
    program = Path(__file__).with_name("cold_process.py").read_text()
    # As an installation has them: compiled modules may be kept.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    rows = []
    for i in range(_WARM_UP + processes):
        began = time.time()
        ran = subprocess.run(
            [sys.executable, "-c", program, str(bundle.absolute()), variant, "packed" if packed else ""],
            cwd=REPO, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        row = ast.literal_eval(ran.stdout)
        row |= {"interpreter": row["began"] - began, "whole": row["ended"] - began}
        rows += [row] * (i >= _WARM_UP)
    return rows


def main() -> None:
    """Print a line per part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--processes", type=int, default=15)
    parser.add_argument("--packed-cache", action="store_true", help="with packed weights in the bundle's .packed")
    given = parser.parse_args()
    rows = measure(given.bundle, given.variant, given.packed_cache, given.processes)
    whole = [row["whole"] for row in rows]
    print(f"whole: {statistics.median(whole) * 1e3:.0f} ms, quickest {min(whole) * 1e3:.0f} ms")
    for part in PARTS:
        median = statistics.median(row[part] for row in rows) * 1e3
        print(f"  {'  ' * (part in BESIDE)}{part}: {median:.0f} ms")


if __name__ == "__main__":
    main()
