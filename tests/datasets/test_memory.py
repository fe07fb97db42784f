"""Reading a row group takes a small part of it at once, whatever its size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.batch.engines import ENVIRONMENT

READS = """
import sys
import psutil
from embedrt.commands.reading.records import How
from embedrt.datasets.inputs import groups_of, input_files, read_shard, sampled
from embedrt.datasets.plan import cut
from embedrt.datasets.sources import source_at
source = source_at(sys.argv[1], How("body", keep=("id",)))
file = next(input_files(source))
source = sampled(source, file)
shards = list(cut(file, groups_of(source, file), 256, 5_000_000))
process = psutil.Process()
before, most, rows = process.memory_info().rss, 0, 0
for shard in shards:
    for some in read_shard(source, shard):
        rows += some.batch.num_rows
        most = max(most, process.memory_info().rss)
print(len(shards), rows, (most - before) >> 20)
"""


@pytest.mark.slow
def test_a_row_group_of_256_mib_with_a_text_of_10_mb(tmp_path: Path) -> None:
    """Read whole it takes more than its size; read by pages less than half of it, 10 MB texts included."""
    count = 256 * 1024
    texts = [f"{k} " + "water " * 171 for k in range(count)]
    texts[count // 2] = "stone " * 1_700_000
    table = pa.table({"id": range(count), "body": texts})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=count, compression="none", use_dictionary=False)
    del table, texts
    assert pq.read_metadata(tmp_path / "in.parquet").num_row_groups == 1
    assert (tmp_path / "in.parquet").stat().st_size > 256 << 20
    command = [sys.executable, "-W", "ignore", "-c", READS, str(tmp_path / "in.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT, timeout=300)
    shards, rows, mib = map(int, done.stdout.split())
    print(mib)
    assert shards > 5
    assert rows == count
    assert mib < 128
