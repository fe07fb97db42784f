"""EmbedBatch in the real engines, each in an interpreter of its own: the library's bits come back."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.batch.engines import ENVIRONMENT

PREPARE = """
import sys
import numpy as np, pyarrow as pa
from embedrt import Embedder
from embedrt.batch import EmbedBatch
bundle = sys.argv[1]
texts = [f"the water {i % 13} stone " + "light " * (i % 7) for i in range(200)]
table = pa.table({"id": range(len(texts)), "text": texts})
with Embedder(bundle, num_threads=1) as embedder:
    own = embedder.encode(texts)
def check(ids, vectors):
    assert sorted(ids) == list(range(len(texts))), "every row once"
    assert np.array_equal(np.array(vectors, "float32"), own[list(ids)]), "the library's bits"
    print("checked", len(ids))
"""
RAY = """
import ray, ray.data
ray.init("local", num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
rows = ray.data.from_arrow(table)
embed = EmbedBatch(bundle)
done = rows.map_batches(embed, batch_format="pyarrow", batch_size=64)
made = pa.concat_tables([ray.get(ref) for ref in done.to_arrow_refs()])
check(made["id"].to_pylist(), made["vector"].to_pylist())
actors = rows.map_batches(
    EmbedBatch, fn_constructor_args=(bundle,), batch_format="pyarrow", batch_size=64, num_cpus=1,
    compute=ray.data.ActorPoolStrategy(size=1),
)
made = pa.concat_tables([ray.get(ref) for ref in actors.to_arrow_refs()])
check(made["id"].to_pylist(), made["vector"].to_pylist())
"""
SPARK = """
from pyspark.sql import SparkSession
local = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
spark = SparkSession.builder.master("local[2]").config(map=local).getOrCreate()
embed = EmbedBatch(bundle, tokens="tokens", variable_lists=True)
frame = spark.createDataFrame(list(enumerate(texts)), "id long, text string")
made = frame.mapInArrow(embed.stream, f"id long, text string, {embed.ddl}").collect()
check([row.id for row in made], [row.vector for row in made])
assert min(row.tokens for row in made) >= 5
spark.stop()
"""
LANCE = """
import lance
data = lance.write_dataset(table, sys.argv[2] + "/texts.lance", max_rows_per_file=64)
embed = EmbedBatch(bundle).columns_only()
data.add_columns(lance.batch_udf(output_schema=embed.added)(embed), read_columns=["text"])
made = data.to_table()
check(made["id"].to_pylist(), made["vector"].to_pylist())
"""
LOOP = """
made = [EmbedBatch(bundle)(batch) for batch in table.to_batches(max_chunksize=64)]
check([i for b in made for i in b["id"].to_pylist()], [v for b in made for v in b["vector"].to_pylist()])
"""


ENGINES = [
    ("pyarrow", LOOP),
    ("lance", LANCE),
    pytest.param("ray", RAY, marks=pytest.mark.slow),
    pytest.param("pyspark", SPARK, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "program"), ENGINES)
def test_the_engine_gives_the_librarys_bits(name: str, program: str, lookup_bundle: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    if name == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java, which is not installed")
    command = [sys.executable, "-W", "ignore", "-c", PREPARE + program, str(lookup_bundle), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=ENVIRONMENT, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "checked 200" in done.stdout
