"""How much a client may ask for in a time: requests and tokens, per second to per day. Pure: clock values in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from embedrt.errors import OptionError
from embedrt.server.errors import ServeError

Unit = Literal["requests", "tokens"]
EVERYBODY = "*"
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_SPEC = re.compile(r"(?P<name>[^=\s]+)\s*=\s*(?P<amount>\d+)\s*(?P<unit>requests|tokens)\s*/\s*(?P<time>[a-z]+)")
_REMEMBERED = 4096  # clients; of more, those are forgotten who have all of their rate again


@dataclass(frozen=True)
class Rate:
    """So many requests or tokens in so many seconds, used at once or spread."""

    amount: int
    unit: Unit
    seconds: int

    def __str__(self) -> str:
        per = next(name for name, seconds in _SECONDS.items() if seconds == self.seconds)
        return f"{self.amount} {self.unit}/{per}"


@dataclass
class _Bucket:
    """What is left of a rate; it fills evenly. One request may leave less than nothing."""

    left: float
    seen: float  # clock value

    def fill(self, rate: Rate, now: float) -> None:
        self.left = min(rate.amount, self.left + (now - self.seen) * rate.amount / rate.seconds)
        self.seen = now

    def wait(self, rate: Rate, wanted: int) -> float:
        """Seconds until there is as much as is wanted, or all there can be."""
        return max(0.0, (min(wanted, rate.amount) - self.left) * rate.seconds / rate.amount)


def parse_rates(specs: Iterable[str]) -> dict[str, tuple[Rate, ...]]:
    """Rates by client out of "NAME=100 requests/minute" each; NAME may be *, for each client that has none.

    Raises:
        OptionError: one is not of that form.
    """
    found: dict[str, tuple[Rate, ...]] = {}
    for spec in specs:
        parts = _SPEC.fullmatch(spec.strip())
        if parts is None or parts["time"] not in _SECONDS or int(parts["amount"]) < 1:
            times = ", ".join(_SECONDS)
            raise OptionError(
                f"rates must be NAME=N requests/TIME or NAME=N tokens/TIME, TIME one of {times}; not {spec!r}"
            )
        unit: Unit = "requests" if parts["unit"] == "requests" else "tokens"
        rate = Rate(int(parts["amount"]), unit, _SECONDS[parts["time"]])
        found[parts["name"]] = (*found.get(parts["name"], ()), rate)
    return found


class Meters:
    """What each client has left of its rates.

    Args:
        rates: by the names of clients.
        parts: processes that serve the same clients; each allows its part.
    """

    def __init__(self, rates: Mapping[str, tuple[Rate, ...]], parts: int = 1) -> None:
        self._rates = {
            name: tuple(Rate(max(1, rate.amount // parts), rate.unit, rate.seconds) for rate in several)
            for name, several in rates.items()
        }
        self._buckets: dict[tuple[str, Rate], _Bucket] = {}

    def take(self, client: str, name: str, unit: Unit, amount: int, now: float) -> None:
        """Count what a client asks for.

        Args:
            client: who, for the account.
            name: of its key, by which the rates are known; "" without one.
            unit, amount: what.
            now: clock value in seconds.

        Raises:
            ServeError: 429, with the seconds after which it may ask again; nothing is counted then.
        """
        if not self._rates:
            return
        rates = [rate for rate in self._rates.get(name, self._rates.get(EVERYBODY, ())) if rate.unit == unit]
        buckets = [self._bucket(client, rate, now) for rate in rates]
        waits = [bucket.wait(rate, amount) for bucket, rate in zip(buckets, rates, strict=True)]
        if max(waits, default=0.0) > 0:
            wait, rate = max(zip(waits, rates, strict=True), key=lambda pair: pair[0])
            seconds = int(wait) + 1
            raise ServeError(
                "rate_limited",
                f"{amount} {unit} are more than is left of {rate} that this client may have; try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )
        for bucket in buckets:
            bucket.left -= amount

    def _bucket(self, client: str, rate: Rate, now: float) -> _Bucket:
        if len(self._buckets) > _REMEMBERED:
            self._forget(now)
        bucket = self._buckets.setdefault((client, rate), _Bucket(rate.amount, now))
        bucket.fill(rate, now)
        return bucket

    def _forget(self, now: float) -> None:
        for (client, rate), bucket in list(self._buckets.items()):
            bucket.fill(rate, now)
            if bucket.left >= rate.amount:
                del self._buckets[client, rate]
