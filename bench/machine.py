"""What the numbers were measured on, and whether the machine was quiet."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.paths import REPO

PACKAGES = (
    "embedrt", "numpy", "tokenizers", "onnxruntime", "torch", "transformers", "sentence-transformers",
    "openvino", "nncf", "ctranslate2",
)  # fmt: skip
_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")


@dataclass(frozen=True)
class Machine:
    """The machine and the software of a run."""

    cpu: str
    flags: tuple[str, ...]
    processors: int  # this process may use
    threads: int  # every system uses
    memory_bytes: int
    kernel: str
    python: str
    packages: dict[str, str]
    revision: str


def describe_machine(threads: int) -> Machine:
    """Read from /proc; "unknown" where there is none."""
    info = _proc("cpuinfo")
    model = _line(info, "model name") or platform.processor() or "unknown"
    flags = set((_line(info, "flags") or "").split())
    total = int((_line(_proc("meminfo"), "MemTotal") or "0 kB").split()[0]) * 1024
    return Machine(
        cpu=f"{model} (family {_line(info, 'cpu family')}, model {_line(info, 'model')})",
        flags=tuple(flag for flag in _FLAGS if flag in flags),
        processors=len(available_cpus()),
        threads=threads,
        memory_bytes=total,
        kernel=platform.release(),
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        revision=_revision(),
    )


def available_cpus() -> list[int]:
    """The processors this process may run on."""
    return sorted(os.sched_getaffinity(0))


def available_bytes() -> int:
    """Memory that can be had without swapping."""
    return int((_line(_proc("meminfo"), "MemAvailable") or "0 kB").split()[0]) * 1024


class BusyMeter:
    """Processor time that others took while a process was timed, from /proc (ticks of 10 ms)."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._start = _busy_seconds() - self._own()
        self._wall = time.perf_counter()

    def others(self) -> float:
        """Share of the whole machine, 0..1, that was busy with something else since the start."""
        wall = time.perf_counter() - self._wall
        foreign = _busy_seconds() - self._own() - self._start
        return max(0.0, foreign / (wall * (os.cpu_count() or 1)))

    def _own(self) -> float:
        fields = _proc(f"{self._pid}/stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _busy_seconds() -> float:
    """user + nice + system + irq + softirq + steal of all processors."""
    fields = [int(x) for x in _proc("stat").splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _proc(name: str) -> str:
    try:
        return Path("/proc", name).read_text()
    except OSError:
        return ""


def _line(text: str, key: str) -> str | None:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _revision() -> str:
    """The commit, with "+changes" when the tree differs from it, but for what `bench.record` writes."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=REPO, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "--short=12", "HEAD") or "no commit"
    return head + ("+changes" if git("status", "--porcelain", "--", ".", ":!bench/results", ":!docs/speed.md") else "")
