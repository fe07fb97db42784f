"""Rates and quotas, with a clock that the test sets."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from embedrt.errors import OptionError
from embedrt.server.errors import ServeError
from embedrt.server.rates import Meters, Rate, parse_rates
from tests.server.test_lifecycle import process


def asks(meters: Meters, client: str, unit: str = "requests", amount: int = 1, now: float = 0.0) -> int:
    """0 where it may, else the seconds to wait."""
    try:
        meters.take(client, client, unit, amount, now)  # type: ignore[arg-type]
    except ServeError as exc:
        return int(exc.headers["Retry-After"]) if exc.kind == "rate_limited" else -1
    return 0


def test_what_rates_look_like():
    found = parse_rates(["alice=60 requests/minute", " alice = 1000 tokens/day ", "*=1 requests/second"])
    assert found == {
        "alice": (Rate(60, "requests", 60), Rate(1000, "tokens", 86400)),
        "*": (Rate(1, "requests", 1),),
    }
    assert str(found["alice"][0]) == "60 requests/minute"


@pytest.mark.parametrize(
    "spec",
    ["a", "a=60", "a=60 requests", "a=0 tokens/day", "=1 tokens/day", "a=1 bytes/day", "a=1 tokens/year"],
)
def test_what_they_do_not_look_like(spec: str):
    with pytest.raises(OptionError, match="rates must be NAME=N requests/TIME"):
        parse_rates([spec])


def test_a_rate_may_be_used_at_once_and_fills_evenly():
    meters = Meters(parse_rates(["a=60 requests/minute"]))
    assert [asks(meters, "a") for _ in range(60)] == [0] * 60
    assert asks(meters, "a") == 2  # one second, and what is begun of the next
    assert asks(meters, "a", now=0.5) == 1
    assert asks(meters, "a", now=1.0) == 0
    assert asks(meters, "a", now=1.0) == 2
    assert [asks(meters, "a", now=1000.0) for _ in range(61)] == [0] * 60 + [2]


def test_a_request_over_the_rate_goes_through_once_there_is_all_of_it():
    meters = Meters(parse_rates(["a=100 tokens/minute"]))
    assert asks(meters, "a", "tokens", 250) == 0
    assert asks(meters, "a", "tokens", 1) == 91
    assert asks(meters, "a", "tokens", 1, now=91.0) == 0


def test_a_refused_request_costs_nothing_and_every_rate_counts():
    meters = Meters(parse_rates(["a=10 requests/second", "a=20 requests/minute"]))
    assert sum(asks(meters, "a", now=0.0) == 0 for _ in range(30)) == 10
    assert sum(asks(meters, "a", now=1.0) == 0 for _ in range(30)) == 10
    assert sum(asks(meters, "a", now=2.0) == 0 for _ in range(30)) == 0
    assert asks(meters, "a", "tokens", 10**9) == 0


def test_clients_have_accounts_of_their_own():
    meters = Meters(parse_rates(["*=2 requests/minute", "vip=3 requests/minute"]))
    for client, allowed in (("a", 2), ("b", 2), ("vip", 3)):
        assert sum(asks(meters, client) == 0 for _ in range(5)) == allowed


def test_workers_divide_a_rate():
    meters = Meters(parse_rates(["a=9 requests/minute"]), parts=2)
    assert sum(asks(meters, "a") == 0 for _ in range(9)) == 4


def test_clients_that_have_all_of_their_rate_again_are_forgotten():
    meters = Meters(parse_rates(["*=1 requests/second"]))
    for k in range(10_000):
        asks(meters, f"client {k}", now=float(k))
    assert len(meters._buckets) < 5000


def test_a_client_cannot_say_that_it_is_somebody_else(tmp_path: Path, lookup_bundle: Path):
    with process(tmp_path, lookup_bundle, "--variant", "fp32", "--rates", "*=3 requests/day") as server:
        statuses = [
            httpx.post(
                f"{server.url}/embed", json={"inputs": "water"}, headers={"X-Forwarded-For": f"10.0.0.{k}"}
            ).status_code
            for k in range(4)
        ]
    assert statuses == [200, 200, 200, 429]
