"""Shards on this machine: in this process, or in several that may die."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from embedrt.datasets.plan import Shard
from embedrt.datasets.policy import MOST_DEATHS, Sizing
from embedrt.datasets.work import Job, Report, do_shard


def run_local(job: Job, shards: Iterator[Shard], sizing: Sizing) -> Iterator[Report]:
    """Reports of the shards, as they come. Closing the iterator ends the workers."""
    job = replace(job, embed=job.embed.with_threads(sizing.threads))
    if sizing.workers == 1:
        for shard in shards:
            yield do_shard(job, shard)
    else:
        yield from _Pool(job, shards, sizing.workers).reports()


@dataclass
class _Worker:
    process: Any
    line: Connection
    shard: Shard | None = None


class _Pool:
    """Processes that are given one shard at a time; one that dies is replaced, and its shard given out again."""

    def __init__(self, job: Job, shards: Iterator[Shard], count: int) -> None:
        self._job = job
        self._shards = shards
        self._count = count
        self._again: list[Shard] = []
        self._deaths: dict[str, int] = {}
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def reports(self) -> Iterator[Report]:
        """Of each shard one."""
        try:
            while True:
                self._fill()
                busy = [worker for worker in self._workers if worker.shard is not None]
                if not busy:
                    return
                ready = wait([worker.line for worker in busy])
                for worker in [worker for worker in busy if worker.line in ready]:
                    report = self._heard(worker)
                    if report is not None:
                        yield report
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.process.join()

    def _fill(self) -> None:
        """Give every idle worker a shard, and make workers for more."""
        for worker in self._workers:
            if worker.shard is None:
                self._give(worker)
        while len(self._workers) < self._count:
            shard = self._next()
            if shard is None:
                return
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs, self._job), daemon=True)
            process.start()
            theirs.close()
            worker = _Worker(process, ours)
            self._workers.append(worker)
            self._send(worker, shard)

    def _give(self, worker: _Worker) -> None:
        shard = self._next()
        if shard is not None:
            self._send(worker, shard)

    def _send(self, worker: _Worker, shard: Shard) -> None:
        worker.shard = shard
        with suppress(OSError):  # it has died: `wait` finds its line at its end
            worker.line.send(shard)

    def _next(self) -> Shard | None:
        return self._again.pop() if self._again else next(self._shards, None)

    def _heard(self, worker: _Worker) -> Report | None:
        """A worker's report; None where it died and its shard will be given out again."""
        shard = worker.shard
        assert shard is not None
        try:
            report: Report = worker.line.recv()
            worker.shard = None
            return report
        except (EOFError, OSError):
            worker.process.join()
            self._workers.remove(worker)
            return died(shard, self._deaths, self._again, f"exit code {worker.process.exitcode}")


def died(shard: Shard, deaths: dict[str, int], again: list[Shard], how: str, most: int = MOST_DEATHS) -> Report | None:
    """Put a shard whose worker died back; or, after too many of them, its report."""
    deaths[shard.key] = deaths.get(shard.key, 0) + 1
    if deaths[shard.key] < most:
        again.append(shard)
        return None
    place = f"{shard.path}, rows {shard.first:,} to {shard.first + shard.rows:,}"
    return Report(shard, None, f"{place}: {most} workers have died over it ({how})")


def _serve(line: Connection, job: Job, do: Callable[[Job, Shard], Report] = do_shard) -> None:
    """A worker's life: until its parent is gone."""
    try:
        while True:
            line.send(do(job, line.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return
