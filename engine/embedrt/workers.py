"""What a process has that an engine such as Ray or Spark started: its share of the machine, and its one model."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from embedrt.embedder import Embedder
from embedrt.machine import available_threads

_opening = threading.Lock()
_models: dict[str, Embedder] = {}


def opened_once(bundle: str, **arguments: Any) -> Embedder:
    """The process's embedder for these arguments; a fork opens its own, because its parent's threads are not there."""
    key = repr((os.getpid(), bundle, sorted(arguments.items())))
    with _opening:
        if key not in _models:
            _models[key] = Embedder(bundle, **arguments)
        return _models[key]


def threads_given() -> int:
    """Threads that the engine around this process gave it, and never more than affinity and cgroup quota allow.

    Asked in this order: Ray (`num_cpus` of the task or actor), Spark (`spark.task.cpus`), OMP_NUM_THREADS, which
    both of them and Slurm, Dask and Kubernetes operators set as well; else affinity and quota alone.
    """
    allowed = available_threads()
    for found in (_threads_of_ray(), _threads_of_spark(), _number(os.environ.get("OMP_NUM_THREADS"))):
        if found is not None:
            return max(1, min(allowed, found))
    return allowed


def _threads_of_ray() -> int | None:
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.worker.mode != ray.WORKER_MODE:  # the driver was given nothing
        return None
    cpus = context.get_assigned_resources().get("CPU")
    return None if cpus is None else int(cpus) or 1


def _threads_of_spark() -> int | None:
    pyspark = sys.modules.get("pyspark")
    context = None if pyspark is None else pyspark.TaskContext.get()
    return None if context is None else int(context.cpus())


def _number(value: str | None) -> int | None:
    first = (value or "").partition(",")[0].strip()  # OpenMP's may be a list, by nesting
    return int(first) if first.isdecimal() and int(first) > 0 else None
