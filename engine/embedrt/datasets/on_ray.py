"""Shards on a Ray cluster: actors that read, embed and write by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from embedrt.datasets.local import died
from embedrt.datasets.plan import Shard
from embedrt.datasets.policy import Sizing, ray_sizing
from embedrt.datasets.work import Job, Report, do_shard
from embedrt.errors import DependencyError, ExecutorError

_LOOK_SECONDS = 30.0  # how often the cluster is looked at: nodes come and go


def run_ray(
    job: Job, shards: Iterator[Shard], workers: int | None, threads: int | None, say: Callable[[str], None]
) -> Iterator[Report]:
    """Reports of the shards, as they come, from the cluster that RAY_ADDRESS or `ray.init` names, else one made here.

    Raises:
        DependencyError: ray is missing.
        ExecutorError: no actor fits into the cluster.
    """
    try:
        import ray
    except ImportError as exc:
        raise DependencyError("--engine ray needs Ray: pip install ray") from exc
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    sizing = _sizing(ray, workers, threads)
    if not sizing.workers:
        raise ExecutorError(f"nothing can run: {sizing.why}")
    say(sizing.why)
    yield from _Actors(ray, job, shards, workers, sizing).reports()


class _Worker:
    """What an actor is made of."""

    def node(self) -> str:
        """The node it is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def do(self, job: Job, shard: Shard) -> Report:
        """One shard."""
        return do_shard(job, shard)


class _Actors:
    """Actors with a shard each; where one dies with its node, the shard is given out again and nothing is counted."""

    def __init__(self, ray: Any, job: Job, shards: Iterator[Shard], asked: int | None, sizing: Sizing) -> None:
        self._ray = ray
        self._job = ray.put(replace(job, embed=job.embed.with_threads(sizing.threads)))
        self._shards = shards
        self._asked = asked
        self._sizing = sizing
        self._make = ray.remote(num_cpus=sizing.threads, max_restarts=0)(_Worker)
        self._again: list[Shard] = []
        self._deaths: dict[str, int] = {}
        self._busy: dict[Any, tuple[Any, Any, Shard]] = {}  # reference of a report -> actor, of its node, its shard
        self._look_at = time.monotonic() + _LOOK_SECONDS

    def reports(self) -> Iterator[Report]:
        """Of each shard one."""
        ray = self._ray
        try:
            while self._fill():
                ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=1.0)
                for reference in ready:
                    actor, node, shard = self._busy.pop(reference)
                    try:
                        report: Report | None = ray.get(reference)
                        self._give(actor, node)
                    except ray.exceptions.RayError as exc:
                        ray.kill(actor)
                        report = self._died(node, shard, exc)
                    if report is not None:
                        yield report
        finally:
            for actor, _, _ in self._busy.values():
                ray.kill(actor)

    def _fill(self) -> bool:
        """Make actors for as many shards as the cluster has room for; whether any is at work."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            now = _sizing(self._ray, self._asked, self._sizing.threads)
            self._sizing = replace(self._sizing, workers=max(1, now.workers))
        while len(self._busy) < self._sizing.workers:
            shard = self._next()
            if shard is None:
                break
            actor = self._make.remote()
            self._busy[actor.do.remote(self._job, shard)] = (actor, actor.node.remote(), shard)
        return bool(self._busy)

    def _give(self, actor: Any, node: Any) -> None:
        shard = self._next() if len(self._busy) < self._sizing.workers else None
        if shard is None:
            self._ray.kill(actor)
        else:
            self._busy[actor.do.remote(self._job, shard)] = (actor, node, shard)

    def _next(self) -> Shard | None:
        return self._again.pop() if self._again else next(self._shards, None)

    def _died(self, node: Any, shard: Shard, exc: Exception) -> Report | None:
        alive = {entry["NodeID"] for entry in self._ray.nodes() if entry["Alive"]}
        try:
            was_on = self._ray.get(node, timeout=0)
        except self._ray.exceptions.RayError:
            was_on = None
        if getattr(exc, "preempted", False) or (was_on is not None and was_on not in alive):
            self._again.append(shard)
            return None
        return died(shard, self._deaths, self._again, type(exc).__name__)


def _sizing(ray: Any, workers: int | None, threads: int | None) -> Sizing:
    nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    return ray_sizing(nodes, workers, threads)
