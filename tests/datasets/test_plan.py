"""Shards, from integers."""

from __future__ import annotations

import random

import pytest

from embedrt.datasets.plan import Changes, Group, InputFile, Shard, changes, cut, estimated_tokens

FILE = InputFile("a.parquet", "10-1", 10)


def shards(groups: list[Group], target: int, max_tokens: int = 512) -> list[Shard]:
    return list(cut(FILE, groups, max_tokens, target))


def test_no_rows_no_shards() -> None:
    assert shards([], 100) == []
    assert shards([Group(0, 0), Group(0, 5)], 100) == []


def test_small_groups_are_joined_and_large_ones_cut() -> None:
    found = shards([Group(10, 320), Group(10, 320), Group(100, 3200)], 200)
    assert [(s.first, s.rows) for s in found] == [(0, 20), (20, 20), (40, 20), (60, 20), (80, 20), (100, 20)]
    assert all(s.tokens == 200 for s in found)


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_in_one_shard_and_none_is_much_larger_than_asked(seed: int) -> None:
    draw = random.Random(seed)
    groups = [Group(draw.randint(0, 5000), draw.randint(0, 2_000_000)) for _ in range(draw.randint(1, 30))]
    target = draw.randint(50, 200_000)
    found = shards(groups, target)
    rows = [row for s in found for row in range(s.first, s.first + s.rows)]
    assert rows == list(range(sum(group.rows for group in groups)))
    assert all(s.rows for s in found)
    longest = 512 + 2
    assert all(s.tokens <= 1.5 * target + longest for s in found)
    assert len({s.key for s in found}) == len(found)


def test_lines_are_not_cut_within_a_group() -> None:
    found = shards([Group(10, 4000, 0, 4000), Group(10, 4000, 4000, 8000)], 100)
    assert [(s.start, s.stop) for s in found] == [(0, 4000), (4000, 8000)]


def test_what_lies_behind_the_limit_costs_nothing() -> None:
    assert estimated_tokens(Group(10, 4_000_000), 512) == 5120
    assert estimated_tokens(Group(10, 400), 512) == 120
    assert estimated_tokens(Group(0, 0), 512) == 0


def test_a_key_stands_for_rows_of_an_unchanged_file() -> None:
    one = Shard("a", "1", 0, 10, 5)
    assert one.key == Shard("a", "1", 0, 10, 99).key, "an estimate changes no key"
    others = [Shard("b", "1", 0, 10, 5), Shard("a", "2", 0, 10, 5), Shard("a", "1", 1, 10, 5), Shard("a", "1", 0, 9, 5)]
    assert one.key not in {other.key for other in others}


def test_changes_are_named() -> None:
    before = [InputFile("a", "1", 1), InputFile("b", "1", 1), InputFile("c", "1", 1)]
    after = [InputFile("a", "1", 1), InputFile("b", "2", 1), InputFile("d", "1", 1)]
    assert changes(before, after) == Changes(("b",), ("d",), ("c",))
    assert not changes(before, before)
    many = changes([], [InputFile(str(k), "1", 1) for k in range(10)])
    assert many.told(3) == ["0: new", "1: new", "2: new", "and 7 more"]
