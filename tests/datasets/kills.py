"""Kills at random while a run works, until it is through, on each of the engines.

`python -m tests.datasets.kills ENGINE CORPUS OUTPUT BUNDLE KILLS SEED` prints how many of each kind were killed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MOST_STARTS = 60  # of drivers: more than are killed, for those that end because a shard was given up
MOST_SECONDS = 60.0  # without a new shard, before the next kill comes all the same

DRIVER = """
import sys
from embedrt.datasets.run import DatasetJob, embed_dataset
if __name__ == "__main__":
    engine, source, output, bundle = sys.argv[1:]
    options = {"text": "body", "id": "id", "shard_tokens": 150, "model": {"packed_cache": False}, "threads": 1}
    options |= {"workers": 2} if engine == "local" else {}
    outcome = embed_dataset(DatasetJob(source, output, bundle, engine=engine, resume=True, **options))
    print(outcome.problems, outcome.stopped, flush=True)
    sys.exit(not outcome.complete)
"""
# What a driver needs to reach a cluster over the loopback.
ON_RAY = """
import ray
import ray._private.services as services
services.resolve_ip_for_localhost = lambda host: host
ray.init(include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
"""
ON_SPARK = """
from pyspark.sql import SparkSession
local = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1",
         "spark.executor.memory": "512m"}
SparkSession.builder.master("local-cluster[2,1,600]").config(map=local).getOrCreate()
"""


@dataclass
class Run:
    """A driver that is started again until it ends well, and where its shards are recorded."""

    engine: str
    arguments: Sequence[str]  # source, output, bundle
    before: str = ""  # what its program does first

    def __post_init__(self) -> None:
        output = Path(self.arguments[1])
        self.done = output / "_embedrt/done"
        self._program, self.log = output.parent / f"on_{self.engine}.py", output.parent / "log"
        self._program.write_text(self.before + DRIVER)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """A new driver."""
        command = [sys.executable, "-W", "ignore", str(self._program), self.engine, *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        return self.process

    def kill(self) -> bool:
        """Kill the driver."""
        assert self.process is not None
        self.process.kill()
        return True

    def below(self, words: str) -> list[psutil.Process]:
        """The driver's processes whose command line holds these words."""
        assert self.process is not None
        return below(self.process.pid, words)

    def count(self) -> int:
        """Shards that are recorded."""
        return sum(1 for _ in self.done.rglob("*.json"))

    def killed(self, victims: dict[str, Callable[[], bool]], kills: int, draw: random.Random) -> Counter[str]:
        """Go on until it is through, with a kill after every few shards; how many of each kind.

        A victim kills what its name says, if there is one now, and says whether.
        """
        killed: Counter[str] = Counter()
        names = [name for name in victims for _ in range(1 if name == "driver" else 2)]  # drivers take longest to start
        for _ in range(MOST_STARTS):
            process = self.start()
            try:
                while process.poll() is None and killed.total() < kills:
                    self._wait_for_shards(process, draw.randint(1, 5))
                    name = draw.choice(names)
                    killed[name] += process.poll() is None and victims[name]()
                if process.wait() == 0:
                    return killed
            finally:
                process.kill()
        raise AssertionError(f"not through after {MOST_STARTS} starts and {killed}: {self.log.read_text()[-2000:]}")

    def _wait_for_shards(self, process: subprocess.Popen[bytes], more: int) -> None:
        """Kills are spread over the work, not over the time."""
        wanted, until = self.count() + more, time.monotonic() + MOST_SECONDS
        while process.poll() is None and time.monotonic() < until and self.count() < wanted:
            time.sleep(0.02)


def below(parent: int, words: str) -> list[psutil.Process]:
    """Processes below one whose command line holds these words."""
    found = []
    with suppress(psutil.Error):
        for child in psutil.Process(parent).children(recursive=True):
            with suppress(psutil.Error):  # it has ended by itself
                if words in " ".join(child.cmdline()):
                    found.append(child)
    return found


def kill_one(found: list[psutil.Process], draw: random.Random) -> bool:
    """Kill one of them; whether there was one."""
    with suppress(psutil.Error):
        if found:
            draw.choice(found).kill()
            return True
    return False


def local(arguments: Sequence[str], kills: int, draw: random.Random) -> Counter[str]:
    """Two workers of this machine; multiprocessing has one more process, which counts semaphores."""
    run = Run("local", arguments)
    return run.killed({"driver": run.kill, "worker": lambda: kill_one(run.below("spawn_main"), draw)}, kills, draw)


def on_ray(arguments: Sequence[str], kills: int, draw: random.Random) -> Counter[str]:
    """A head and two nodes of one CPU each; for a node that is killed another one comes."""
    import ray._private.services as services
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1"}
    services.resolve_ip_for_localhost = lambda host: host  # else nodes look for a way out of the machine
    # By default Ray takes half a minute to notice that a node is gone.
    health = {"initial_delay_ms": 500, "period_ms": 300, "failure_threshold": 3}
    cluster = Cluster()
    config = {f"health_check_{name}": value for name, value in health.items()}
    cluster.add_node(**node, include_dashboard=False, _system_config=config)
    nodes: list[Any] = [cluster.add_node(**node) for _ in range(2)]
    os.environ["RAY_ADDRESS"] = cluster.address
    run = Run("ray", arguments, ON_RAY)

    def kill_node() -> bool:
        cluster.remove_node(nodes.pop(draw.randrange(2)), allow_graceful=False)
        nodes.append(cluster.add_node(**node))
        return True

    def kill_worker() -> bool:
        return kill_one(below(os.getpid(), "ray::_Worker"), draw)

    try:
        return run.killed({"driver": run.kill, "node": kill_node, "worker": kill_worker}, kills, draw)
    finally:
        cluster.shutdown()


def on_spark(arguments: Sequence[str], kills: int, draw: random.Random) -> Counter[str]:
    """Two executors of one core each, and their Python processes."""
    run = Run("spark", arguments, ON_SPARK)

    def kill_executor() -> bool:
        return kill_one(run.below("CoarseGrainedExecutorBackend"), draw)

    def kill_worker() -> bool:
        return kill_one(run.below("pyspark.daemon"), draw)

    return run.killed({"driver": run.kill, "executor": kill_executor, "worker": kill_worker}, kills, draw)


ENGINES = {"local": local, "ray": on_ray, "spark": on_spark}

if __name__ == "__main__":
    engine, source, output, bundle, kills, seed = sys.argv[1:]
    print(json.dumps(ENGINES[engine]((source, output, bundle), int(kills), random.Random(int(seed)))))
