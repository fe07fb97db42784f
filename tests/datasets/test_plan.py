"""Shards, from integers."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from embedrt.datasets.plan import Changes, Group, InputFile, Shard, changes, cut, estimated_tokens, paired
from embedrt.datasets.planning import in_order

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


@pytest.mark.parametrize("shuffled", [False, True])
def test_entries_meet_their_files_whatever_the_order(shuffled: bool) -> None:
    """In the same order next to nothing waits; in another one it is still right."""
    names = [f"{k:04}" for k in range(1000)]
    before = [InputFile(name, "1", 1) for name in names if name != "0500"]
    after = [InputFile(name, "1", 1) for name in names if name not in ("0000", "0900")]
    if shuffled:
        random.Random(0).shuffle(after)
    found = list(paired(before, after))
    assert sorted((old or new).path for old, new in found if (old or new)) == names  # type: ignore[union-attr]
    assert {old.path for old, new in found if old and not new} == {"0000", "0900"}
    assert {new.path for old, new in found if new and not old} == {"0500"}
    assert all(old.path == new.path for old, new in found if old and new)
    if not shuffled:
        assert [new.path for _, new in found[:100] if new] == names[1:101]


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_their_items(threads: int) -> None:
    under_way = [0, 0]

    def items() -> Iterator[int]:
        for k in range(50):
            under_way[0] += 1
            under_way[1] = max(under_way)
            yield k

    found = []
    for square in in_order(lambda k: k * k, items(), threads):
        under_way[0] -= 1
        found.append(square)
    assert found == [k * k for k in range(50)]
    assert under_way[1] <= 2 * threads
