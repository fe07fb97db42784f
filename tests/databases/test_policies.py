"""Ids, plans, columns and fusion: no model, no database."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from embedrt.databases.columns import converted, hash_of, refuse_reserved, row_of, type_of
from embedrt.databases.fusion import fused
from embedrt.databases.ids import Ids
from embedrt.databases.model import Entry, Hashes
from embedrt.databases.planning import planned
from embedrt.errors import FileFormatError, OptionError
from embedrt.vectors.keys import key_of


def test_rows_are_known_by_text_and_occurrence():
    ids = Ids(None)
    a, b = key_of("a").hex(), key_of("b").hex()
    assert [ids.of(Entry(text)) for text in "abaa"] == [a, b, f"{a}-2", f"{a}-3"]


def test_rows_are_known_by_a_column():
    ids = Ids("number")
    assert ids.of(Entry("a", "1", place="line 2")) == "1"
    with pytest.raises(FileFormatError, match="line 3: the id '1' stands in line 2, too"):
        ids.of(Entry("b", "1", place="line 3"))
    with pytest.raises(FileFormatError, match="line 4: no id in 'number'"):
        ids.of(Entry("c", None, place="line 4"))


def hashes(*texts, columns="-"):
    return [Hashes(text, columns) for text in texts]


def test_a_plan_embeds_each_new_text_once():
    stored = {"1": Hashes("a", "-"), "2": Hashes("b", "-"), "3": Hashes("c", "-")}
    now = [*hashes("a"), Hashes("b", "other"), *hashes("d", "a", "d")]
    plan = planned(["1", "2", "4", "5", "6"], now, stored)
    assert plan.embed == {2}
    assert plan.copy == {1: "2", 3: "1"}, "columns that changed, and a text that is there already"
    assert plan.copy_later == {4: "4"}
    assert plan.gone == ("3",)
    assert (plan.num_added, plan.num_changed, plan.num_same) == (3, 1, 1)


def test_a_plan_of_a_new_table_takes_a_few_hundred_bytes_a_row():
    """Ten million rows are to be indexed with what a small machine has."""
    count = 20_000
    tracemalloc.start()
    of, ids, made = Ids(None), [], []
    for row in range(count):
        entry = Entry(str(row))
        ids.append(of.of(entry))
        made.append(Hashes(ids[-1], ""))
    del of
    assert len(planned(ids, made, {}).embed) == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 350 * count


def test_a_vector_is_not_copied_from_a_row_that_gets_another():
    stored = {"1": Hashes("a", "-"), "2": Hashes("b", "-")}
    plan = planned(["1", "2"], hashes("b", "a"), stored)
    assert (plan.embed, plan.copy) == ({0, 1}, {})


def test_carrying_a_plan_out_gives_what_the_corpus_has():
    """Against any order in which the parts are written."""
    rng = random.Random(2)
    for _ in range(300):
        stored = {str(i): Hashes(rng.choice("abc"), rng.choice("xy")) for i in range(rng.randint(0, 5))}
        ids = rng.sample([str(i) for i in range(8)], rng.randint(1, 7))
        now = [Hashes(rng.choice("abcd"), rng.choice("xy")) for _ in ids]
        plan = planned(ids, now, stored)
        vectors = {row_id: made.text for row_id, made in stored.items()}  # a vector is its text here
        for rows in (plan.copy, plan.embed, plan.copy_later):
            order = list(rows)
            rng.shuffle(order)
            for row in order:
                source = rows[row] if isinstance(rows, dict) else None
                vectors[ids[row]] = now[row].text if source is None else vectors[source]
        for row_id in plan.gone:
            del vectors[row_id]
        assert vectors == {row_id: made.text for row_id, made in zip(ids, now, strict=True)}
        embedded = [now[row].text for row in plan.embed]
        assert len(embedded) == len(set(embedded))


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
