"""The queue's policy, with integers and a clock that the test sets."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from embedrt.server.policy import BatchQueue, Item, QueueFullError, QueueLimits, is_short

LIMITS = QueueLimits(batch_tokens=64, batch_texts=8, overhead_tokens=8, queue_tokens=1000, bulk_every=4)


def filled(*requests: list[int], limits: QueueLimits = LIMITS, spacing: float = 0.0) -> BatchQueue:
    """Requests 1, 2, ... of these token counts, arriving in this order."""
    queue = BatchQueue(limits)
    for number, counts in enumerate(requests, 1):
        queue.add(number, counts, now=number * spacing)
    return queue


def drained(queue: BatchQueue) -> list[list[Item]]:
    """All batches."""
    return list(iter(queue.next_batch, []))


def owners(batches: list[list[Item]]) -> list[set[int]]:
    """Which requests each batch serves."""
    return [{item.request for item in batch} for batch in batches]


def test_an_idle_queue_gives_a_single_text_at_once():
    queue = filled([5])
    assert queue.next_batch() == [Item(1, 0, 5)]
    assert queue.next_batch() == []
    assert queue.waiting_tokens == queue.waiting_requests == 0


def test_texts_of_several_requests_share_a_batch():
    assert owners(drained(filled([5], [6], [5]))) == [{1, 2, 3}]


def test_every_item_is_in_exactly_one_batch_and_no_batch_breaks_a_limit():
    rng = random.Random(5)
    for overhead in (8, None):
        limits = QueueLimits(batch_tokens=64, batch_texts=8, overhead_tokens=overhead, queue_tokens=10**9)
        requests = [[rng.randint(1, 90) for _ in range(rng.choice([1, 2, 3, 40]))] for _ in range(60)]
        batches = drained(filled(*requests, limits=limits))
        wanted = {(r, i) for r, counts in enumerate(requests, 1) for i in range(len(counts))}
        got = [(item.request, item.index) for batch in batches for item in batch]
        assert sorted(got) == sorted(wanted)
        for batch in batches:
            lengths = [item.num_tokens for item in batch]
            run = sum(lengths) if overhead is None else len(lengths) * max(lengths)
            assert len(batch) == 1 or (run <= 64 and len(batch) <= 8)
            if overhead is not None:
                assert run - sum(lengths) <= overhead


def test_a_long_text_goes_alone():
    assert [[item.num_tokens for item in batch] for batch in drained(filled([200, 10, 10]))] == [[200], [10, 10]]


def test_interactive_goes_before_bulk_that_came_earlier():
    queue = filled([30] * 50, [5])
    assert owners([queue.next_batch(), queue.next_batch()]) == [{2}, {1}]


def test_a_single_query_behind_a_huge_request_waits_for_two_batches_at_most():
    """Whenever it comes, while other queries keep coming one by one."""
    for arrival in range(12):
        queue = filled([30] * 400, limits=QueueLimits(batch_tokens=64, overhead_tokens=8, queue_tokens=10**6))
        for step in range(arrival):
            if step % 2:
                queue.add(100 + step, [5], now=1.0)
            queue.next_batch()  # is running when the query comes
        queue.add(999, [7], now=2.0)
        before = 0
        while 999 not in owners([queue.next_batch()])[0]:
            before += 1
        assert 1 + before <= 2  # the one that ran, and at most one more


def test_bulk_gets_its_share_under_a_flood_of_queries():
    queue = filled([30] * 50)
    served = []
    for number in range(2, 40):
        queue.add(number, [5], now=1.0)
        served += owners([queue.next_batch()])
    assert sum(1 in owner for owner in served) == len(served) // 4


def test_a_shorter_request_passes_a_longer_one_that_came_a_little_earlier():
    queue = BatchQueue(LIMITS)
    queue.add(1, [60], now=0.0, seconds_per_token=0.01)  # at 0.60
    queue.add(2, [10], now=0.3, seconds_per_token=0.01)  # at 0.40
    queue.add(3, [40], now=0.3, seconds_per_token=0.01)  # at 0.70
    assert owners(drained(queue)) == [{2}, {1}, {3}]


def test_clients_take_turns_whatever_each_has_sent():
    queue = BatchQueue(LIMITS)
    for number in range(1, 11):
        queue.add(number, [60], now=0.0, client="many")
    queue.next_batch()
    queue.add(100, [60], now=5.0, client="few")
    queue.add(101, [60], now=5.0, client="few")
    assert owners([queue.next_batch() for _ in range(5)]) == [{100}, {2}, {101}, {3}, {4}]


def test_a_client_that_comes_back_has_saved_nothing_up():
    queue = BatchQueue(LIMITS)
    queue.add(1, [60], now=0.0, client="first")
    queue.next_batch()
    for number in range(2, 12):
        queue.add(number, [60], now=1.0, client="other")
    for _ in range(5):
        queue.next_batch()
    for number in range(20, 26):
        queue.add(number, [60], now=2.0, client="first")
    assert [min(owner) < 20 for owner in owners([queue.next_batch() for _ in range(6)])].count(True) == 3


def test_what_fills_anothers_batch_is_counted_for_its_client():
    queue = BatchQueue(LIMITS)
    queue.add(1, [30], now=0.0, client="one")
    queue.add(2, [30], now=0.1, client="two")
    queue.add(3, [60], now=0.2, client="two")
    queue.add(4, [60], now=0.3, client="three")
    assert owners(drained(queue)) == [{1, 2}, {4}, {3}]


def test_bulk_of_several_clients_takes_turns_too():
    queue = BatchQueue(LIMITS)
    queue.add(1, [60] * 20, now=0.0, client="one")
    queue.next_batch()
    queue.add(2, [60] * 3, now=9.0, client="two")
    assert owners([queue.next_batch() for _ in range(6)]) == [{2}, {1}, {2}, {1}, {2}, {1}]


def test_no_client_fills_the_queue():
    queue = BatchQueue(LIMITS)
    for number in range(1, 16):
        queue.add(number, [50], now=0.0, client="many")
    with pytest.raises(QueueFullError, match="a client may have three times what it leaves for others"):
        queue.add(16, [50], now=0.0, client="many")
    assert queue.waiting_tokens == 750
    queue.add(100, [50], now=0.0, client="few")
    assert queue.drop(1)
    assert queue.waiting_tokens == 750
    queue.add(101, [10], now=0.0, client="few")


def test_a_request_as_large_as_the_queue_keeps_no_other_client_out():
    queue = BatchQueue(LIMITS)
    queue.add(1, [60] * 30, now=0.0, client="one")
    queue.add(2, [60] * 3, now=0.0, client="two")
    for client in ("one", "two"):
        with pytest.raises(QueueFullError):
            queue.add(3, [60] * 3, now=0.0, client=client)
    with pytest.raises(QueueFullError):
        queue.add(3, [60] * 30, now=0.0, client="three")


def test_nothing_is_kept_of_clients_that_have_gone():
    queue = BatchQueue(LIMITS)
    for number in range(1, 200):
        queue.add(number, [50], now=0.0, client=number)
        queue.next_batch()
    queue.add(200, [50], now=0.0, deadline=1.0, client="late")
    assert queue.expire(2.0) == [200]
    assert not queue._interactive.lines
    assert not queue._interactive.shares._held


def test_nobody_is_passed_forever():
    queue = BatchQueue(LIMITS)
    queue.add(1, [60], now=0.0, seconds_per_token=0.01)
    order = []
    for number in range(2, 20):
        queue.add(number, [10], now=number * 0.1, seconds_per_token=0.01)
        order += sorted(owners([queue.next_batch()])[0])
    assert order.index(1) <= 6  # arrivals after 0.6 - 0.1 come behind it


def test_lanes_are_not_mixed():
    queue = BatchQueue(LIMITS)
    for number, lane in enumerate("abab", 1):
        queue.add(number, [5], now=0.0, lane=lane)
    assert owners(drained(queue)) == [{1, 3}, {2, 4}]


def test_a_dropped_request_is_not_run_and_frees_its_room():
    queue = filled([30] * 30, [5])
    assert queue.drop(1)
    assert not queue.drop(1)
    assert queue.waiting_tokens == 5
    assert owners(drained(queue)) == [{2}]
    assert not queue.drop(2)


def test_a_request_dropped_between_its_batches_does_not_come_back():
    queue = filled([30] * 10, [31] * 10)
    first = queue.next_batch()
    assert queue.drop(first[0].request)
    left = drained(queue)
    assert {item.request for batch in left for item in batch} == {1, 2} - {first[0].request}


def test_expired_requests_are_dropped_and_named():
    queue = BatchQueue(LIMITS)
    queue.add(1, [5], now=0.0, deadline=1.0)
    queue.add(2, [30] * 9, now=0.0, deadline=2.0)
    queue.add(3, [5], now=0.0)
    assert queue.expire(0.5) == []
    assert queue.expire(1.0) == [1]
    assert queue.expire(5.0) == [2]
    assert owners(drained(queue)) == [{3}]


def test_a_full_queue_refuses_and_says_how_full_it_is():
    queue = filled([50] * 19)
    with pytest.raises(QueueFullError, match="950 tokens wait already, the queue holds 1000") as caught:
        queue.add(9, [30] * 3, now=0.0)
    assert caught.value.waiting_tokens == 950
    assert queue.waiting_tokens == 950
    queue.add(10, [5], now=0.0)  # bulk's limit is not interactive's
    queue.next_batch()
    assert queue.next_batch()


def test_a_request_larger_than_the_queue_is_taken_when_nothing_of_its_class_waits():
    queue = filled([60] * 100)
    assert queue.waiting_tokens == 6000
    assert sum(map(len, drained(queue))) == 100


@pytest.mark.parametrize(
    ("counts", "interactive"), [([500], True), ([8] * 8, True), ([8] * 9, False), ([33, 32], False)]
)
def test_what_is_interactive(counts: list[int], interactive: bool):
    assert BatchQueue(LIMITS).is_interactive(counts) is interactive


@pytest.mark.parametrize(
    ("counts", "short"), [([16], True), ([20], True), ([21], False), ([10, 10], True), ([7] * 3, False)]
)
def test_what_is_short_takes_a_millisecond_at_most(counts: list[int], short: bool):
    assert is_short(counts, 0.00005) is short


@pytest.mark.parametrize(
    ("requests", "lengths"),
    [
        ([[10]] * 4, [[10, 10], [10, 10]]),
        ([[10] * 5], [[10, 10], [10, 10, 10]]),
        ([[10], [9], [8]], [[8], [9, 10]]),
        ([[30, 28, 25]], [[30], [28, 25]]),
        ([[29, 10, 10, 10]], [[29], [10, 10, 10]]),
        ([[30] * 10], [[30, 30], [30, 30]]),  # never more than a batch may have
        ([[40, 10, 10]], [[40, 10, 10], []]),  # half of the threads for the long one would take longer
    ],
)
def test_batches_that_begin_side_by_side_divide_what_waits(requests: list[list[int]], lengths: list[list[int]]):
    queue = filled(*requests, limits=replace(LIMITS, overhead_tokens=None))
    first, second = queue.next_batch(2), queue.next_batch(1)
    assert [[item.num_tokens for item in batch] for batch in (first, second)] == lengths
