"""The whole on this machine: every row once, with the library's bits; resumed, changed, refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt import Embedder
from embedrt.datasets import work
from embedrt.datasets.check import check_dataset
from embedrt.datasets.plan import Shard
from embedrt.datasets.run import Heard, Outcome, embed_dataset
from embedrt.datasets.work import Job, Report
from tests.batch.engines import ENVIRONMENT
from tests.datasets.conftest import Make, whole, write_parquet


def expected(corpus: Path, bundle: Path, **options: object) -> dict[str, np.ndarray]:
    """What the library makes of each row that has a text."""
    table = pa.concat_tables([pq.read_table(path) for path in sorted(corpus.rglob("*.parquet"))])
    rows = [(row["id"], row["body"]) for row in table.to_pylist() if row["body"] is not None]
    with Embedder(bundle, num_threads=1) as embedder:
        vectors = embedder.encode([text for _, text in rows], **options)
    return dict(zip([id_ for id_, _ in rows], vectors, strict=True))


def found(output: str) -> dict[str, np.ndarray]:
    """Vectors by id; an id that is there twice is an error."""
    table = pq.read_table(output)
    ids = table["id"].to_pylist()
    assert len(set(ids)) == len(ids)
    kind = table["vector"].type.value_type.to_pandas_dtype()
    return dict(zip(ids, np.array(table["vector"].to_pylist(), kind), strict=True))


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_every_row_once_with_the_librarys_bits(precision: str, job: Make, corpus: Path, lookup_bundle: Path) -> None:
    outcome = whole(job(precision=precision))
    assert outcome.totals.shards >= 6
    assert outcome.repeats > 20
    assert outcome.aside > 0
    assert same(found(outcome.output), expected(corpus, lookup_bundle, precision=precision))


def set_aside(outcome: Outcome) -> list[dict[str, Any]]:
    folder = Path(outcome.output) / "_embedrt/aside"
    return [json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines()]


def test_rows_set_aside_are_listed_with_their_reason(job: Make, corpus: Path) -> None:
    outcome = whole(job())
    lines = set_aside(outcome)
    nulls = {r["id"] for p in corpus.rglob("*.parquet") for r in pq.read_table(p).to_pylist() if r["body"] is None}
    assert {line["id"] for line in lines} == nulls
    assert all(line["reason"] == "null" for line in lines)


def test_an_object_without_a_text_is_set_aside_under_its_id(job: Make, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": 1, "body": "water"}\n{"id": 2, "body": null}\n{"id": 3, "body": 7}\n')
    lines = set_aside(whole(job(input=str(tmp_path / "in.jsonl"))))
    assert [(line["id"], line["reason"]) for line in lines] == [
        (2, "field 'body' is null, not a text"), (3, "field 'body' is a number, not a text"),
    ]  # fmt: skip


def test_without_an_id_file_and_row_say_where_from(job: Make, corpus: Path) -> None:
    outcome = whole(job(id=None))
    table = pq.read_table(outcome.output)
    assert table.schema.names == ["file", "row", "vector"]
    rows = set(zip(table["file"].to_pylist(), table["row"].to_pylist(), strict=True))
    assert len(rows) == table.num_rows == outcome.written
    assert {file for file, _ in rows} <= {"a.parquet", "b/b.parquet", "b/c.parquet"}


def test_columns_go_along(job: Make) -> None:
    outcome = whole(job(keep=("body",)))
    assert pq.read_schema(next(Path(outcome.output).glob("part-*"))).names == ["id", "body", "vector"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".txt"])
def test_other_formats(suffix: str, job: Make, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    texts = [f"the water {k}" for k in range(300)]
    if suffix == ".txt":
        (folder / "in.txt").write_text("".join(f"{text}\n" for text in texts))
    elif suffix == ".jsonl":
        lines = [json.dumps({"id": k, "body": text}) for k, text in enumerate(texts)]
        lines[7:7] = ["", "   "]
        lines[100] = '{"id": 98, "body": '
        (folder / "in.jsonl").write_text("\n".join(lines))
    else:
        with (folder / "in.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("id", "body"), *((k, f"{t}\nline two, of it") for k, t in enumerate(texts))])
    id_ = None if suffix == ".txt" else "id"
    outcome = whole(job(input=str(folder), id=id_, text=None if suffix == ".txt" else "body"))
    assert outcome.written == (299 if suffix == ".jsonl" else 300)
    assert outcome.aside == (1 if suffix == ".jsonl" else 0)


def test_lines_are_cut_into_shards_that_meet(job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedrt.datasets.inputs._LINES_BYTES", 100)
    path = tmp_path / "in.jsonl"
    path.write_text(
        "".join(json.dumps({"id": k, "body": f"the water {k % 9}"}) + "\n" * (1 + k % 2) for k in range(200))
    )
    outcome = whole(job(input=str(path), shard_tokens=100))
    assert outcome.totals.shards > 10
    assert sorted(found(outcome.output)) == list(range(200))


def test_a_glob_takes_what_it_names(job: Make, corpus: Path) -> None:
    assert embed_dataset(job(input=f"{corpus}/**/b.parquet")).totals.rows == 40
    assert embed_dataset(job(input=f"{corpus}/*.parquet", output=job().output + "2")).totals.rows == 350


def test_a_second_run_does_nothing(job: Make) -> None:
    first = whole(job())
    again = embed_dataset(job(resume=True))
    assert again.complete
    assert (again.earlier, again.written) == (first.totals.shards, 0)


def test_the_plan_is_the_same_every_time(job: Make, tmp_path: Path) -> None:
    embed_dataset(job())
    embed_dataset(job(output=str(tmp_path / "two")))
    for name in ("plan.jsonl",):
        assert (tmp_path / "out/_embedrt" / name).read_bytes() == (tmp_path / "two/_embedrt" / name).read_bytes()
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / d).glob("part-*")} for d in ("out", "two"))
    assert first == second


def test_only_what_changed_is_done_and_it_is_named(job: Make, corpus: Path, lookup_bundle: Path) -> None:
    whole(job())
    write_parquet(corpus / "b" / "b.parquet", 30, 9)
    write_parquet(corpus / "d.parquet", 5, 11)
    (corpus / "b" / "c.parquet").unlink()
    said: list[str] = []
    outcome = embed_dataset(job(resume=True), lambda heard: said.append(heard.said))
    assert outcome.changes.changed == ("b/b.parquet",)
    assert (outcome.changes.new, outcome.changes.gone) == (("d.parquet",), ("b/c.parquet",))
    assert any("b/b.parquet: changed" in line for line in said)
    assert outcome.written + outcome.aside == 35
    assert check_dataset(outcome.output).holds
    assert same(found(outcome.output), expected(corpus, lookup_bundle))


def test_a_damaged_file_is_named_and_the_others_are_done(job: Make, corpus: Path) -> None:
    data = (corpus / "a.parquet").read_bytes()
    (corpus / "a.parquet").write_bytes(data[: len(data) // 2])
    outcome = embed_dataset(job())
    assert not outcome.complete
    assert outcome.written + outcome.aside == 41
    assert "a.parquet" in outcome.problems[0]
    assert any("a.parquet" in finding for finding in check_dataset(outcome.output).findings)
    (corpus / "a.parquet").write_bytes(data)
    whole(job(resume=True))


def test_a_page_that_is_damaged_ends_its_shard_only(job: Make, corpus: Path) -> None:
    data = bytearray((corpus / "a.parquet").read_bytes())
    column = pq.read_metadata(corpus / "a.parquet").row_group(1).column(1)
    for k in range(column.dictionary_page_offset or column.data_page_offset, column.data_page_offset + 20):
        data[k] ^= 0xFF
    (corpus / "a.parquet").write_bytes(bytes(data))
    outcome = embed_dataset(job())
    assert not outcome.complete
    assert 0 < len(outcome.problems) < outcome.totals.shards - 2
    assert outcome.done == outcome.totals.shards - len(outcome.problems)
    assert check_dataset(outcome.output).found >= len(outcome.problems)


def test_two_writers_of_one_shard_are_harmless(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finds its name taken as it publishes: nothing changes, and the first one's record holds."""
    make = work._make

    def twice(*args: object) -> object:
        first, second = make(*args), make(*args)  # type: ignore[arg-type]
        assert first == second
        return second

    monkeypatch.setattr(work, "_make", twice)
    whole(job())


def test_an_output_without_a_record_is_recorded_not_made_again(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(job())
    shutil.rmtree(tmp_path / "out/_embedrt/done")
    monkeypatch.setattr(work, "_make", lambda *_: pytest.fail("it was there"))
    whole(job(resume=True))


def test_a_full_disk_ends_the_run_and_resume_goes_on(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    publish, calls = work.publish, []

    def full(*args: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return publish(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "publish", full)
    outcome = embed_dataset(job())
    assert outcome.stopped is not None
    assert "No space left" in outcome.stopped
    assert outcome.done == 2
    whole(job(resume=True))


def test_a_store_that_fails_for_a_while_is_tried_again(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    read, waits = work.read_shard, list[float]()

    def flaky(*args: object) -> object:
        if len(waits) < 3:
            raise TimeoutError("503 Slow Down")
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "read_shard", flaky)
    monkeypatch.setattr(work.time, "sleep", waits.append)
    monkeypatch.setattr(work.do_shard, "__defaults__", (waits.append,))
    whole(job())
    assert len(waits) == 3
    assert waits[0] < waits[2]


def test_a_row_group_is_read_in_part_by_each_of_its_shards(job: Make, corpus: Path, lookup_bundle: Path) -> None:
    for path in corpus.rglob("*.parquet"):
        path.unlink()
    write_parquet(corpus / "one.parquet", 500, 4, row_group_size=500)
    outcome = whole(job(shard_tokens=100))
    assert outcome.totals.shards > 10
    assert same(found(outcome.output), expected(corpus, lookup_bundle))


def test_a_store_of_vectors_serves_other_shards(job: Make, tmp_path: Path, corpus: Path, lookup_bundle: Path) -> None:
    store = str(tmp_path / "seen.sqlite")
    first = whole(job(dedup_store=store))
    again = whole(job(dedup_store=store, output=str(tmp_path / "again")))
    assert again.repeats == again.written > first.repeats
    assert same(found(again.output), expected(corpus, lookup_bundle))
    other = whole(job(dedup_store=store, output=str(tmp_path / "other"), precision="int8"))
    assert other.repeats < other.written


def test_progress_is_told(job: Make) -> None:
    heard: list[Heard] = []
    outcome = embed_dataset(job(), heard.append)
    shards = [h.done.shards for h in heard if h.report is not None]
    assert shards == list(range(1, outcome.totals.shards + 1))


def test_the_check_finds_what_is_wrong(job: Make, tmp_path: Path, corpus: Path) -> None:
    """Each kind of damage, one at a time, on a copy."""
    whole(job())
    # names are hashes over times: not the first, which may be of one row, where nothing can be double
    part = max((tmp_path / "out").glob("part-*"), key=lambda path: pq.read_metadata(path).num_rows).name

    def finding(damage: Callable[[Path], None], **how: bool) -> str:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "out", tmp_path / "copy")
        damage(tmp_path / "copy")
        proof = check_dataset(str(tmp_path / "copy"), **how)
        assert not proof.holds
        return "; ".join(proof.findings)

    def record(copy: Path) -> Path:
        key = part.removeprefix("part-").removesuffix(".parquet")
        return copy / "_embedrt/done" / key[:2] / f"{key}.json"

    def rehash(copy: Path, change: Callable[[pa.Table], pa.Table]) -> None:
        """Damage that a hash does not show: the record is of the damaged file."""
        import hashlib

        table = change(pq.read_table(copy / part)).replace_schema_metadata(None)
        note = pq.read_metadata(tmp_path / "out" / part).metadata[b"embedrt"]
        with pq.ParquetWriter(copy / part, table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({"embedrt": note.decode()})
        data = (copy / part).read_bytes()
        new = {**json.loads(record(copy).read_text()), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        record(copy).write_text(json.dumps(new))

    def nan(table: pa.Table) -> pa.Table:
        vectors = table["vector"].combine_chunks().flatten().to_numpy().copy()
        vectors[3] = np.nan
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors), 8)
        return table.set_column(1, "vector", column)

    assert "not there" in finding(lambda copy: (copy / part).unlink())
    assert "another hash" in finding(lambda copy: (copy / part).write_bytes((copy / part).read_bytes() + b"x"))
    assert "not done" in finding(lambda copy: record(copy).unlink())
    assert "no shard of the plan" in finding(lambda copy: shutil.copy(copy / part, copy / "part-0.parquet"))
    assert "identity" in finding(
        lambda c: record(c).write_text(record(c).read_text().replace('"identity": "', '"identity": "0'))
    )
    assert "NaN" in finding(lambda copy: rehash(copy, nan))
    double = finding(lambda copy: rehash(copy, lambda t: pa.concat_tables([t.slice(0, 1), t.slice(0, t.num_rows - 1)])))
    assert "is a-" in double or "is b-" in double
    assert "rows where" in finding(lambda copy: rehash(copy, lambda t: t.slice(0, t.num_rows - 1)))
    half = finding(
        lambda copy: rehash(copy, lambda t: t.set_column(1, "vector", t["vector"].cast(pa.list_(pa.float16(), 8))))
    )
    assert "vectors are" in half
    write_parquet(corpus / "new.parquet", 3, 1)
    assert "new.parquet: new" in finding(lambda copy: None)
    assert check_dataset(str(tmp_path / "out"), with_input=False).holds


def test_several_processes(job: Make, corpus: Path, lookup_bundle: Path) -> None:
    outcome = whole(job(workers=2))
    assert same(found(outcome.output), expected(corpus, lookup_bundle))


LANCE = """
import sys, lance
from embedrt.datasets.check import check_dataset
from embedrt.datasets.run import DatasetJob, embed_dataset
source, output, bundle = sys.argv[1:]
options = {"text": "body", "id": "id", "threads": 1, "shard_tokens": 600, "model": {"packed_cache": False}}
made = DatasetJob(source, output, bundle, **options)
outcome = embed_dataset(made)
assert outcome.complete and outcome.totals.shards > 5, outcome
data = lance.dataset(output)
assert data.count_rows() == outcome.written == len(set(data.to_table()["id"].to_pylist()))
assert data.version == 1, "it appears whole"
proof = check_dataset(output)
assert proof.holds, proof.findings
import dataclasses
assert embed_dataset(dataclasses.replace(made, resume=True)).complete
assert lance.dataset(output).version == 1, "what is there already is not committed again"
lance.dataset(output).delete("id = 'a-1'")
assert not check_dataset(output).holds
"""


def test_lance_appears_whole_at_the_end(corpus: Path, lookup_bundle: Path, tmp_path: Path) -> None:
    """In an interpreter of its own: lance warns of every fork after it."""
    if importlib.util.find_spec("lance") is None:
        pytest.skip("pylance is not installed")
    command = [sys.executable, "-W", "ignore", "-c", LANCE, str(corpus), str(tmp_path / "v.lance"), str(lookup_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_report_never_raises_for_a_shard(job: Make, lookup_bundle: Path, tmp_path: Path) -> None:
    made: list[Report] = []
    outcome = embed_dataset(job(), lambda heard: made.append(heard.report) if heard.report else None)
    assert outcome.complete
    assert all(isinstance(report.shard, Shard) and report.problem is None for report in made)
    assert replace(made[0], problem="x").problem == "x"
    assert Job.__doc__
