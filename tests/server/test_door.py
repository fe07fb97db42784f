"""Shares of clients, and which connections are let in: with numbers."""

from __future__ import annotations

import random

import pytest

from embedrt.server.door import Door, Entry, client_of
from embedrt.server.shares import Shares


def filled(shares: Shares, client: str) -> int:
    """Take one by one as long as it is allowed; how many."""
    count = 0
    while shares.allows(client, 1):
        shares.take(client, 1)
        count += 1
    return count


def test_one_client_may_have_three_quarters_and_there_is_room_for_others():
    shares = Shares(1000)
    assert filled(shares, "one") == 750
    assert filled(shares, "two") == 187
    assert filled(shares, "three") == 47
    assert shares.total < 1000
    assert shares.largest() == "one"
    shares.give("one", 750)
    assert filled(shares, "two") > 300
    shares.give("two", shares.held("two"))
    shares.give("three", 47)
    assert (shares.total, shares.largest()) == (0, None)


def test_two_who_take_in_turns_have_the_same():
    shares = Shares(700)
    while shares.allows("one", 1) and shares.allows("two", 1):
        shares.take("one", 1)
        shares.take("two", 1)
    assert shares.held("one") == shares.held("two") == 300


def test_whatever_clients_do_a_new_one_gets_something():
    rng = random.Random(3)
    for _ in range(50):
        shares = Shares(1000)
        for _ in range(500):
            client, size = f"client {rng.randrange(8)}", rng.randrange(1, 200)
            if shares.allows(client, size):
                shares.take(client, size)
            elif rng.random() < 0.2 and shares.held(client):
                shares.give(client, shares.held(client))
        assert shares.total <= 1000
        assert shares.total == 1000 or shares.allows("new", max(1, (1000 - shares.total) // 2))


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.168.0.7", "192.168.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1%eth0", "2001:db8:1:2::"),
        ("::ffff:192.168.0.7", "192.168.0.7"),
        ("::1", "::"),
        ("no address", "no address"),
    ],
)
def test_who_an_address_is(address: str, client: str):
    assert client_of(address) == client


def test_the_connection_that_waited_longest_makes_room():
    door = Door(8)  # six of one client
    assert [door.enter(k, "one") for k in range(6)] == [Entry(True)] * 6
    door.works(0)
    door.works(2)
    door.waits(2)  # has had its answer
    assert door.enter(6, "one") == Entry(True, closes=1)
    assert door.enter(7, "one") == Entry(True, closes=3)
    assert door.enter(8, "two") == Entry(True)
    for number in (2, 4, 5, 6, 7):
        door.works(number)
    assert door.enter(9, "one") == Entry(False)
    assert door.shares.held("one") == 6
    door.leave(0)
    door.leave(0)
    door.leave(8)
    assert door.enter(10, "one") == Entry(True)


def test_a_full_house_closes_what_idles_of_the_largest_client():
    door = Door(5)
    entries = [door.enter(k, client) for k, client in enumerate(("one", "one", "one", "two"))]
    assert all(entry == Entry(True) for entry in entries)
    assert door.enter(4, "three") == Entry(True, closes=0)
    assert door.shares.total == 4
    for number in (1, 2):
        door.works(number)
    assert door.enter(5, "four") == Entry(False)
    door.waits(2)
    assert door.enter(6, "four") == Entry(True, closes=2)


def test_nobody_is_remembered():
    door = Door(100)
    for k in range(1000):
        door.enter(k, f"client {k}")
        door.leave(k)
    assert not door._clients
    assert not door._owners
    assert not door.shares._held
