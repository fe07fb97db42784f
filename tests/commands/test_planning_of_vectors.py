"""Which vectors of a corpus are copied and which are made, for corpora of many millions of texts."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt.commands import waiting
from embedrt.commands.index_builder import _planned, _rows_of
from embedrt.commands.known_vectors import Known, vectors_of_embed
from embedrt.commands.source import open_source
from embedrt.vectors.groups import representatives
from embedrt.vectors.keys import KEY_BYTES, distinct_rows, first_rows, key_of, places_in, table_of

TEXTS = ["b", "a", "b", "", "c", "a", "\ud800", "c", "b"]


def vectors_of(texts: list[str], width: int = 3) -> np.ndarray:
    return np.stack([np.frombuffer(key_of(text)[:width], np.uint8) for text in texts]).astype(np.float32)


def test_the_first_row_of_each_key_stands_for_all() -> None:
    first = first_rows(table_of(TEXTS))
    assert first.tolist() == [TEXTS.index(text) for text in TEXTS]
    assert distinct_rows(first).tolist() == [0, 1, 3, 4, 6]
    assert first_rows(table_of([])).tolist() == []


def test_keys_that_share_their_first_or_their_last_half_differ() -> None:
    keys = np.zeros((4, KEY_BYTES), np.uint8)
    keys[1, 0] = keys[2, 15] = 1
    assert first_rows(keys).tolist() == [0, 1, 2, 0]


def test_places_are_those_of_the_first_row_with_the_key() -> None:
    known, wanted = table_of(["x", "a", "a", "b"]), table_of(["a", "q", "b", "a"])
    assert places_in(known, wanted).tolist() == [1, -1, 3, 1]
    assert places_in(known[:0], wanted).tolist() == [-1] * 4


def test_each_text_is_taken_from_the_first_source_or_embedded_once() -> None:
    sources = [
        Known(table_of(texts), vectors_of(texts) + offset) for texts, offset in ((["a"], 100), (["c", "a", "c"], 200))
    ]
    plan = _planned(table_of(TEXTS), sources)
    wanted = [TEXTS[row] for row in plan.wanted]
    assert wanted == ["b", "", "\ud800"], "in the corpus' order"
    rows = np.concatenate(list(_rows_of(plan, [*(known.vectors for known in sources), vectors_of(wanted)])))
    offsets = np.array([{"a": 100, "c": 200}.get(text, 0) for text in TEXTS])[:, None]
    np.testing.assert_array_equal(rows, vectors_of(TEXTS) + offsets)


def test_a_plan_takes_tens_of_bytes_a_text() -> None:
    """Ten million texts are a gigabyte or two that way; a dict of keys and a set of rows took 400 bytes a text."""
    count = 100_000
    tracemalloc.start()
    keys = table_of(str(row) for row in range(count))
    plan = _planned(keys, [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(plan.wanted) == count
    assert peak < 120 * count


def test_vectors_of_parquet_are_mapped_and_not_held(tmp_path: Path) -> None:
    """Counted are numpy's arrays; Arrow's pool holds a batch."""
    count, width = 50_000, 64
    vectors = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    texts = [str(row) for row in range(count)]
    columns = {
        "row": pa.array(np.arange(count)),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width),
        "text": pa.array(texts),
    }
    pq.write_table(pa.table(columns), tmp_path / "made.parquet")
    meta = {"identity": "i", "key": {"input": {}}}
    (tmp_path / "made.parquet.meta.json").write_text(json.dumps(meta))
    (tmp_path / "c.txt").write_text("0\n")
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    known = vectors_of_embed(tmp_path / "made.parquet", open_source(tmp_path / "c.txt"), "i", tmp_path / "scratch")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(known.vectors, vectors)
    np.testing.assert_array_equal(known.keys, table_of(texts))
    assert pa.total_allocated_bytes() - before < vectors.nbytes / 10
    assert peak < vectors.nbytes / 2
    assert not list((tmp_path / "scratch").iterdir()), "the copy has no name"


def test_duplicates_are_found_without_holding_the_vectors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 64)).astype(np.float32)
    rows[1::2] = rows[::2]
    np.save(tmp_path / "v.npy", rows)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    chosen = np.flatnonzero(np.arange(len(rows)) % 10 < 2)  # 4,000 of them, in pairs
    tracemalloc.start()
    found = representatives(mapped, 0.99, block_rows=64, chosen=chosen)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.tolist() == [place - place % 2 for place in range(len(chosen))]
    assert peak < rows[chosen].nbytes


def test_a_long_comparison_is_said_before_and_a_short_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [waiting.told(seconds) for seconds in (0, 59, 61, 119, 7_300, 200_000)] == [
        None, None, "1 minute", "2 minutes", "2 hours", "2 days",
    ]  # fmt: skip
    rows = np.random.default_rng(0).normal(size=(2_000, 8)).astype(np.float32)
    assert waiting.seconds_to_compare(rows, rows, 1) == 0
    monkeypatch.setattr(waiting, "_QUERIES", 10)
    monkeypatch.setattr(waiting, "_CORPUS", 100)
    clock = iter((0.0, 3.0, 7.0, 10.5))  # the first piece 3, with the second 4, with itself again 3.5
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: next(clock))
    pieces = 2_000 / 100
    wanted = 0.5 * pieces + 2.5 + 0.5 * np.log2(pieces)  # those that displace nothing, the first, each doubling
    assert waiting.seconds_to_compare(rows, rows, 1) == pytest.approx(wanted * 200)


def test_the_time_of_a_deduplication_is_told_by_what_grows_with_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(2_000, 8)).astype(np.float32)
    assert waiting.seconds_to_deduplicate(rows, 0.9) == 0
    monkeypatch.setattr(waiting, "_ROWS", 50)
    clock = iter((0.0, 3.0, 13.0))  # 50 rows in 3 seconds, 100 in 10: of the number 1 and 2, of its square 2 and 8
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: next(clock))
    assert waiting.seconds_to_deduplicate(rows, 0.9) == pytest.approx(2 * (2_000 / 50) ** 2)
