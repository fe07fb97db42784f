"""What this process may use of the machine: cores from affinity and cgroup quota, CPU flags, memory."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_ISA_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
)


@dataclass(frozen=True)
class MachineInfo:
    """The machine as this process sees it."""

    cpu: str
    isa: tuple[str, ...]  # those of the CPU's flags that matter to embedding models
    logical_cpus: int  # of the machine
    affinity_cpus: int  # this process may run on
    cgroup_quota_cpus: float | None  # None: no quota
    memory_bytes: int  # of the machine, or the cgroup's limit if that is less

    @property
    def threads(self) -> int:
        """Threads that can truly run at once."""
        return combine_limits(self.affinity_cpus, self.cgroup_quota_cpus)


def available_threads() -> int:
    """The number of threads that can run at once: CPU affinity, cut by the cgroup's quota (rounded up)."""
    return combine_limits(_affinity_cpus(), cgroup_quota_cpus(_CGROUP))


def combine_limits(affinity_cpus: int, quota_cpus: float | None) -> int:
    """Affinity and quota as one whole number of threads, at least 1."""
    limit = affinity_cpus if quota_cpus is None else min(affinity_cpus, math.ceil(quota_cpus))
    return max(1, limit)


def describe_machine() -> MachineInfo:
    """Everything `embedrt info` shows of the machine."""
    model, flags = _cpuinfo()
    return MachineInfo(
        cpu=model,
        isa=tuple(flag for flag in _ISA_FLAGS if flag in flags),
        logical_cpus=os.cpu_count() or 1,
        affinity_cpus=_affinity_cpus(),
        cgroup_quota_cpus=cgroup_quota_cpus(_CGROUP),
        memory_bytes=_memory_bytes(),
    )


def cgroup_quota_cpus(root: Path, group: str | None = None) -> float | None:
    """CPUs that the cgroup's bandwidth quota allows, the tightest from `group` up to `root`; None without a quota.

    Reads `cpu.max` ("QUOTA PERIOD" in microseconds, or "max PERIOD") of cgroup v2, else v1's two files.
    """
    group = _own_cgroup() if group is None else group
    folder = root / group.strip("/")
    quotas = []
    for place in (folder, *folder.parents):
        quota = _parse_cpu_max(_read(place / "cpu.max"))
        if quota is not None:
            quotas.append(quota)
        if place == root:
            break
    if not quotas:
        return _parse_cpu_max(f"{_read(root / 'cpu/cpu.cfs_quota_us')} {_read(root / 'cpu/cpu.cfs_period_us')}")
    return min(quotas)


def _parse_cpu_max(text: str) -> float | None:
    parts = text.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[1]) == 0:
        return None  # "max" in v2, -1 in v1: no quota
    return int(parts[0]) / int(parts[1])


def _own_cgroup() -> str:
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        if line.startswith("0::"):
            return line[3:]
    return "/"


def _affinity_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo() -> tuple[str, frozenset[str]]:
    fields: dict[str, str] = {}
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", ""))
    return fields.get("model name") or platform.processor() or platform.machine(), frozenset(flags.split())


def _memory_bytes() -> int:
    limits = []
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) * 1024)
    limit = _read(_CGROUP / _own_cgroup().strip("/") / "memory.max").strip()
    if limit.isdigit():
        limits.append(int(limit))
    return min(limits, default=0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
