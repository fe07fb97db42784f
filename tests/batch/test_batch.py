"""EmbedBatch by itself: columns, types, errors, pickles, threads."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from embedrt import FileFormatError, IdentityError, InputError, InputTypeError, OptionError, workers
from embedrt.batch import BLOCK_TEXTS, EmbedBatch
from tests.batch.conftest import TEXTS, vectors_of

Own = Callable[..., np.ndarray]


@pytest.fixture(autouse=True)
def _truncation_is_no_news() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*texts were cut")
        yield


def batch(**more: object) -> pa.RecordBatch:
    return pa.record_batch({"id": range(len(TEXTS)), "text": TEXTS, **more})


def test_a_batch_gives_a_batch_with_its_columns(lookup_bundle: Path, own: Own) -> None:
    done = EmbedBatch(lookup_bundle, num_threads=1)(batch())
    assert isinstance(done, pa.RecordBatch)
    assert done.schema.names == ["id", "text", "vector"]
    assert done.column("id").to_pylist() == list(range(len(TEXTS)))
    assert done.column("vector").type == pa.list_(pa.float32(), 8)
    np.testing.assert_array_equal(vectors_of(done.column("vector")), own(TEXTS))


def test_a_table_gives_a_table_however_it_is_chunked(lookup_bundle: Path, own: Own) -> None:
    table = pa.concat_tables([pa.table({"text": TEXTS[:2]}), pa.table({"text": TEXTS[2:]})])
    done = EmbedBatch(lookup_bundle, num_threads=1)(table)
    assert isinstance(done, pa.Table)
    np.testing.assert_array_equal(vectors_of(done.column("vector")), own(TEXTS))


def test_a_table_without_rows_has_the_same_schema(lookup_bundle: Path) -> None:
    embed = EmbedBatch(lookup_bundle, tokens="n")
    empty = pa.table({"text": pa.array([], pa.string())})
    assert embed(empty).schema == embed(pa.table({"text": ["a"]})).schema
    assert embed(pa.record_batch({"text": pa.array([], pa.string())})).num_rows == 0


@pytest.mark.parametrize(
    ("precision", "kind", "dtype"),
    [
        ("float32", pa.list_(pa.float32(), 8), "float32"),
        ("int8", pa.list_(pa.int8(), 8), "int8"),
        ("uint8", pa.list_(pa.uint8(), 8), "uint8"),
        ("binary", pa.list_(pa.int8(), 1), "int8"),
    ],
)
def test_the_precisions_are_the_librarys(
    precision: str, kind: pa.DataType, dtype: str, lookup_bundle: Path, own: Own
) -> None:
    column = EmbedBatch(lookup_bundle, precision=precision, num_threads=1)(batch()).column("vector")
    assert column.type == kind
    np.testing.assert_array_equal(vectors_of(column, dtype), own(TEXTS, precision=precision))


def test_float16_is_rounded_float32(lookup_bundle: Path, own: Own) -> None:
    column = EmbedBatch(lookup_bundle, precision="float16", num_threads=1)(batch()).column("vector")
    assert column.type == pa.list_(pa.float16(), 8)
    np.testing.assert_array_equal(vectors_of(column, "float16"), own(TEXTS).astype("float16"))


def test_bits_are_bytes(lookup_bundle: Path, own: Own) -> None:
    column = EmbedBatch(lookup_bundle, precision="ubinary", num_threads=1)(batch()).column("vector")
    assert column.type == pa.binary(1)
    assert b"".join(column.to_pylist()) == own(TEXTS, precision="ubinary").tobytes()


def test_a_fork_of_the_prompt_matters(lookup_bundle: Path, own: Own) -> None:
    plain, query = EmbedBatch(lookup_bundle), EmbedBatch(lookup_bundle, kind="query", num_threads=1)
    assert plain.identity != query.identity
    assert not np.array_equal(vectors_of(query(batch()).column("vector")), own(TEXTS))


def test_the_identity_is_the_embedders(lookup_bundle: Path) -> None:
    embed = EmbedBatch(lookup_bundle, precision="int8", kind="document", max_tokens=16, truncate_dim=4, num_threads=1)
    assert embed.embedder.identify(kind="document", precision="int8") == embed.identity
    assert embed.shape.dimension == 4


def test_tokens_cuts_and_reasons_on_request(lookup_bundle: Path) -> None:
    texts = ["the water", None, "x " * 80, "a"]
    embed = EmbedBatch(lookup_bundle, tokens="tokens", truncated="cut", error="why", num_threads=1)
    done = embed(pa.record_batch({"text": pa.array(texts, pa.string())}))
    assert done.schema.names == ["text", "vector", "tokens", "cut", "why"]
    assert done.column("tokens").to_pylist() == [4, None, 82, 3]
    assert done.column("cut").to_pylist() == [False, None, True, False]
    assert done.column("why").to_pylist() == [None, "null", None, None]
    assert [v is None for v in done.column("vector").to_pylist()] == [False, True, False, False]


@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary"])
@pytest.mark.parametrize("variable", [False, True])
def test_a_row_without_a_vector_is_null_in_every_type(precision: str, variable: bool, lookup_bundle: Path) -> None:
    embed = EmbedBatch(lookup_bundle, precision=precision, variable_lists=variable, error="why", num_threads=1)
    column = embed(pa.record_batch({"text": ["a", None, "of"]})).column("vector")
    column.validate(full=True)
    assert column.type == embed.shape.arrow_type
    assert column.is_null().to_pylist() == [False, True, False]


def test_bytes_that_are_no_text_have_their_reason(lookup_bundle: Path) -> None:
    raw = pa.array([b"the water", b"\xff\xfe"], pa.binary())
    texts = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    done = EmbedBatch(lookup_bundle, error="why", num_threads=1)(pa.record_batch({"text": texts}))
    first, second = done.column("why").to_pylist()
    assert first is None
    assert "not valid UTF-8" in second


def test_without_a_column_for_it_a_null_raises_with_its_row(lookup_bundle: Path) -> None:
    with pytest.raises(InputError, match="text 1: null") as caught:
        EmbedBatch(lookup_bundle, num_threads=1)(pa.record_batch({"text": ["a", None]}))
    assert caught.value.index == 1


def test_a_stream_keeps_its_batches(lookup_bundle: Path, own: Own) -> None:
    """Sizes around the block: what is read ahead must come back to the batch it belongs to."""
    sizes = [0, 1, BLOCK_TEXTS - 1, 0, 3, BLOCK_TEXTS + 2, 7, 0]
    texts = [f"{TEXTS[k % 6]} {k % 97}" for k in range(sum(sizes))]
    starts = np.cumsum([0, *sizes])
    batches = [
        pa.record_batch({"text": pa.array(texts[a : a + n], pa.string())})
        for a, n in zip(starts[:-1], sizes, strict=True)
    ]
    done = list(EmbedBatch(lookup_bundle, num_threads=1).stream(iter(batches)))
    assert [b.num_rows for b in done] == sizes
    assert [t for b in done for t in b.column("text").to_pylist()] == texts
    np.testing.assert_array_equal(
        np.concatenate([vectors_of(b.column("vector")).reshape(-1, 8) for b in done]), own(texts)
    )


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_columns_of_texts_of_all_kinds(kind: pa.DataType, lookup_bundle: Path, own: Own) -> None:
    column = pa.array(TEXTS).cast(kind)
    done = EmbedBatch(lookup_bundle, num_threads=1)(pa.record_batch({"text": column}))
    np.testing.assert_array_equal(vectors_of(done.column("vector")), own(TEXTS))


def test_a_field_of_a_struct(lookup_bundle: Path, own: Own) -> None:
    docs = pa.array([{"body": text} for text in TEXTS])
    done = EmbedBatch(lookup_bundle, "doc.body", num_threads=1)(pa.record_batch({"doc": docs}))
    np.testing.assert_array_equal(vectors_of(done.column("vector")), own(TEXTS))


def test_columns_that_do_not_go_along(lookup_bundle: Path) -> None:
    assert EmbedBatch(lookup_bundle, keep=["id"])(batch()).schema.names == ["id", "vector"]
    assert EmbedBatch(lookup_bundle).columns_only()(batch()).schema.names == ["vector"]


def test_what_is_wrong_is_said(lookup_bundle: Path) -> None:
    with pytest.raises(FileFormatError, match="no column 'body'"):
        EmbedBatch(lookup_bundle, "body")(batch())
    with pytest.raises(FileFormatError, match="2 columns 'id'"):
        EmbedBatch(lookup_bundle, into="id")(batch())
    with pytest.raises(InputTypeError, match="batch_format='pyarrow'"):
        EmbedBatch(lookup_bundle)({"text": np.array(TEXTS)})
    with pytest.raises(OptionError, match="precision must be one of"):
        EmbedBatch(lookup_bundle, precision="int4")
    with pytest.raises(OptionError, match="two of the added columns"):
        EmbedBatch(lookup_bundle, tokens="vector")
    with pytest.raises(OptionError, match="unknown option"):
        EmbedBatch(lookup_bundle, promt="x")
    with pytest.raises(OptionError, match="Spark has no float16"):
        _ = EmbedBatch(lookup_bundle, precision="float16").ddl


def test_a_pickle_holds_no_model_and_works_elsewhere(lookup_bundle: Path, tmp_path: Path, own: Own) -> None:
    embed = EmbedBatch(lookup_bundle, num_threads=1)
    embed(batch())
    data = pickle.dumps(embed)
    assert len(data) < 2000
    (tmp_path / "embed").write_bytes(data)
    code = (
        "import pickle, sys, pyarrow as pa, numpy as np\n"
        f"done = pickle.load(open({str(tmp_path / 'embed')!r}, 'rb'))(pa.record_batch({{'text': {TEXTS!r}}}))\n"
        f"np.save({str(tmp_path / 'out.npy')!r}, np.array(done.column('vector').to_pylist(), 'float32'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={**os.environ})
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), own(TEXTS))


def test_a_process_opens_its_model_once(lookup_bundle: Path) -> None:
    embed = EmbedBatch(lookup_bundle, num_threads=1)
    again = pickle.loads(pickle.dumps(embed))
    assert embed.embedder is again.embedder
    assert EmbedBatch(lookup_bundle, num_threads=1, max_tokens=8).embedder is not embed.embedder


def test_another_bundle_under_the_same_name_is_refused(lookup_bundle: Path) -> None:
    embed = EmbedBatch(lookup_bundle, num_threads=1)
    embed.identity = "0" * 16
    with pytest.raises(IdentityError, match="the same bundle must be on every node"):
        embed(batch())


def test_threads_are_what_the_engine_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "available_threads", lambda: 8)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.setitem(sys.modules, "pyspark", SimpleNamespace(TaskContext=SimpleNamespace(get=lambda: None)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert workers.threads_given() == 8
    for value, threads in (("3", 3), ("2,1", 2), ("64", 8), ("0", 8), ("many", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert workers.threads_given() == threads
    task = SimpleNamespace(get=lambda: SimpleNamespace(cpus=lambda: 5))
    monkeypatch.setitem(sys.modules, "pyspark", SimpleNamespace(TaskContext=task))
    assert workers.threads_given() == 5
    for cpus, threads in ((4.0, 4), (0.5, 1), (None, 5)):
        context = SimpleNamespace(
            worker=SimpleNamespace(mode=1),
            get_assigned_resources=lambda cpus=cpus: {} if cpus is None else {"CPU": cpus},
        )
        ray = SimpleNamespace(is_initialized=lambda: True, WORKER_MODE=1, get_runtime_context=lambda c=context: c)
        monkeypatch.setitem(sys.modules, "ray", ray)
        assert workers.threads_given() == threads
