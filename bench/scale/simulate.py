"""A discrete simulation of shards on nodes that are preempted, straggle and share a store. Deterministic by its seed.

A node takes a shard, reads it, embeds it, writes it, and takes the next. A preempted node loses the shard it is at,
which goes back to the queue; another node comes after a while. Reading and writing share the store's requests per
second: whoever asks when they are used up waits. All times in seconds.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """What is assumed. Rates that were measured are the caller's; the rest are assumptions, to be varied."""

    nodes: int = 1000
    tokens_per_s: float = 30_000.0  # of one node
    boot_s: float = 120.0  # until a new node does its first shard: machine, image, model
    preempted_per_hour: float = 0.05  # chance that a node is taken away within an hour
    replaced_after_s: float = 180.0  # mean wait for another one
    straggler_share: float = 0.02  # of nodes, for as long as they live
    straggler_speed: float = 0.4  # of a healthy node's
    speed_spread: float = 0.05  # standard deviation of nodes' speeds, of 1
    requests_per_shard: int = 12  # listing, reading by ranges, writing, recording
    store_requests_per_s: float = 3500.0  # that the store answers; S3's documented figure for writes, per prefix
    request_s: float = 0.05  # each, without waiting


@dataclass(frozen=True)
class Work:
    """What is to be done."""

    tokens: float = 3.0e11  # 10^10 texts of 30 tokens
    shard_tokens: float = 2.0e6
    shard_spread: float = 0.1  # standard deviation of shards' sizes, of 1


@dataclass(frozen=True)
class Result:
    """One run."""

    seconds: float
    node_seconds: float  # paid for: from a node's boot to its end
    lost_node_seconds: float  # of shards that were begun and lost
    tail_seconds: float  # at the end, with fewer shards than nodes
    preemptions: int

    @property
    def node_hours(self) -> float:
        """What is paid."""
        return self.node_seconds / 3600


@dataclass
class _Node:
    speed: float
    born: float
    dies: float


def simulate(cluster: Cluster, work: Work, seed: int = 0) -> Result:
    """Run it once.

    Shards are drawn in whole from the work's tokens; at 10^10 texts and two million tokens a shard there are 150,000.
    """
    draw = random.Random(seed)
    queue = deque(_shards(work, draw))
    left = len(queue)
    events: list[tuple[float, int, _Node, float]] = []  # when, tie, the node, tokens of its shard (0: it is free)
    tie = 0
    for _ in range(cluster.nodes):
        node = _born(cluster, draw, 0.0)
        heapq.heappush(events, (cluster.boot_s, tie := tie + 1, node, 0.0))
    store_free = now = paid = lost = 0.0
    tail_from: float | None = None
    preemptions = 0
    idle: list[tuple[_Node, float]] = []
    while left:
        now, _, node, tokens = heapq.heappop(events)
        if tokens < 0:  # it was taken away while at work
            queue.append(-tokens)
            preemptions += 1
            paid += now - node.born
            fresh = _born(cluster, draw, now + draw.expovariate(1 / cluster.replaced_after_s))
            heapq.heappush(events, (fresh.born + cluster.boot_s, tie := tie + 1, fresh, 0.0))
            if idle and queue:  # somebody waits at the end: it takes the lost shard
                other, _ = idle.pop()
                heapq.heappush(events, (now, tie := tie + 1, other, 0.0))
            continue
        if tokens > 0:
            left -= 1
            if not left:
                paid += now - node.born
                break
        if not queue:
            tail_from = now if tail_from is None else tail_from
            idle.append((node, now))
            continue
        shard = queue.popleft()
        store_free = max(store_free, now) + cluster.requests_per_shard / cluster.store_requests_per_s
        waits = store_free - now + cluster.requests_per_shard * cluster.request_s
        end = now + waits + shard / (cluster.tokens_per_s * node.speed)
        if end > node.dies:
            lost += max(0.0, node.dies - now)
            heapq.heappush(events, (max(now, node.dies), tie := tie + 1, node, -shard))
        else:
            heapq.heappush(events, (end, tie := tie + 1, node, shard))
    paid += sum(now - node.born for node, _ in idle)
    paid += sum(max(0.0, now - node.born) for _, _, node, _ in events)
    return Result(now, paid, lost, now - (now if tail_from is None else tail_from), preemptions)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 5th and the 95th percentile of at least two values, interpolated between those beside it."""
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return cuts[0], cuts[-1]


def _shards(work: Work, draw: random.Random) -> list[float]:
    count = max(1, round(work.tokens / work.shard_tokens))
    sizes = [max(0.1, draw.gauss(1.0, work.shard_spread)) for _ in range(count)]
    scale = work.tokens / sum(sizes)
    return [size * scale for size in sizes]


def _born(cluster: Cluster, draw: random.Random, when: float) -> _Node:
    speed = max(0.2, draw.gauss(1.0, cluster.speed_spread))
    if draw.random() < cluster.straggler_share:
        speed *= cluster.straggler_speed
    rate = cluster.preempted_per_hour / 3600
    return _Node(speed, when, when + draw.expovariate(rate) if rate else float("inf"))
