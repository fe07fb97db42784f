"""Errors to verdicts, clusters to actors."""

from __future__ import annotations

import errno
import random

import pyarrow as pa
import pytest

from embedrt import BundleNotFoundError, FileFormatError, IdentityError, NonFiniteError
from embedrt.datasets.policy import MOST_TRIES, Verdict, local_sizing, ray_sizing, verdict, wait_s


class NoCredentialsError(Exception):
    """As botocore's."""


class ClientError(Exception):
    """As botocore's: of a store."""


ClientError.__module__ = "botocore.exceptions"


@pytest.mark.parametrize(
    ("exc", "first", "last"),
    [
        (FileFormatError("x"), Verdict.SHARD, Verdict.SHARD),
        (NonFiniteError("x"), Verdict.SHARD, Verdict.SHARD),
        (FileNotFoundError("x"), Verdict.SHARD, Verdict.SHARD),
        (pa.ArrowInvalid("x"), Verdict.SHARD, Verdict.SHARD),
        (OSError("Couldn't deserialize thrift"), Verdict.SHARD, Verdict.SHARD),
        (MemoryError(), Verdict.SHARD, Verdict.SHARD),
        (OSError(errno.ENOSPC, "full"), Verdict.RUN, Verdict.RUN),
        (PermissionError("x"), Verdict.RUN, Verdict.RUN),
        (NoCredentialsError(), Verdict.RUN, Verdict.RUN),
        (IdentityError("x"), Verdict.RUN, Verdict.RUN),
        (BundleNotFoundError("x"), Verdict.RUN, Verdict.RUN),
        (AttributeError("a bug"), Verdict.RUN, Verdict.RUN),
        (OSError(errno.EIO, "503"), Verdict.RETRY, Verdict.SHARD),
        (ConnectionResetError(), Verdict.RETRY, Verdict.SHARD),
        (TimeoutError(), Verdict.RETRY, Verdict.SHARD),
        (ClientError("SlowDown"), Verdict.RETRY, Verdict.SHARD),
    ],
)
def test_verdicts(exc: Exception, first: Verdict, last: Verdict) -> None:
    assert verdict(exc, 1) is first
    assert verdict(exc, MOST_TRIES) is last


def test_waits_double_are_spread_and_end() -> None:
    draw = random.Random(0)
    for tries in range(1, 10):
        waits = [wait_s(tries, draw) for _ in range(100)]
        whole = min(32, 2 ** (tries - 1))
        assert whole / 2 <= min(waits) < max(waits) <= whole


def test_one_process_uses_the_machine() -> None:
    assert (local_sizing(8, None, None).workers, local_sizing(8, None, None).threads) == (1, 8)
    assert (local_sizing(8, 3, None).workers, local_sizing(8, 3, None).threads) == (3, 2)
    assert local_sizing(2, 4, None).threads == 1
    assert local_sizing(8, 2, 1).threads == 1


@pytest.mark.parametrize("nodes", [[1], [2], [3], [16], [2, 2], [64] * 10, [4, 16, 96], [1] * 5])
@pytest.mark.parametrize("workers", [None, 1, 2, 100])
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_actors_never_hold_every_cpu(nodes: list[int], workers: int | None, threads: int | None) -> None:
    """The hang of the plain recipe: two actors of one CPU on two CPUs, and nothing left for what reads."""
    found = ray_sizing(nodes, workers, threads)
    total = sum(nodes)
    if any(cpus >= found.threads for cpus in nodes):
        assert found.workers >= 1
    assert found.workers <= sum(cpus // found.threads for cpus in nodes), "each fits into a node"
    if total > 1 and threads != 2:
        assert found.workers * found.threads < total
    assert str(found.workers) in found.why


def test_two_cpus_have_one_actor() -> None:
    found = ray_sizing([2], None, None)
    assert (found.workers, found.threads) == (1, 1)
    assert "1 left for other tasks" in found.why
    assert ray_sizing([2], 2, 1).workers == 1
    assert "do not fit" in ray_sizing([2], 2, 1).why


def test_a_cluster_without_cpus_has_no_actor() -> None:
    assert ray_sizing([], None, None).workers == 0
    assert ray_sizing([0.5], None, None).workers == 0
