"""The machine's own peaks, measured: what every result is a share of."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.models import ModelFacts
from bench.paths import cache_dir

SOURCE = Path(__file__).with_name("peaks.c")
# What peaks.c may take for an instruction set of the native executor; others have no peak of their own there.
_WIDEST = {"amx": "amx", "avx512bf16": "avx512", "avx512vnni": "avx512", "avxvnni": "avxvnni", "avx2": "avx2"}


@dataclass(frozen=True)
class Peak:
    """One peak of all threads together, and what reached it."""

    value: float  # GFLOP/s (int8: GOP/s), or GB/s
    how: str


@dataclass(frozen=True)
class Peaks:
    """int8, bf16 and fp32 arithmetic (None: the machine or the measurement has no such instruction), and memory."""

    int8: Peak | None
    bf16: Peak | None
    fp32: Peak | None
    memory: Peak

    def compute(self, kind: str) -> Peak | None:
        """The arithmetic peak of "int8", "bf16" or "fp32"."""
        return {"int8": self.int8, "bf16": self.bf16, "fp32": self.fp32}[kind]

    def limit_seconds(self, facts: ModelFacts, lengths: Sequence[int], kind: str, weight_bytes: int) -> float | None:
        """The least time for texts of these lengths in one batch: arithmetic at its peak, or the weights read once.

        Attention's products are counted at the same rate as the linear layers'. None where the peak is unknown.
        """
        peak = self.compute(kind)
        if peak is None:
            return None
        arithmetic = sum(facts.flop(n) for n in lengths) / (peak.value * 1e9)
        return max(arithmetic, facts.linear_parameters * weight_bytes / (self.memory.value * 1e9))


def measure_peaks(cpus: Sequence[int], isa: str = "") -> Peaks:
    """Measured on exactly these processors: with C where there is a compiler, else with numpy, labelled so.

    Args:
        isa: an instruction set of the native executor, so that nothing is a share of instructions that it has not;
            the machine's best if empty. Of a set without a peak of its own, ARM's or portable, only memory is measured.
    """
    binary = _compiled()
    if binary is not None:
        pin = lambda: os.sched_setaffinity(0, cpus)  # noqa: E731
        command = [str(binary), str(len(cpus)), *([_WIDEST[isa]] if isa in _WIDEST else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=pin)
        found = json.loads(done.stdout)
        kinds = {k: Peak(found[k]["gops"], found[k]["how"]) if k in found else None for k in ("int8", "bf16", "fp32")}
        memory = Peak(found["memory"]["gb_per_s"], found["memory"]["how"])
        peaks = Peaks(**kinds, memory=memory)
        if isa and isa not in _WIDEST:
            return Peaks(None, None, None, memory)
    else:
        peaks = Peaks(None, None, None, _numpy_memory())
    return peaks if peaks.fp32 else Peaks(peaks.int8, peaks.bf16, _numpy_matmul(), peaks.memory)


def higher(a: Peaks, b: Peaks) -> Peaks:
    """The higher of two measurements, peak by peak."""

    def of(x: Peak | None, y: Peak | None) -> Peak | None:
        return max((p for p in (x, y) if p), key=lambda p: p.value, default=None)

    memory = a.memory if a.memory.value >= b.memory.value else b.memory
    return Peaks(of(a.int8, b.int8), of(a.bf16, b.bf16), of(a.fp32, b.fp32), memory)


def _compiled() -> Path | None:
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        return None
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:10]
    target = cache_dir() / f"peaks-{digest}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
            made = Path(folder) / "peaks"
            command = [compiler, "-O2", "-pthread", str(SOURCE), "-o", str(made)]
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                return None
            made.rename(target)
    return target


def _numpy_matmul() -> Peak:
    import numpy as np

    size = 1536
    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    best = min(_seconds(lambda: a @ a) for _ in range(8))
    return Peak(2 * size**3 / best / 1e9, f"numpy matmul {size}x{size} (no C compiler, or not x86)")


def _numpy_memory() -> Peak:
    import numpy as np

    data = np.ones(1 << 28, dtype=np.uint8).view(np.uint64)
    best = min(_seconds(data.max) for _ in range(5))
    return Peak(data.nbytes / best / 1e9, "numpy max over 256 MiB, one thread (no C compiler)")


def _seconds(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start
