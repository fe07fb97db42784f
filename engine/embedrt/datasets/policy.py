"""What becomes of an error, and how many processes share a machine or a cluster. Pure."""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from embedrt.errors import EmbedrtError, FileFormatError, InputError, NonFiniteError

MOST_TRIES = 6  # of one shard by one worker: waits of 1 to 32 s, a minute in all
MOST_DEATHS = 3  # of workers over one shard: it is then given up, and named
MOST_LOSSES = 20  # of nodes under one shard: more than chance takes, and a shard that takes its node along ends


class Verdict(Enum):
    """What an error ends."""

    RETRY = "nothing: the shard is tried again after a while"
    SHARD = "the shard: others go on, and it is named at the end"
    RUN = "the run: every shard would meet it"


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_REFUSED = (
    "PermissionError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "TokenRetrievalError",
    "DefaultCredentialsError",
)
_OF_STORES = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs", "requests", "urllib3", "http", "fsspec")


def verdict(exc: BaseException, tries: int) -> Verdict:
    """What an error ends that came up in a shard's `tries`-th try.

    A damaged file is the shard's own affair. A full disk, a lost credential and a wrong model would meet every
    shard. What comes from a store or the network is tried again, and after MOST_TRIES it is the shard's.
    """
    if isinstance(exc, (FileFormatError, InputError, NonFiniteError, FileNotFoundError)):
        return Verdict.SHARD
    if isinstance(exc, EmbedrtError) or is_refusal(exc):
        return Verdict.RUN
    if isinstance(exc, OSError) and exc.errno in _FULL:
        return Verdict.RUN
    if type(exc) is OSError and exc.errno is None:  # Arrow's word for damaged data
        return Verdict.SHARD
    of_store = type(exc).__module__.partition(".")[0] in _OF_STORES
    if isinstance(exc, (OSError, TimeoutError)) or of_store:
        return Verdict.RETRY if tries < MOST_TRIES else Verdict.SHARD
    if isinstance(exc, (ValueError, MemoryError)):  # Arrow's errors are ValueErrors
        return Verdict.SHARD
    return Verdict.RUN


def is_refusal(exc: BaseException) -> bool:
    """Whether it says that somebody may not do this; stores' clients have types of their own for it."""
    return isinstance(exc, PermissionError) or type(exc).__name__ in _REFUSED


def wait_s(tries: int, draw: random.Random) -> float:
    """Seconds to wait after the `tries`-th try: doubled each time, and spread, so that not all come back at once."""
    return float(min(32, 2 ** (tries - 1)) * draw.uniform(0.5, 1.0))


@dataclass(frozen=True)
class Sizing:
    """Processes, and threads of each."""

    workers: int
    threads: int
    why: str


def local_sizing(cpus: int, workers: int | None, threads: int | None) -> Sizing:
    """Processes of this machine: one that uses every CPU, unless more are asked for."""
    count = workers or 1
    each = threads or max(1, cpus // count)
    return Sizing(count, each, f"{count} process{'es' if count > 1 else ''} of {each} threads on {cpus} CPUs")


def ray_sizing(node_cpus: Sequence[float], workers: int | None, threads: int | None, most_threads: int = 8) -> Sizing:
    """Actors of a Ray cluster, so that nothing waits for a CPU that an actor holds.

    Our actors read for themselves. One CPU is still left free, so that other tasks of the cluster, such as those
    that read, can run: an actor pool that holds all of them is how a run comes to hang for ever. A cluster of a
    single CPU has none to leave.

    Args:
        node_cpus: of each node that is alive.
        workers, threads: as asked for; None chooses.
        most_threads: of one actor, if not said; more processes with fewer threads each lose less to short texts.
    """
    nodes = [int(cpus) for cpus in node_cpus if cpus >= 1]
    total = sum(nodes)
    if not nodes:
        return Sizing(0, 1, "the cluster has no CPU")
    each = threads or max(1, min(most_threads, min(nodes) if len(nodes) > 1 else max(1, total - 1)))
    fits = sum(cpus // each for cpus in nodes)
    if fits * each >= total and fits > 1:
        fits -= 1
    count = min(workers, fits) if workers else fits
    free = total - count * each
    why = f"{count} actors of {each} CPUs on {len(nodes)} nodes with {total} CPUs; {free} left for other tasks"
    if workers and workers > fits:
        why += f" ({workers} were asked for and do not fit)"
    return Sizing(max(0, count), each, why)
