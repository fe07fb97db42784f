"""Ids, plans, columns and fusion: no model, no database."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest

from embedrt.databases.columns import converted, hash_of, refuse_reserved, row_of, type_of
from embedrt.databases.fusion import fused
from embedrt.databases.hashing import Held, read_corpus, read_table
from embedrt.databases.ids import ids_by
from embedrt.databases.model import Entry, Hashes
from embedrt.databases.planning import NOTHING, Hashed, planned
from embedrt.errors import FileFormatError, OptionError
from embedrt.vectors.keys import key_of, table_of


def ids_of(column, *entries):
    ids = ids_by(column)
    for entry in entries:
        ids.add(entry)
    ids.check(entries)
    return ids


def test_rows_are_known_by_text_and_occurrence():
    ids = ids_of(None, *map(Entry, "abaa"))
    a, b = key_of("a").hex(), key_of("b").hex()
    assert [ids[row] for row in range(4)] == [a, b, f"{a}-2", f"{a}-3"]
    assert ids.keys().tobytes() == b"".join(key_of(ids[row]) for row in range(4))


def test_rows_are_known_by_a_column():
    ids = ids_of("number", Entry("a", "1"), Entry("a", "한\ud800"), Entry("b", ""))
    assert [ids[row] for row in range(3)] == ["1", "한\ud800", ""]
    with pytest.raises(FileFormatError, match="a record: the id '2' stands in line 1, too"):
        ids_of("number", *(Entry("a", row_id, place=f"line {n}") for n, row_id in enumerate("0213")), Entry("b", "2"))
    with pytest.raises(FileFormatError, match="line 4: no id in 'number'"):
        ids_of("number", Entry("c", None, place="line 4"))


def hashed(rows):
    """Keys of rows given as {id: (text, columns)}."""
    texts, columns = zip(*rows.values(), strict=True) if rows else ((), ())
    return Hashed(table_of(rows), table_of(texts), table_of(columns))


def test_a_plan_embeds_each_new_text_once():
    stored = {"1": ("a", "-"), "2": ("b", "-"), "3": ("c", "-")}
    now = {"1": ("a", "-"), "2": ("b", "other"), "4": ("d", "-"), "5": ("a", "-"), "6": ("d", "-")}
    plan = planned(hashed(now), hashed(stored))
    assert plan.embed.tolist() == [False, False, True, False, False]
    assert plan.copy.tolist() == [-1, 1, -1, 0, -1], "columns that changed, and a text that is there already"
    assert plan.copy_later.tolist() == [-1, -1, -1, -1, 2]
    assert plan.gone.tolist() == [2]
    assert plan.added.tolist() == [False, False, True, True, True]
    assert (plan.num_added, plan.num_changed, plan.num_same) == (3, 1, 1)


class Stored:
    """Of a database what a plan asks."""

    def __init__(self, count):
        self._count = count

    def ids_and_hashes(self):
        for row in range(self._count):
            yield str(row), Hashes(key_of(str(row)).hex(), key_of("").hex())


@pytest.mark.parametrize("column", [None, "number"])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_plan_takes_tens_of_bytes_a_row(column, is_new):
    """Ten million rows are to be indexed with what a small machine has: an object for each took ten times as much."""
    count = 50_000
    entries = [Entry(str(row), None if column is None else str(row)) for row in range(count)]
    tracemalloc.start()
    read = read_corpus(entries, column, None if is_new else {}, lambda entry, types: {})
    held = Held() if is_new else read_table(Stored(count))
    plan = planned(Hashed(NOTHING.ids if is_new else read.ids.keys(), read.texts, read.columns), held.rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plan.num_added == (count if is_new or column is None else 0)
    assert peak < (140 if is_new else 400) * count


def test_a_vector_is_not_copied_from_a_row_that_gets_another():
    plan = planned(hashed({"1": ("b", "-"), "2": ("a", "-")}), hashed({"1": ("a", "-"), "2": ("b", "-")}))
    assert (plan.embed.tolist(), plan.copy.tolist()) == ([True, True], [-1, -1])


def shuffled(chosen, rng):
    return rng.sample(np.flatnonzero(chosen).tolist(), int(chosen.sum()))


def test_carrying_a_plan_out_gives_what_the_corpus_has():
    """Against any order in which the parts are written."""
    rng = random.Random(2)
    for _ in range(300):
        stored = {str(i): (rng.choice("abc"), rng.choice("xy")) for i in range(rng.randint(0, 5))}
        now = {i: (rng.choice("abcd"), rng.choice("xy")) for i in rng.sample("01234567", rng.randint(1, 7))}
        plan = planned(hashed(now), hashed(stored))
        vectors = {row_id: text for row_id, (text, _) in stored.items()}  # a vector is its text here
        names, ids = list(stored), list(now)
        embedded = [now[ids[row]][0] for row in np.flatnonzero(plan.embed)]
        assert len(embedded) == len(set(embedded))
        for row in shuffled(plan.copy >= 0, rng):
            vectors[ids[row]] = vectors[names[plan.copy[row]]]
        for row in shuffled(plan.embed, rng):
            vectors[ids[row]] = now[ids[row]][0]
        for row in shuffled(plan.copy_later >= 0, rng):
            vectors[ids[row]] = vectors[ids[plan.copy_later[row]]]
        for row in plan.gone:
            del vectors[names[row]]
        assert vectors == {row_id: text for row_id, (text, _) in now.items()}
        assert plan.num_same == sum(stored.get(row_id) == made for row_id, made in now.items())
        assert plan.num_added == len(now.keys() - stored.keys())


def test_types_of_columns():
    def of(*values):
        kind = None
        for value in values:
            kind = type_of(value, kind)
        return kind

    assert [of(1, 2), of(1, 2.5), of(2.5, 1), of(True), of("a"), of(None)] == [
        "integer", "number", "number", "boolean", "text", None,
    ]  # fmt: skip
    assert of(1, "a") == of(True, 1) == of([1]) == of({"a": 1}) == of(2**70) == "text"


def test_values_of_columns():
    assert converted("a", 1, "text") == "1"
    assert converted("a", {"한": [1]}, "text") == '{"한": [1]}'
    assert converted("a", 1, "number") == 1.0
    assert converted("a", None, "integer") is None
    with pytest.raises(OptionError, match="'a' holds whole numbers, and the corpus has \"x\""):
        converted("a", "x", "integer")
    assert row_of({"b": 1}, {"a": "text", "b": "integer"}) == {"a": None, "b": 1}
    with pytest.raises(OptionError, match=r"a column 'c', which the table does not \(a\)"):
        row_of({"c": 1}, {"a": "text"})
    assert hash_of({"a": 1, "b": None}) == hash_of({"b": None, "a": 1}) != hash_of({"a": "1", "b": None})


@pytest.mark.parametrize("name", ["text", "vector", "embedrt_id"])
def test_names_that_the_table_needs(name):
    with pytest.raises(OptionError, match=f"a column '{name}' of its own"):
        refuse_reserved({"lang": "text", name: "text"})


def test_fusion_is_that_of_the_paper():
    ranked = fused([["a", "b", "c"], ["c", "a"]])
    assert [row_id for row_id, _ in ranked] == ["a", "c", "b"]
    assert dict(ranked) == pytest.approx({"a": 1 / 61 + 1 / 62, "b": 1 / 62, "c": 1 / 63 + 1 / 61})
    assert fused([[], []]) == []
    assert [row_id for row_id, _ in fused([["x"], ["y"]])] == ["x", "y"], "equal scores: the first ranking's"
