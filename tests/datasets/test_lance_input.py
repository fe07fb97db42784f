"""A Lance dataset as input: planned by fragments at one version; a new version costs what is new in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embedrt import DependencyError, Embedder, FileFormatError, OptionError
from embedrt.commands.reading.records import How
from embedrt.datasets.check import check_dataset
from embedrt.datasets.run import DatasetJob, Heard, Outcome, embed_dataset
from tests.datasets.conftest import Make, texts_of
from tests.datasets.test_run import found, same, whole


def table(first: int, count: int) -> pa.Table:
    """Rows with ids from `first`; some texts are null, a third of them repeated."""
    ids = pa.array(range(first, first + count), pa.int64())
    return pa.table({"id": ids, "body": pa.array(texts_of(count, first), pa.string())})


@pytest.fixture
def lance() -> Any:
    return pytest.importorskip("lance", reason="pylance is not installed")


@pytest.fixture
def data(lance: Any, tmp_path: Path) -> Any:
    """Fragments of 150, 150 and 100 rows."""
    return lance.write_dataset(table(0, 400), str(tmp_path / "texts.lance"), max_rows_per_file=150)


@pytest.fixture
def lance_job(job: Make, data: Any) -> Make:
    return lambda **more: job(**{"input": data.uri, **more})


def expected(data: Any, bundle: Path) -> dict[Any, np.ndarray]:
    """What the library makes of the rows that the latest version has."""
    rows = [(row["id"], row["body"]) for row in data.to_table().to_pylist() if row["body"] is not None]
    with Embedder(bundle, num_threads=1) as embedder:
        vectors = embedder.encode([text for _, text in rows])
    return dict(zip([id_ for id_, _ in rows], vectors, strict=True))


def again(job: DatasetJob, said: list[str] | None = None) -> Outcome:
    outcome = embed_dataset(job, lambda heard: (said if said is not None else []).append(heard.said))
    assert outcome.complete, outcome
    proof = check_dataset(job.output)
    assert proof.holds, proof.findings
    return outcome


def test_every_row_once_with_the_librarys_bits(lance_job: Make, data: Any, lookup_bundle: Path) -> None:
    data.delete("id % 7 = 3")
    outcome = whole(lance_job())
    assert outcome.totals.files == 3
    assert outcome.totals.shards > 4
    assert outcome.totals.rows == data.count_rows()
    assert outcome.aside > 0
    assert same(found(outcome.output), expected(data, lookup_bundle))


def test_the_plan_is_the_same_every_time(lance_job: Make, tmp_path: Path) -> None:
    embed_dataset(lance_job())
    embed_dataset(lance_job(output=str(tmp_path / "two")))
    one, two = (tmp_path / name / "_embedrt/plan.jsonl" for name in ("out", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_from_lance_to_lance(lance_job: Make, lance: Any, tmp_path: Path) -> None:
    outcome = whole(lance_job(output=str(tmp_path / "vectors.lance")))
    made = lance.dataset(outcome.output).to_table()
    assert made.num_rows == outcome.written
    assert len(set(made["id"].to_pylist())) == made.num_rows


def test_without_an_id_fragment_and_row_say_where_from(lance_job: Make) -> None:
    import pyarrow.parquet as pq

    outcome = whole(lance_job(id=None))
    made = pq.read_table(outcome.output)
    assert set(made["file"].to_pylist()) == {"fragment-0", "fragment-1", "fragment-2"}
    assert len(set(zip(made["file"].to_pylist(), made["row"].to_pylist(), strict=True))) == outcome.written


def test_a_field_of_a_struct(lance: Any, job: Make, tmp_path: Path) -> None:
    rows = [{"id": k, "page": {"body": f"the water {k}", "n": k}} for k in range(50)]
    lance.write_dataset(pa.Table.from_pylist(rows), str(tmp_path / "nested.lance"))
    assert whole(job(input=str(tmp_path / "nested.lance"), text="page.body")).written == 50


def test_a_new_version_costs_what_is_new_in_it(lance_job: Make, data: Any, lance: Any, lookup_bundle: Path) -> None:
    whole(lance_job())
    lance.write_dataset(table(1000, 30), data.uri, mode="append")
    said: list[str] = []
    outcome = again(lance_job(resume=True), said)
    assert (outcome.changes.new, outcome.changes.changed, outcome.changes.gone) == (("fragment-3",), (), ())
    assert outcome.written + outcome.aside == 30
    assert "since the plan was made: fragment-3: new" in said

    latest = lance.dataset(data.uri)
    latest.add_columns({"length": "length(body)"})
    outcome = again(lance_job(resume=True))
    assert not outcome.changes
    assert outcome.written == 0

    latest.delete("id = 160")
    outcome = again(lance_job(resume=True))
    assert (outcome.changes.new, outcome.changes.changed) == ((), ("fragment-1",))
    assert outcome.written + outcome.aside == 149

    latest.optimize.compact_files()
    outcome = again(lance_job(resume=True))
    assert outcome.changes.gone
    assert outcome.changes.new
    assert same(found(outcome.output), expected(lance.dataset(data.uri), lookup_bundle))


def test_what_is_planned_is_read_whatever_is_written_meanwhile(lance_job: Make, data: Any, lance: Any) -> None:
    """Another program deletes rows and puts fragments together while shards are done."""
    changed: list[int] = []

    def listen(heard: Heard) -> None:
        if heard.report is not None and not changed:
            changed.append(1)
            other = lance.dataset(data.uri)
            other.delete("id >= 200 and id < 300")
            other.optimize.compact_files()

    outcome = embed_dataset(lance_job(), listen)
    assert outcome.complete, outcome.problems
    assert outcome.written + outcome.aside == 400
    assert "the input is not what was planned" in check_dataset(outcome.output).findings[0]
    assert again(lance_job(resume=True)).totals.rows == 300


def test_a_version_that_was_cleaned_away_is_named(lance_job: Make, data: Any, lance: Any) -> None:
    from datetime import timedelta

    from embedrt.datasets import lance_input

    def listen(heard: Heard) -> None:
        if heard.report is None and not heard.said:
            other = lance.dataset(data.uri)
            other.delete("id = 1")
            other.optimize.compact_files()
            other.cleanup_old_versions(older_than=timedelta(0))
            lance_input._at_version.cache_clear()  # as a worker elsewhere would find it

    outcome = embed_dataset(lance_job(), listen)
    assert not outcome.complete
    assert "cannot be opened as a Lance dataset at version 1" in outcome.problems[0]
    assert again(lance_job(resume=True)).totals.rows == 399


def test_what_does_not_go_with_it_is_refused(lance_job: Make, data: Any) -> None:
    with pytest.raises(OptionError, match="--delimiter does not go with"):
        embed_dataset(lance_job(how=How(None, None, ";", None)))
    with pytest.raises(FileFormatError, match="no column 'url'"):
        embed_dataset(lance_job(keep=("url",)))
    with pytest.raises(FileFormatError, match="holds int64, not text"):
        embed_dataset(lance_job(text="id", id=None))


def test_without_pylance_the_advice_is_to_install_it(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.lance/_versions").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(DependencyError, match="pip install pylance"):
        embed_dataset(job(input=str(tmp_path / "texts.lance")))
