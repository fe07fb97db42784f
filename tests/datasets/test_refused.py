"""What is refused before a run begins, so that nothing is left of it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt import DependencyError, ExecutorError, FileFormatError, OptionError
from embedrt.datasets import on_ray, on_spark
from embedrt.datasets.check import check_dataset
from embedrt.datasets.run import embed_dataset
from tests.datasets.conftest import Make, whole


def test_a_run_is_not_begun_over_another(job: Make, tmp_path: Path) -> None:
    whole(job())
    with pytest.raises(FileFormatError, match="--resume"):
        embed_dataset(job())
    with pytest.raises(FileFormatError, match="--keep was"):
        embed_dataset(job(resume=True, keep=("body",)))
    with pytest.raises(FileFormatError, match="precision was 'float32', now 'int8'"):
        embed_dataset(job(resume=True, precision="int8"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.parquet").touch()
    with pytest.raises(FileFormatError, match="holds other files"):
        embed_dataset(job(output=str(tmp_path / "full")))


def test_what_is_wrong_is_said(job: Make, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="not there"):
        embed_dataset(job(input=str(tmp_path / "nowhere")))
    with pytest.raises(FileFormatError, match="no column 'url'"):
        embed_dataset(job(keep=("url",)))
    with pytest.raises(OptionError, match="engine must be"):
        embed_dataset(job(engine="dask"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileFormatError, match="no files"):
        embed_dataset(job(input=str(tmp_path / "empty")))
    with pytest.raises(FileFormatError, match="holds no planned run"):
        check_dataset(str(tmp_path / "empty"))
    (tmp_path / "file").touch()
    with pytest.raises(FileFormatError, match="is a file; the output is a folder"):
        embed_dataset(job(output=str(tmp_path / "file")))


def test_the_column_of_texts_is_looked_at_before_a_run_begins(job: Make, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"id": ["a"], "body": [1]}), numbers)
    with pytest.raises(FileFormatError, match="column 'body' holds int64, not text"):
        embed_dataset(job(input=str(numbers)))
    with pytest.raises(FileFormatError, match="choose with --text: id, body"):
        embed_dataset(job(input=str(numbers), text=None))
    assert not (tmp_path / "out").exists()


def test_an_output_that_the_next_run_would_read_is_refused(job: Make, corpus: Path, tmp_path: Path) -> None:
    for output in (corpus, corpus / "out", corpus / "b" / ".." / "out", tmp_path / "corpus" / "b"):
        with pytest.raises(FileFormatError, match="lies in the input"):
            embed_dataset(job(output=str(output)))
    with pytest.raises(FileFormatError, match="lies in the input"):
        embed_dataset(job(input=str(corpus / "**" / "*.parquet"), output=str(corpus / "out")))
    whole(job(input=str(corpus / "*.parquet"), output=str(corpus / "out")))
    whole(job(input=str(corpus / "a.parquet"), output=str(corpus / "single")))
    whole(job(input=str(corpus / "b"), output=str(corpus / "b" / "_vectors")))


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("spark", "pyspark")])
def test_an_engine_that_is_missing_is_said_before_a_run_begins(
    engine: str, package: str, job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match=f"pip install {package}"):
        embed_dataset(job(engine=engine))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", [on_ray, on_spark])
def test_a_cluster_that_is_not_there_is_said_before_a_run_begins(
    engine: ModuleType, job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect() -> None:
        raise ExecutorError("nobody answers")

    monkeypatch.setattr(engine, "require", lambda: None)
    monkeypatch.setattr(engine, "connect", connect)
    with pytest.raises(ExecutorError, match="nobody answers"):
        embed_dataset(job(engine=engine.__name__.rsplit("_", 1)[1]))
    assert not (tmp_path / "out").exists()
    whole(job())


def test_a_store_of_vectors_that_cannot_be_opened_is_named(job: Make, tmp_path: Path) -> None:
    outcome = embed_dataset(job(dedup_store=str(tmp_path / "nowhere" / "vectors.db")))
    assert "nowhere/vectors.db: unable to open" in str(outcome.stopped)


def test_lance_without_its_package_is_said(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(DependencyError, match="pip install pylance"):
        embed_dataset(job(output_format="lance"))
