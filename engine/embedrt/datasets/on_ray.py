"""Shards on a Ray cluster: actors that read, embed and write by themselves."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from embedrt.datasets.local import died
from embedrt.datasets.plan import Shard
from embedrt.datasets.policy import MOST_LOSSES, Sizing, ray_sizing
from embedrt.datasets.work import Job, Report, do_shard
from embedrt.errors import DependencyError, ExecutorError

_LOOK_SECONDS = 30.0  # how often the cluster is looked at: nodes come and go
_ANSWER_SECONDS = 10.0  # Ray itself tries for minutes to reach a cluster that is not there
_MOST_WAIT_SECONDS = 600.0  # without a place for any actor: longer than a spot machine takes to come back


def require() -> Any:
    """The package; DependencyError says how to install it."""
    try:
        import ray
    except ImportError as exc:
        raise DependencyError("--engine ray needs Ray: pip install ray") from exc
    return ray


def connect() -> Any:
    """Ray with the cluster that RAY_ADDRESS or an earlier `ray.init` names, else with one made here.

    Raises:
        DependencyError: ray is missing.
        ExecutorError: RAY_ADDRESS names a cluster that does not answer.
    """
    ray = require()
    if not ray.is_initialized():
        _check_that_it_answers(os.environ.get("RAY_ADDRESS", ""))
        try:
            ray.init(log_to_driver=False, include_dashboard=False)
        except ConnectionError as exc:
            raise ExecutorError(f"no Ray cluster: {exc}") from exc
    return ray


def _check_that_it_answers(address: str) -> None:
    """`address` as RAY_ADDRESS has it; what names no host and port ("auto", "local", nothing) passes."""
    place = re.fullmatch(r"(?:ray://)?\[?([^\s/\]]+)\]?:(\d{1,5})", address)
    if place is None:
        return
    try:
        socket.create_connection((place[1], int(place[2])), _ANSWER_SECONDS).close()
    except (OSError, OverflowError) as exc:
        raise ExecutorError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({exc}): start it, correct the address, or unset it for "
            "a cluster on this machine"
        ) from exc


def run_ray(
    job: Job, shards: Iterator[Shard], workers: int | None, threads: int | None, say: Callable[[str], None]
) -> Iterator[Report]:
    """Reports of the shards, as they come, from the cluster that RAY_ADDRESS or `ray.init` names, else one made here.

    Where nodes die there are fewer actors; where none has a place for ten minutes, the last report ends the run.

    Raises:
        DependencyError: ray is missing.
        ExecutorError: no cluster answers, or no actor fits into it.
    """
    ray = connect()
    sizing = _sizing(ray, workers, threads)
    if not sizing.workers:
        raise ExecutorError(f"nothing can run: {sizing.why}")
    say(sizing.why)
    yield from _Actors(ray, job, shards, workers, sizing, say).reports()


class _Worker:
    """What an actor is made of."""

    def node(self) -> str:
        """The node it is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def do(self, job: Job, shard: Shard) -> Report:
        """One shard."""
        return do_shard(job, shard)


@dataclass(frozen=True)
class _Seat:
    """An actor with its shard."""

    actor: Any
    node: Any  # reference of its node's id, which is there once the actor has a place
    shard: Shard


class _Actors:
    """Actors with a shard each; where one dies, its shard is given out again.

    An actor that has no place waits for one with its shard: one that is free takes that shard over, so that neither
    CPUs that others hold nor nodes that never come back keep a shard for ever.
    """

    def __init__(
        self,
        ray: Any,
        job: Job,
        shards: Iterator[Shard],
        asked: int | None,
        sizing: Sizing,
        say: Callable[[str], None],
    ) -> None:
        self._ray = ray
        self._job = ray.put(replace(job, embed=job.embed.with_threads(sizing.threads)))
        self._shards = shards
        self._asked = asked
        self._sizing = sizing
        self._say = say
        self._make = ray.remote(num_cpus=sizing.threads, max_restarts=0)(_Worker)
        self._again: list[Shard] = []
        self._deaths: dict[str, int] = {}
        self._losses: dict[str, int] = {}
        self._busy: dict[Any, _Seat] = {}  # by the reference of the report
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._placed_at = time.monotonic()  # when an actor had a place for the last time

    def reports(self) -> Iterator[Report]:
        """Of each shard one; a last one that ends the run if the cluster has no place left."""
        try:
            while self._fill():
                ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=1.0)
                for reference in ready:
                    report = self._heard(reference)
                    if report is not None:
                        yield report
                if ready or len(self._unplaced()) < len(self._busy):
                    self._placed_at = time.monotonic()
                elif time.monotonic() - self._placed_at >= _MOST_WAIT_SECONDS:
                    yield Report(next(iter(self._busy.values())).shard, None, self._no_place(), ends_run=True)
                    return
        finally:
            for seat in self._busy.values():
                self._ray.kill(seat.actor)

    def _heard(self, reference: Any) -> Report | None:
        """What a shard has come to; None where its actor died and it will be given out again."""
        seat = self._busy.pop(reference)
        try:
            report: Report = self._ray.get(reference)
        except self._ray.exceptions.RayError as exc:
            self._ray.kill(seat.actor)
            return self._died(seat, exc)
        self._give(seat)
        return report

    def _fill(self) -> bool:
        """Make actors for as many shards as the cluster has room for; whether any is at work."""
        if time.monotonic() >= self._look_at:
            self._look()
        while len(self._busy) < self._sizing.workers:
            shard = self._next()
            if shard is None:
                break
            actor = self._make.remote()
            node = actor.node.remote()  # before the shard, or it would wait for its end
            self._busy[actor.do.remote(self._job, shard)] = _Seat(actor, node, shard)
        return bool(self._busy)

    def _look(self) -> None:
        """Fit the number of actors to the nodes there are. One stays, to be placed on a node that comes."""
        self._look_at = time.monotonic() + _LOOK_SECONDS
        now = _sizing(self._ray, self._asked, self._sizing.threads)
        self._sizing = replace(now, workers=max(1, now.workers), threads=self._sizing.threads)
        for reference in self._unplaced()[: max(0, len(self._busy) - self._sizing.workers)]:
            self._again.append(self._withdrawn(reference))
        if time.monotonic() - self._placed_at >= _LOOK_SECONDS:
            self._say(f"waiting: {self._no_place()}")

    def _give(self, seat: _Seat) -> None:
        """The next shard to an actor that is free, or one that waits with an actor without a place."""
        shard = self._next() if len(self._busy) < self._sizing.workers else None
        if shard is None:
            unplaced = self._unplaced()
            shard = self._withdrawn(unplaced[0]) if unplaced else None
        if shard is None:
            self._ray.kill(seat.actor)
        else:
            self._busy[seat.actor.do.remote(self._job, shard)] = replace(seat, shard=shard)

    def _next(self) -> Shard | None:
        return self._again.pop() if self._again else next(self._shards, None)

    def _unplaced(self) -> list[Any]:
        """References of the actors that no node has taken yet."""
        nodes = {seat.node: reference for reference, seat in self._busy.items()}
        if not nodes:
            return []
        _, without = self._ray.wait(list(nodes), num_returns=len(nodes), timeout=0)
        return [nodes[node] for node in without]

    def _withdrawn(self, reference: Any) -> Shard:
        """The shard of an actor that is no longer wanted."""
        seat = self._busy.pop(reference)
        self._ray.kill(seat.actor)
        return seat.shard

    def _died(self, seat: _Seat, exc: Exception) -> Report | None:
        """Put the shard back; what the cluster did to it is counted apart from what it may have done itself."""
        self._look_at = time.monotonic()  # there may be fewer nodes
        told = _last_line(exc)
        if self._is_loss(seat, exc):
            return died(seat.shard, self._losses, self._again, told, MOST_LOSSES)
        return died(seat.shard, self._deaths, self._again, told)

    def _is_loss(self, seat: _Seat, exc: Exception) -> bool:
        """Whether the actor never came to its shard, went with its node, or can only not be reached.

        The last is what Ray says of a node that has died until it knows: half a minute.
        """
        if isinstance(exc, self._ray.exceptions.ActorUnavailableError) or getattr(exc, "preempted", False):
            return True
        try:
            node = self._ray.get(seat.node, timeout=0)
        except self._ray.exceptions.RayError:
            return not getattr(exc, "actor_init_failed", False)
        return node not in {entry["NodeID"] for entry in self._ray.nodes() if entry["Alive"]}

    def _no_place(self) -> str:
        waited, cluster = time.monotonic() - self._placed_at, self._ray.cluster_resources()
        free = self._ray.available_resources()
        return (
            f"for {waited:,.0f} s no node has had a place for an actor of {self._sizing.threads} CPUs; the cluster has "
            f"{cluster.get('CPU', 0):g} CPUs, {free.get('CPU', 0):g} of them free. Add nodes, or take fewer --threads"
        )


def _last_line(exc: Exception) -> str:
    """What Ray says at last: the error of a process that could not start, or how one ended."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return f"{type(exc).__name__}: {lines[-1][:200]}" if lines else type(exc).__name__


def _sizing(ray: Any, workers: int | None, threads: int | None) -> Sizing:
    nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    return ray_sizing(nodes, workers, threads)
