"""Who gets which shard as nodes and actors go, against a Ray of a few lists; test_kills has the real one."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from embedrt.datasets import on_ray
from embedrt.datasets.plan import Shard
from embedrt.datasets.policy import MOST_DEATHS, MOST_LOSSES
from embedrt.datasets.work import Job, Report
from embedrt.errors import ExecutorError


class RayError(Exception):
    """Ray's base of errors."""


class ActorDiedError(RayError):
    """Ray's."""

    actor_init_failed = False


class ActorUnavailableError(RayError):
    """Ray's."""


class GetTimeoutError(RayError):
    """Ray's."""


@dataclass(eq=False)
class Actor:
    """An actor; `place` is a node's number once it is on one."""

    ray: Ray
    place: int | None = None
    calls: list[tuple[str, Shard | None]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *args: self.ray.called(self, name, args[-1] if args else None))


class Ray:
    """Nodes with CPUs. `acts` says of a shard what becomes of it: a report, or an error."""

    exceptions = SimpleNamespace(RayError=RayError, ActorUnavailableError=ActorUnavailableError)

    def __init__(self, nodes: list[int], acts: Callable[[Actor, Shard], Exception | None]) -> None:
        self.cpus = dict(enumerate(nodes))
        self.acts = acts
        self.actors: list[Actor] = []
        self.asked: dict[int, tuple[Actor, str, Any]] = {}
        self.numbers = itertools.count()
        self.threads = 1

    def put(self, value: Any) -> Any:
        return value

    def remote(self, num_cpus: int, max_restarts: int) -> Callable[[type], Any]:
        assert max_restarts == 0
        self.threads = num_cpus
        return lambda _kind: SimpleNamespace(remote=self.made)

    def made(self) -> Actor:
        self.actors.append(Actor(self))
        return self.actors[-1]

    def called(self, actor: Actor, name: str, given: Any) -> int:
        number = next(self.numbers)
        self.asked[number] = (actor, name, given)
        return number

    def settle(self) -> None:
        """Give actors the CPUs that are free."""
        for actor in self.actors:
            for node, cpus in self.cpus.items():
                used = sum(self.threads for other in self.actors if other.place == node)
                if actor.place is None and used + self.threads <= cpus:
                    actor.place = node

    def wait(self, references: list[int], num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        assert timeout <= 1
        self.settle()
        ready = [reference for reference in references if self.asked[reference][0].place is not None][:num_returns]
        return ready, [reference for reference in references if reference not in ready]

    def get(self, reference: int, timeout: float | None = None) -> Any:
        actor, name, given = self.asked[reference]
        if name == "node":
            if actor.place is None:
                raise GetTimeoutError
            return actor.place
        error = self.acts(actor, given)
        if error is not None:
            raise error
        return Report(given)

    def kill(self, actor: Actor) -> None:
        self.actors = [other for other in self.actors if other is not actor]

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": node, "Alive": True, "Resources": {"CPU": cpus}} for node, cpus in self.cpus.items()]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": sum(self.cpus.values())}

    available_resources = cluster_resources


def shards(count: int) -> list[Shard]:
    return [Shard("a", "1", k * 10, 10, 100) for k in range(count)]


class Embed:
    """Threads are no matter here."""

    def with_threads(self, _threads: int) -> Embed:
        return self


def reports(ray: Ray, todo: list[Shard], said: list[str], threads: int = 1) -> list[Report]:
    """Of a run over the shards."""
    job: Any = Job(Embed(), None, "")  # type: ignore[arg-type]
    actors = on_ray._Actors(ray, job, iter(todo), None, on_ray._sizing(ray, None, threads), said.append)
    return list(actors.reports())


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes on by a second at each look at it."""
    seconds = itertools.count()
    monkeypatch.setattr(on_ray.time, "monotonic", lambda: float(next(seconds)))


def test_every_shard_once() -> None:
    found = reports(Ray([2, 1], lambda _actor, _shard: None), shards(20), [])
    assert sorted(report.shard.first for report in found) == list(range(0, 200, 10))


def test_nodes_that_go_cost_nothing_and_leave_fewer_actors() -> None:
    """Each of two nodes goes under the shard that is tried there; the third does all of it."""

    def acts(actor: Actor, _shard: Shard) -> Exception | None:
        if actor.place == 0:
            return None
        ray.cpus.pop(actor.place)
        return ActorDiedError("The actor died because its node has died.")

    ray = Ray([1, 1, 1], acts)
    found = reports(ray, shards(20), [])
    assert sorted(report.shard.first for report in found) == list(range(0, 200, 10))
    assert not any(report.problem for report in found)
    assert not ray.actors, "those without a place, too"


def test_cpus_that_others_hold_keep_no_shard() -> None:
    """Three actors are made where only one has room: it does the shards of the two that wait."""
    ray = Ray([1, 1, 1, 1], lambda _actor, _shard: None)
    taken = ray.cpus
    todo = shards(3)
    made: Any = on_ray._Actors(
        ray,
        Job(Embed(), None, ""),
        iter(todo),
        None,
        on_ray._sizing(ray, None, 1),
        lambda _told: None,  # type: ignore
    )
    ray.cpus = {0: 1}
    ray.nodes = lambda: [{"NodeID": node, "Alive": True, "Resources": {"CPU": 1}} for node in taken]  # type: ignore
    assert sorted(report.shard.first for report in made.reports()) == [0, 10, 20]


def test_a_cluster_without_room_ends_the_run_after_a_while() -> None:
    said: list[str] = []

    def acts(actor: Actor, _shard: Shard) -> Exception | None:
        ray.cpus = {9: 1}  # the node of two CPUs is gone, and one of one CPU has come
        return ActorDiedError("The actor died because its node has died.")

    ray = Ray([2], acts)
    (found,) = reports(ray, shards(3), said, threads=2)
    assert found.ends_run
    assert "no node has had a place for an actor of 2 CPUs; the cluster has 1 CPUs" in str(found.problem)
    assert len(said) > 3, "and it says so while it waits"


@pytest.mark.parametrize(
    ("exc", "tries"), [(ActorDiedError("the worker crashed"), MOST_DEATHS), (ActorUnavailableError(""), MOST_LOSSES)]
)
def test_a_shard_that_ends_its_actors_is_given_up(exc: Exception, tries: int) -> None:
    tried: list[Shard] = []

    def acts(_actor: Actor, shard: Shard) -> Exception | None:
        tried.extend([shard] if shard.first == 10 else [])
        return exc if shard.first == 10 else None

    found = {report.shard.first: report.problem for report in reports(Ray([2], acts), shards(3), [])}
    assert len(tried) == tries
    assert f"rows 10 to 20: {tries} workers have died over it ({type(exc).__name__}" in str(found[10])
    assert found[0] is None
    assert found[20] is None


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "ray://[::1]:{}"])
def test_a_cluster_that_does_not_answer_is_named_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:  # bound, and nobody listens
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", address.format(free.getsockname()[1]))
        monkeypatch.setattr(on_ray, "require", lambda: SimpleNamespace(is_initialized=lambda: False))
        with pytest.raises(ExecutorError, match=r"no Ray cluster answers at RAY_ADDRESS=\S+\d"):
            on_ray.connect()


@pytest.mark.parametrize("address", [None, "", "auto", "local"])
def test_ray_itself_says_what_is_wrong_without_a_place(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_options: object) -> None:
        raise ConnectionError("no running instance")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(on_ray, "require", lambda: SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(ExecutorError, match="no running instance"):
        on_ray.connect()
