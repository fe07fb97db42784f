from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedrt import machine
from embedrt.machine import available_threads, cgroup_quota_cpus, combine_limits, describe_machine


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("affinity", "quota", "threads"),
    [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.1, 1), (2, 64.0, 2), (1, 0.5, 1), (0, None, 1), (4, 0.0, 1)],
)
def test_combine_limits(affinity: int, quota: float | None, threads: int) -> None:
    assert combine_limits(affinity, quota) == threads


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("200000 100000\n", 2.0),
        ("150000 100000\n", 1.5),
        ("max 100000\n", None),
        ("", None),
        ("garbage", None),
        ("100000 0", None),
        ("-1 100000", None),
    ],
)
def test_quota_of_cgroup_v2(tmp_path: Path, text: str, quota: float | None) -> None:
    write(tmp_path / "cpu.max", text)
    assert cgroup_quota_cpus(tmp_path, "/") == quota


def test_no_cgroup_files_at_all(tmp_path: Path) -> None:
    assert cgroup_quota_cpus(tmp_path / "absent", "/some/group") is None


def test_tightest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    write(tmp_path / "cpu.max", "max 100000")
    write(tmp_path / "pod/cpu.max", "300000 100000")
    write(tmp_path / "pod/container/cpu.max", "600000 100000")
    assert cgroup_quota_cpus(tmp_path, "/pod/container") == 3.0
    assert cgroup_quota_cpus(tmp_path, "/pod/other") == 3.0
    assert cgroup_quota_cpus(tmp_path, "/") is None


def test_files_above_the_root_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "cpu.max", "100000 100000")
    write(tmp_path / "root/group/cpu.max", "400000 100000")
    assert cgroup_quota_cpus(tmp_path / "root", "/group") == 4.0


@pytest.mark.parametrize(("quota_us", "quota"), [("250000", 2.5), ("-1", None)])
def test_quota_of_cgroup_v1(tmp_path: Path, quota_us: str, quota: float | None) -> None:
    write(tmp_path / "cpu/cpu.cfs_quota_us", quota_us + "\n")
    write(tmp_path / "cpu/cpu.cfs_period_us", "100000\n")
    assert cgroup_quota_cpus(tmp_path, "/") == quota


def test_available_threads_follows_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_own_cgroup", lambda: "/")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert available_threads() == 6
    write(tmp_path / "cpu.max", "250000 100000")
    assert available_threads() == 3
    assert describe_machine().threads == 3


def test_memory_is_the_tighter_of_machine_and_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_own_cgroup", lambda: "/")
    whole = describe_machine().memory_bytes
    write(tmp_path / "memory.max", "1048576\n")
    assert describe_machine().memory_bytes == 1048576 < whole
    write(tmp_path / "memory.max", "max\n")
    assert describe_machine().memory_bytes == whole


def test_describe_machine_on_this_machine() -> None:
    info = describe_machine()
    assert info.cpu
    assert info.threads == available_threads() >= 1
    assert info.affinity_cpus <= info.logical_cpus
    assert info.memory_bytes > 0
