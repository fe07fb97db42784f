from __future__ import annotations

import random
import sqlite3

import pytest

from embedrt.databases.where import Compare, IsNull, OneOf, Several, fitting, literal, parse, to_sql
from embedrt.errors import OptionError

TYPES = {"lang": "text", "year": "integer", "score": "number", "open": "boolean", "Doc year": "integer", "언어": "text"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lang = 'ko'", Compare("lang", "=", "ko")),
        ("언어='한국어'", Compare("언어", "=", "한국어")),
        ("lang <> 'it''s'", Compare("lang", "!=", "it's")),
        ('"Doc year">=-3', Compare("Doc year", ">=", -3)),
        ("`Doc year` < 2e3", Compare("Doc year", "<", 2000.0)),
        ("open = true", Compare("open", "=", True)),
        ("lang in ('ko', 'en')", OneOf("lang", ("ko", "en"))),
        ("lang not in ('ko')", OneOf("lang", ("ko",), negated=True)),
        ("year is null", IsNull("year")),
        ("NOT year IS NULL", IsNull("year", negated=True)),
        ("not year < 3", Compare("year", ">=", 3)),
        (
            "lang = 'a' or year = 1 and year = 2",
            Several(
                (Compare("lang", "=", "a"), Several((Compare("year", "=", 1), Compare("year", "=", 2)), any=False)),
                any=True,
            ),
        ),
        (
            "not (lang = 'a' or not year = 1)",
            Several((Compare("lang", "!=", "a"), Compare("year", "=", 1)), any=False),
        ),
    ],
)
def test_parse(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a column expected, and it ends"),
        ("lang", "IN or IS expected, and it ends"),
        ("lang = ", "a value"),
        ("lang = ko", "a value .* not 'ko'"),
        ("lang = 'ko", "cannot be read from"),
        ("lang = 'a' year = 3", "AND, OR or the end expected, not 'year = 3'"),
        ("(lang = 'a'", r"\) expected"),
        ("lang not 'a'", "IN expected"),
        ("lang in ()", "a value"),
        ("lang = 'a'; DROP TABLE x", "cannot be read from '; DROP"),
        ("1 = 1", "a column expected"),
        ("year = 3x", "cannot be read"),
    ],
)
def test_what_is_no_condition(text, message):
    with pytest.raises(OptionError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing = 3", "no column 'nothing'; its columns: lang, year"),
        ("year = '3'", "'year' holds whole numbers, not '3'"),
        ("year > 2020.5", "whole numbers, not 2020.5"),
        ("lang = 3", "'lang' holds text, not 3: write '3'"),
        ("open = 1", "true or false"),
        ("year in (1, 'a')", "whole numbers"),
        ("(lang = 'a' or open = 'x')", "true or false"),
    ],
)
def test_what_does_not_fit_the_columns(text, message):
    with pytest.raises(OptionError, match=message):
        fitting(parse(text), TYPES)


def test_a_table_without_columns():
    with pytest.raises(OptionError, match="keeps none: name them with --keep"):
        fitting(parse("lang = 'a'"), {})


def draw(rng, depth=0):
    kind = rng.choice(["compare", "in", "null"] + (["and", "or", "not", "not"] if depth < 4 else []))
    if kind in ("and", "or"):
        return f"({draw(rng, depth + 1)} {kind} {draw(rng, depth + 1)})"
    if kind == "not":
        return f"not ({draw(rng, depth + 1)})"
    column, values = rng.choice([("a", ["1", "2", "3"]), ("b", ["'x'", "'it''s'"])])
    if kind == "null":
        return f"{column} is {rng.choice(['', 'not '])}null"
    if kind == "in":
        return f"{column} {rng.choice(['', 'not '])}in ({', '.join(rng.sample(values, 2))})"
    return f"{column} {rng.choice(['=', '<>', '<', '<=', '>', '>='])} {rng.choice(values)}"


def test_it_means_what_sql_means_nulls_and_negations_too():
    rng = random.Random(5)
    database = sqlite3.connect(":memory:")
    database.execute("create table t (a integer, b text)")
    rows = [(a, b) for a in (None, 1, 2, 3) for b in (None, "x", "it's")]
    database.executemany("insert into t values (?, ?)", rows)
    seen = set()
    for _ in range(300):
        text = draw(rng)
        condition = fitting(parse(text), {"a": "integer", "b": "text"})
        mine = to_sql(condition, lambda name: f'"{name}"', literal)
        expected, found = (
            database.execute(f"select a, b from t where {where} order by 1, 2").fetchall() for where in (text, mine)
        )
        assert found == expected, text
        assert "NOT (" not in mine
        seen.add(len(found))
    database.close()
    assert len(seen) > 5, "the conditions tell rows apart"
