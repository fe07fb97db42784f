"""What may befall a run: kills at any point, stores that fail and are slow. Nothing is missing, nothing double."""

from __future__ import annotations

import errno
import importlib.util
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from embedrt.datasets.check import check_dataset
from embedrt.datasets.run import DatasetJob, embed_dataset
from tests.batch.engines import ENVIRONMENT
from tests.datasets.conftest import Make

# The driver ends itself without a word at the n-th of these steps, as kill -9 would.
DIES = """
import os, signal, sys
from embedrt.datasets import ledger, parts, run, stores, work
from embedrt.datasets.run import DatasetJob, embed_dataset

source, output, bundle, left = *sys.argv[1:4], int(sys.argv[4])

def dying(function):
    def step(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        done = function(*args, **kwargs)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return step

for holder, name in (
    (ledger.Ledger, "save_run"), (ledger.Ledger, "save_plan"), (ledger.Ledger, "save_record"),
    (ledger.Ledger, "save_aside"), (ledger.Ledger, "forget"), (stores.LocalStore, "put_new"),
    (stores.LocalStore, "put"), (work, "write_parquet"), (os, "link"),
):
    setattr(holder, name, dying(getattr(holder, name)))
options = {"text": "body", "id": "id", "threads": 1, "shard_tokens": 600, "model": {"packed_cache": False}}
outcome = embed_dataset(DatasetJob(source, output, bundle, resume=True, **options))
assert outcome.complete, outcome
"""


def dies(corpus: Path, output: Path, bundle: Path, step: int) -> int:
    command = [sys.executable, "-W", "ignore", "-c", DIES, str(corpus), str(output), str(bundle), str(step)]
    return subprocess.run(command, env=ENVIRONMENT, check=False, timeout=120).returncode


@pytest.mark.parametrize("seed", range(2))
def test_a_driver_that_dies_at_any_step(seed: int, corpus: Path, lookup_bundle: Path, tmp_path: Path) -> None:
    draw = random.Random(seed)
    for _ in range(2):
        assert dies(corpus, tmp_path / "out", lookup_bundle, draw.randint(1, 40)) == -signal.SIGKILL
    assert dies(corpus, tmp_path / "out", lookup_bundle, 0) == 0
    proof = check_dataset(str(tmp_path / "out"))
    assert proof.holds, proof.findings
    assert not any((tmp_path / "out/_embedrt/tmp").glob("*.parquet"))
    table = pq.read_table(tmp_path / "out")
    assert len(set(table["id"].to_pylist())) == table.num_rows == proof.written


@pytest.mark.slow
def test_a_driver_that_dies_at_every_step(corpus: Path, lookup_bundle: Path, tmp_path: Path) -> None:
    for step in range(1, 60):
        if dies(corpus, tmp_path / str(step), lookup_bundle, step) == 0:
            assert step > 40
            break
        assert dies(corpus, tmp_path / str(step), lookup_bundle, 0) == 0
        proof = check_dataset(str(tmp_path / str(step)))
        assert proof.holds, (step, proof.findings)


class Weather:
    """Whether the next request fails, and how often one has."""

    def __init__(self, seed: int, share: float) -> None:
        self.draw, self.share, self.failed = random.Random(seed), share, 0

    def strike(self) -> None:
        """Raise, sometimes."""
        if self.draw.random() < self.share:
            self.failed += 1
            raise OSError(errno.EIO, "503 Slow Down")


@pytest.fixture
def stormy(monkeypatch: pytest.MonkeyPatch) -> Weather:
    """A store in memory, stormy://, whose requests fail."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    from fsspec.implementations.memory import MemoryFileSystem

    weather = Weather(0, 0.0)

    def failing(name: str) -> Callable[..., Any]:
        def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            weather.strike()
            return getattr(MemoryFileSystem, name)(self, *args, **kwargs)

        return request

    names = ("find", "info", "pipe_file", "put_file", "rm_file", "_open", "cat_file")
    kind = type("Stormy", (MemoryFileSystem,), {
        "protocol": "stormy", "store": {}, "pseudo_dirs": [""], "cachable": False, **{n: failing(n) for n in names},
    })  # fmt: skip
    fsspec.register_implementation("stormy", kind, clobber=True)
    monkeypatch.setattr("embedrt.datasets.stores.time.sleep", lambda _seconds: None)
    return weather


def upload(corpus: Path, url: str) -> None:
    import fsspec

    fs, base = fsspec.core.url_to_fs(url)
    for path in corpus.rglob("*.parquet"):
        fs.pipe_file(f"{base}/{path.relative_to(corpus)}", path.read_bytes())


def test_a_store_that_fails_now_and_then(job: Make, corpus: Path, stormy: Weather) -> None:
    upload(corpus, "stormy://in")
    stormy.share = 0.1
    made = job(input="stormy://in", output="stormy://out")
    for attempt in range(20):
        try:
            outcome = embed_dataset(DatasetJob(**{**vars(made), "resume": attempt > 0}))
        except OSError:
            continue  # of the driver: four times in a row
        if outcome.complete:
            break
    assert outcome.complete, outcome.problems
    assert stormy.failed > 3
    stormy.share = 0.0
    proof = check_dataset("stormy://out")
    assert proof.holds, proof.findings
    assert proof.rows == 391


def test_a_store_that_is_gone_ends_the_shards_and_says_so(
    job: Make, corpus: Path, stormy: Weather, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedrt.datasets import work

    upload(corpus, "stormy://in2")
    monkeypatch.setattr(work.do_shard, "__defaults__", (lambda _seconds: None,))
    made = work.read_shard

    def gone(*args: Any) -> Any:
        stormy.share = 1.0
        return made(*args)

    monkeypatch.setattr(work, "read_shard", gone)
    outcome = embed_dataset(job(input="stormy://in2", output="stormy://out2"))
    assert not outcome.complete
    assert "503 Slow Down" in outcome.problems[0]


def test_a_lost_credential_ends_the_run(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedrt.datasets import work

    def refused(*args: Any) -> Any:
        raise PermissionError("The provided token has expired.")

    monkeypatch.setattr(work, "publish", refused)
    outcome = embed_dataset(job())
    assert outcome.stopped is not None
    assert "token has expired" in outcome.stopped
    assert len(outcome.problems) == 1
    monkeypatch.undo()
    assert embed_dataset(job(resume=True)).complete


def test_a_worker_that_always_dies_costs_its_shard_only(job: Make, corpus: Path, lookup_bundle: Path) -> None:
    from embedrt.datasets.local import died
    from embedrt.datasets.plan import Shard

    shard, deaths, again = Shard("a", "1", 0, 10, 5), dict[str, int](), list[Shard]()
    assert died(shard, deaths, again, "exit code -9") is None
    assert died(shard, deaths, again, "exit code -9") is None
    assert again == [shard, shard]
    report = died(shard, deaths, again, "exit code -9")
    assert report is not None
    assert "3 workers have died" in (report.problem or "")
    assert not report.ends_run


S3 = """
import os, sys, fsspec
from pathlib import Path
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
               "AWS_DEFAULT_REGION": "us-east-1"}
from embedrt.datasets.check import check_dataset
from embedrt.datasets.run import DatasetJob, embed_dataset
from embedrt.datasets.stores import store_at
corpus, bundle, scratch = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
fs = fsspec.filesystem("s3")
fs.mkdir("texts"); fs.mkdir("vectors")
for path in corpus.rglob("*.parquet"):
    fs.put_file(str(path), f"texts/corpus/{path.relative_to(corpus)}")
options = {"text": "body", "id": "id", "threads": 1, "shard_tokens": 600, "model": {"packed_cache": False}}
made = DatasetJob("s3://texts/corpus", "s3://vectors/out", bundle, **options)
outcome = embed_dataset(made)
assert outcome.complete and outcome.totals.rows == 391, outcome
proof = check_dataset("s3://vectors/out")
assert proof.holds, proof.findings
store = store_at("s3://vectors/out")
part = next(stat for stat in store.files() if stat.path.startswith("part-"))
scratch.write_bytes(b"second")
assert not store.put_new(scratch, part.path), "the name is taken"
assert store.stat(part.path).bytes == part.bytes
fs.put_file(str(next(corpus.rglob("b.parquet"))), "texts/corpus/new.parquet")
import dataclasses
again = embed_dataset(dataclasses.replace(made, resume=True))
assert again.complete and again.changes.new == ("new.parquet",) and again.written + again.aside == 40, again
assert check_dataset("s3://vectors/out").holds
one = embed_dataset(DatasetJob("s3://texts/corpus/b/*.parquet", "s3://vectors/glob", bundle, **options))
assert one.totals.rows == 41, one
server.stop()
"""


@pytest.mark.slow
def test_s3(corpus: Path, lookup_bundle: Path, tmp_path: Path) -> None:
    for name in ("s3fs", "moto"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    command = [sys.executable, "-W", "ignore", "-c", S3, str(corpus), str(lookup_bundle), str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
