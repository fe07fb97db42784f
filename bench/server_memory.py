"""Memory of `embedrt serve` per process, after a load of short and long texts.

    python -m bench.server_memory BUNDLE [--workers 1,2] [--variant int8] [--serve='--no-packed-cache']

RSS counts every resident page; PSS divides pages that several processes share among them. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from bench.http_client import closed_loop
from bench.server import mixed_texts, running, shots_of


def processes_of(pid: int) -> list[int]:
    """The process and those under it, without multiprocessing's resource tracker."""
    found = [pid]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
            found += processes_of(int(child))
    return found


def memory_of(pid: int) -> tuple[float, float]:
    """RSS and PSS in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(rest.split()[0]) / 1024 for name, rest in (line.split(":", 1) for line in lines)}
    return sizes["Rss"], sizes["Pss"]


def measure(bundle: Path, workers: int, options: Sequence[str], seconds: float) -> list[tuple[float, float]]:
    """(RSS, PSS) of the server's processes that hold the model, after the load; with workers, of each."""
    flags = ["--port", "PORT", "--workers", str(workers), "--log-level", "error", *options]
    with running("embedrt", "embedrt", "serve", f"m={bundle}", *flags) as server:
        shots = shots_of(mixed_texts(256, 3), [1] * 256, 8)
        tally = asyncio.run(closed_loop(server.port, shots, 8 * workers, seconds))
        assert tally.failed == 0
        every = processes_of(server.pid)
        return [memory_of(pid) for pid in (every[1:] if workers > 1 else every)]


def main() -> None:
    """Print a line per process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--workers", default="1,2", help="numbers of processes")
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--serve", default="", help="more options of embedrt serve, in one string")
    parser.add_argument("--seconds", type=float, default=15.0)
    args = parser.parse_args()
    options = ["--variant", args.variant, "--executor", args.executor, *args.serve.split()]
    for workers in map(int, args.workers.split(",")):
        for rss, pss in measure(args.bundle, workers, options, args.seconds):
            print(f"{workers} workers: RSS {rss:,.0f} MiB, PSS {pss:,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
