"""One identity behind a name."""

from __future__ import annotations

import pytest

from embedrt.routing.agreement import Agreement

OLD, NEW = {"m": "old"}, {"m": "new"}


def test_servers_that_tell_the_same_agree() -> None:
    agreement = Agreement()
    assert agreement.against(OLD) is not None  # nothing is served before
    assert agreement.settle([OLD, OLD]) is None
    assert agreement.against(OLD) is None


def test_what_is_settled_stays_when_all_others_have_gone() -> None:
    agreement = Agreement()
    agreement.settle([OLD])
    assert agreement.settle([NEW, NEW]) is None
    assert agreement.settled == OLD
    assert "must not be mixed" in str(agreement.against(NEW))


def test_servers_that_differ_from_the_start_serve_nothing() -> None:
    agreement = Agreement()
    assert "--identity" in str(agreement.settle([OLD, NEW]))
    assert agreement.settled is None
    assert agreement.settle([]) is None
    assert agreement.settled is None
    agreement.settle([NEW])  # once one sort is left
    assert agreement.settled == NEW


def test_a_pin_decides() -> None:
    agreement = Agreement({"m": "new"})
    assert agreement.settle([OLD, NEW]) is None
    assert agreement.settled == NEW
    assert agreement.against(OLD) == (
        "m must be new (--identity), and is old; another model needs another name, or a place of its own"
    )
    assert agreement.against({"n": "new"}) == "m must be new (--identity), and no such name is served; there are: n"
    only_old = Agreement({"m": "new"})
    only_old.settle([OLD])
    assert only_old.settled is None


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"a": "1", "b": "2"}, None),
        ({"a": "1"}, "b is not served"),
        ({"a": "1", "b": "3"}, "b is 3, elsewhere 2: their vectors must not be mixed"),
        ({"a": "1", "b": "2", "c": "3"}, "c is served, and elsewhere it is not"),
        ({"b": "2", "a": "1"}, "the default is b, elsewhere a"),
    ],
)
def test_names_identities_and_the_default_are_the_same(told: dict[str, str], reason: str | None) -> None:
    agreement = Agreement()
    agreement.settle([{"a": "1", "b": "2"}])
    assert agreement.against(told) == reason
