from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedrt.batching import BatchLimits, plan_groups

lengths_lists = st.lists(st.integers(1, 600), max_size=300)
limits_values = st.builds(
    BatchLimits,
    budget_tokens=st.integers(1, 3000),
    max_texts=st.integers(1, 64),
    overhead_tokens=st.integers(0, 200),
)
repeatable = settings(derandomize=True, deadline=None)


def padding(lengths: list[int], group: list[int]) -> int:
    return len(group) * max(lengths[i] for i in group) - sum(lengths[i] for i in group)


@repeatable
@given(lengths_lists, limits_values)
def test_every_index_is_in_exactly_one_group(lengths: list[int], limits: BatchLimits) -> None:
    groups = plan_groups(lengths, limits)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(groups)


@repeatable
@given(lengths_lists, limits_values)
def test_limits_hold_unless_a_text_is_alone(lengths: list[int], limits: BatchLimits) -> None:
    for group in plan_groups(lengths, limits):
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= limits.budget_tokens
        assert len(group) <= limits.max_texts
        assert padding(lengths, group) <= limits.overhead_tokens


@repeatable
@given(lengths_lists, limits_values)
def test_longest_come_first(lengths: list[int], limits: BatchLimits) -> None:
    planned = [lengths[i] for group in plan_groups(lengths, limits) for i in group]
    assert planned == sorted(lengths, reverse=True)


@repeatable
@given(st.integers(1, 600), st.integers(0, 300), limits_values)
def test_equal_lengths_are_never_padded(length: int, count: int, limits: BatchLimits) -> None:
    groups = plan_groups([length] * count, limits)
    size = max(1, min(limits.max_texts, limits.budget_tokens // length))
    assert [len(group) for group in groups] == [size] * (count // size) + [count % size] * (count % size > 0)


@repeatable
@given(st.permutations([3, 9, 9, 40, 41, 200, 511, 512, 512]))
def test_shapes_do_not_depend_on_the_order_of_the_input(lengths: list[int]) -> None:
    shapes = [sorted(lengths[i] for i in group) for group in plan_groups(lengths, BatchLimits())]
    reference = sorted(lengths)
    assert shapes == [sorted(reference[i] for i in g) for g in plan_groups(reference, BatchLimits())]


def test_nothing_gives_no_groups() -> None:
    assert plan_groups([], BatchLimits()) == []


def test_ties_keep_the_order_of_the_input() -> None:
    assert plan_groups([5, 7, 5, 7], BatchLimits(overhead_tokens=0)) == [[1, 3], [0, 2]]


def test_a_text_over_the_budget_goes_alone() -> None:
    assert plan_groups([10, 5000, 10], BatchLimits(budget_tokens=1024)) == [[1], [0, 2]]


@pytest.mark.parametrize(
    ("overhead", "groups"),
    [(0, [[0], [1], [2]]), (9, [[0], [1], [2]]), (10, [[0, 1], [2]]), (29, [[0, 1], [2]]), (30, [[0, 1, 2]])],
)
def test_a_group_closes_when_padding_costs_more_than_a_run(overhead: int, groups: list[list[int]]) -> None:
    assert plan_groups([100, 90, 80], BatchLimits(overhead_tokens=overhead)) == groups


@pytest.mark.parametrize(("budget", "sizes"), [(39, [1, 1, 1, 1]), (40, [2, 2]), (59, [2, 2]), (60, [3, 1]), (80, [4])])
def test_budget_counts_padded_tokens_at_its_edges(budget: int, sizes: list[int]) -> None:
    assert [len(g) for g in plan_groups([20] * 4, BatchLimits(budget_tokens=budget))] == sizes
