"""What an export costs: seconds, seconds of CPU and memory, step by step.

    python -m bench.export_cost MODEL [--out BUNDLE] [--variants fp32,fp16,int8]

MODEL is a directory or a hub id, as for `embedrt export`. The imports count as a step, and so does what lies between
the steps. Memory is the largest resident set of a step (Linux: other systems show none). Seconds want a quiet machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import available_cpus, describe_machine
from embedrt.errors import EmbedrtError

_BETWEEN = "between the steps"


@dataclass
class Cost:
    """Of one step."""

    title: str
    wall_s: float
    cpu_s: float
    peak_gib: float


class Meter:
    """A `Progress` that notes what each step took."""

    def __init__(self) -> None:
        self.steps: list[Cost] = []

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Time the step."""
        del total
        _forget_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        yield lambda _: None
        self.steps.append(Cost(title, time.perf_counter() - wall, time.process_time() - cpu, _peak_gib()))


def measure(model: str, out: Path, variants: tuple[str, ...]) -> list[Cost]:
    """Export `model` to `out`, and the cost of each step, of what lies between them, and of the whole."""
    meter = Meter()
    wall, cpu = time.perf_counter(), time.process_time()
    with meter.step("import"):
        from embedrt_export import export
    export(model, out, variants=variants, progress=meter)
    steps = meter.steps
    total = Cost("total", time.perf_counter() - wall, time.process_time() - cpu, max(step.peak_gib for step in steps))
    rest = (total.wall_s - sum(step.wall_s for step in steps), total.cpu_s - sum(step.cpu_s for step in steps))
    return [*steps, Cost(_BETWEEN, *rest, 0), total]


def _peak_gib() -> float:
    """Largest resident set since `_forget_peak`, in GiB; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmHWM:")), 0)


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: peaks are then of all steps so far
        return


def main() -> None:
    """Print a line per step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, help="keep the bundle there")
    parser.add_argument("--variants", default="fp32,fp16,int8")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        out = given.out or Path(directory) / "bundle"
        try:
            costs = measure(given.model, out, tuple(given.variants.split(",")))
        except EmbedrtError as exc:
            raise SystemExit(f"error: {exc}") from exc
    print(f"{describe_machine(1).cpu}, {len(available_cpus())} processors")
    print(f"{'step':40}{'wall s':>9}{'CPU s':>9}{'peak GiB':>10}")
    for cost in costs:
        peak = f"{cost.peak_gib:.2f}" if cost.peak_gib else ""
        print(f"{cost.title:40}{cost.wall_s:9.1f}{cost.cpu_s:9.1f}{peak:>10}")


if __name__ == "__main__":
    main()
