"""Neither a row group nor a plan is held whole, whatever its size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bench.scale.memory import write_row_group

from tests.batch.engines import ENVIRONMENT

READS = """
import sys
import psutil
from embedrt.commands.reading.records import How
from embedrt.datasets.inputs import groups_of, input_files, read_shard, sampled
from embedrt.datasets.plan import cut
from embedrt.datasets.sources import source_at
source = source_at(sys.argv[1], How("text", keep=("id",)))
file = next(input_files(source))
source = sampled(source, file)
shards = list(cut(file, groups_of(source, file), 256, int(sys.argv[2])))
process = psutil.Process()
before, most, rows = process.memory_info().rss, 0, 0
for shard in shards:
    for some in read_shard(source, shard):
        rows += some.batch.num_rows
        most = max(most, process.memory_info().rss)
print(len(shards), rows, (most - before) >> 20)
"""


PLANS = """
import sys
import psutil
from embedrt.commands.reading.records import How
from embedrt.datasets import planning
from embedrt.datasets.ledger import Ledger
from embedrt.datasets.plan import Group, InputFile
from embedrt.datasets.sources import Source
from embedrt.datasets.stores import LocalStore
output, count = sys.argv[1], int(sys.argv[2])
def files(_source):
    for k in range(count):
        yield InputFile(f"month={k % 12:02}/part-{k:07}.parquet", f"1000000-{k:016x}", 1_000_000)
planning.input_files = files
planning.groups_of = lambda _source, _file: iter([Group(1000, 200_000)])
process = psutil.Process()
def held():
    return (process.memory_info().rss - before) >> 20
before = process.memory_info().rss
ledger = Ledger(LocalStore(output))
planner = planning.Planner(ledger, Source(output, "", How("body")), 256, 2_000_000, lambda _told: None)
totals, _ = planner.plan()
made = held()
count += 2
totals, changed = planner.plan()
again = held()
keys = {shard.key for shard in ledger.shards()}
print(totals.rows, len(changed.new), made, again, held())
"""


def run(program: str, *arguments: str) -> list[int]:
    """The numbers that it prints."""
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT, timeout=600)
    return list(map(int, done.stdout.split()))


@pytest.mark.slow
@pytest.mark.parametrize(("mib", "shard_tokens"), [(256, 5_000_000), (2048, 100_000_000)])
def test_a_huge_row_group_with_a_text_of_10_mb(mib: int, shard_tokens: int, tmp_path: Path) -> None:
    """Read whole it takes more than its size; by pages the same, 130 to 180 MiB, whatever its size and the shards'."""
    write_row_group(tmp_path / "in.parquet", mib << 20)
    count = pq.read_metadata(tmp_path / "in.parquet").num_rows
    assert (tmp_path / "in.parquet").stat().st_size > 0.9 * (mib << 20)
    shards, rows, grown = run(READS, str(tmp_path / "in.parquet"), str(shard_tokens))
    (tmp_path / "in.parquet").unlink()
    print(grown)
    assert shards >= 4
    assert rows == count
    assert grown < 256


@pytest.mark.parametrize("count", [10_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_plan_of_many_files(count: int, tmp_path: Path) -> None:
    """Of 1,000 rows each: a billion in the slow one. Neither making the plan nor taking it up again holds it."""
    rows, new, made, again, with_keys = run(PLANS, str(tmp_path / "out"), str(count))
    print(made, again, with_keys)
    assert (rows, new) == (1000 * (count + 2), 2)
    assert max(made, again) < 16
    assert with_keys < 16 + count * 160 / (1 << 20), "what the driver holds beside it: a key per shard"
