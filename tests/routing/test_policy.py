"""Who gets the next request, by whole numbers."""

from __future__ import annotations

import random

import pytest

from embedrt.routing.policy import POLICIES, Load, Policy, choose, estimate_tokens


@pytest.mark.parametrize(
    ("loads", "policy", "wanted"),
    [
        ([Load(500), Load(499)], "tokens", 1),
        ([Load(20000, 1), Load(40, 5)], "tokens", 1),  # one request of 2,000 texts weighs more than five queries
        ([Load(20000, 1), Load(40, 5)], "requests", 0),
        ([Load(0, 0, 7), Load(0, 0, 3), Load(0, 0, 5)], "tokens", 1),  # of equal ones, the one that waited longest
        ([Load(10, 2, 1), Load(10, 1, 9)], "tokens", 1),
        ([Load(9, 9, 3), Load(0, 0, 4)], "turns", 0),
        ([Load(9, 9, 9)], "tokens", 0),
    ],
)
def test_choose(loads: list[Load], policy: Policy, wanted: int) -> None:
    assert choose(loads, policy) == wanted


def test_a_longer_body_is_more_work_and_none_is_free() -> None:
    sizes = [estimate_tokens(size) for size in (0, 100, 4000, 400_000)]
    assert sizes == sorted(sizes)
    assert sizes[0] > 0
    assert sizes[3] > 50 * sizes[2]


def waits(policy: Policy, seed: int) -> list[int]:
    """Tokens before each query on three servers, among bulk requests: a simulation in whole numbers, a token a tick."""
    rng = random.Random(seed)
    left: list[list[int]] = [[], [], []]  # tokens of each request of each server, in order
    chosen = [0, 0, 0]
    found = []
    for tick in range(1, 20_000):
        for line in left:
            if line:
                line[0] -= 1
                if not line[0]:
                    line.pop(0)
        if rng.random() < 0.02:
            size = 8 if rng.random() < 0.8 else rng.randrange(200, 800)
            loads = [Load(sum(line), len(line), last) for line, last in zip(left, chosen, strict=True)]
            at = choose(loads, policy)
            if size == 8:
                found.append(sum(left[at]))
            left[at].append(size)
            chosen[at] = tick
    return sorted(found)


@pytest.mark.parametrize("seed", range(3))
def test_queries_wait_least_by_tokens(seed: int) -> None:
    by = {policy: waits(policy, seed) for policy in POLICIES}
    mean = {policy: sum(found) / len(found) for policy, found in by.items()}
    assert mean["tokens"] < mean["requests"] < mean["turns"]
    assert 2 * mean["tokens"] < mean["turns"]
