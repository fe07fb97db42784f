"""A text's vector must not depend on its company: alone = in a batch = in another order = on the second call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedrt.parity.metrics import check_vectors, cosine_distances, normalized
from embedrt.threads import side_by_side

_BATCH_TEXTS = 7  # small and odd, so that mates differ from those in one call over all texts
_SEED = 20240229
_LEAST_FIRST = 32  # pictures are all of one length

EncodeTexts = Callable[[Sequence[str]], NDArray[Any]]  # n texts -> (n, D)


@dataclass(frozen=True)
class Invariance:
    """One way of asking for the same vectors again, against a call over many texts, on normalized copies."""

    name: str  # out of INVARIANCES
    num_texts: int
    cosine_min: float
    cosine_min_text: int  # position, among all texts, of the one with the smallest cosine
    max_abs_diff: float
    max_abs_diff_text: int  # likewise, with the largest difference


class Advance(Protocol):
    """Told how many texts were embedded."""

    def __call__(self, units: int, /) -> object:
        """Add `units` texts."""


def check_invariances(
    encode: EncodeTexts,
    texts: Sequence[str],
    vectors: NDArray[Any],
    *,
    positions: Sequence[int] | None = None,
    first: Sequence[int] = (),
    advance: Advance = lambda _: None,
    lanes: int = 1,
) -> tuple[Invariance, ...]:
    """Embed `texts` again in each of the four ways and compare with `vectors`.

    Args:
        encode: gives vectors (n, D) of n texts.
        texts: N texts.
        vectors: (N, D) what a call over all texts, or some of them, gave.
        positions: which texts to check; default all.
        first: those to begin with, `of_every_length`. Where they keep every bit in all ways, the others are not asked.
        advance: called with the number of texts embedded, or not asked, `len(INVARIANCES)` times each in all.
        lanes: calls of `encode` that go on at once, from as many threads.

    Returns:
        One outcome for each entry of INVARIANCES, in that order.
    """
    chosen = np.arange(len(texts)) if positions is None else np.asarray(positions, dtype=np.int64)
    some = np.asarray(first, dtype=np.int64)
    if 0 < len(some) < len(chosen):
        found, same_bits = _ask(encode, texts, vectors, some, advance=lambda _: None, lanes=lanes)
        if same_bits:
            advance(len(INVARIANCES) * len(chosen))
            return found
    return _ask(encode, texts, vectors, chosen, advance=advance, lanes=lanes)[0]


def _ask(
    encode: EncodeTexts,
    texts: Sequence[str],
    vectors: NDArray[Any],
    chosen: NDArray[np.int64],
    *,
    advance: Advance,
    lanes: int,
) -> tuple[tuple[Invariance, ...], bool]:
    """One outcome for each way, of the texts chosen, and whether no bit of theirs differs in any."""
    before = vectors[chosen]
    after = {name: np.empty_like(before) for name in INVARIANCES}
    calls = [(name, places) for name, plan in INVARIANCES.items() for places in plan(len(chosen))]
    done = side_by_side(lambda call: encode([texts[chosen[k]] for k in call[1]]), calls, lanes, "embedrt-verify")
    for (name, places), rows in zip(calls, done, strict=True):
        after[name][places] = rows
        advance(len(places))
    found = tuple(_compare(name, chosen, before, rows) for name, rows in after.items())
    return found, all(np.array_equal(before, rows) for rows in after.values())


def of_every_length(num_tokens: Sequence[int], positions: Sequence[int], least: int = _LEAST_FIRST) -> tuple[int, ...]:
    """Of `positions`, the first with each number of tokens, and others spread evenly until there are `least`.

    Enough where a kernel's order of sums is decided by shapes alone, as ONNX Runtime's are: how many texts there are
    and how long the longest is. A text's own numbers are the same in any company, so if it keeps every bit, another of
    its length has the same sums in the same order. Where one bit differs, it depends on the text how far that goes
    (an 8-bit rounding may fall the other way), and each must be asked.
    """
    lengths: dict[int, int] = {}
    for place in positions:
        lengths.setdefault(num_tokens[place], place)
    chosen = set(lengths.values())
    others = [place for place in positions if place not in chosen]
    more = np.linspace(0, len(others) - 1, min(max(least - len(chosen), 0), len(others))).astype(np.int64)
    return tuple(sorted(chosen.union(others[k] for k in more)))


def spread_positions(num_tokens: Sequence[int], count: int) -> tuple[int, ...]:
    """At most `count` positions spread evenly over the lengths, the shortest and the longest text among them."""
    order = np.argsort(np.asarray(num_tokens), kind="stable")
    if len(order) <= count:
        return tuple(range(len(order)))
    places = np.unique(np.linspace(0, len(order) - 1, count).astype(np.int64))
    return tuple(sorted(int(i) for i in order[places]))


def _alone(count: int) -> list[NDArray[np.int64]]:
    return [np.array([i]) for i in range(count)]


def _in_batches(count: int) -> list[NDArray[np.int64]]:
    """Small batches of random mates, so that lengths mix and texts are padded."""
    order = np.random.default_rng(_SEED).permutation(count)
    return [order[i : i + _BATCH_TEXTS] for i in range(0, count, _BATCH_TEXTS)]


def _other_order(count: int) -> list[NDArray[np.int64]]:
    return [np.arange(count)[::-1]]


def _second_call(count: int) -> list[NDArray[np.int64]]:
    return [np.arange(count)]


# name -> number of texts -> the calls, each the places of its texts
INVARIANCES: dict[str, Callable[[int], list[NDArray[np.int64]]]] = {
    "alone": _alone,
    "in a batch": _in_batches,
    "in another order": _other_order,
    "on the second call": _second_call,
}


def _compare(name: str, chosen: NDArray[np.int64], before: NDArray[Any], after: NDArray[Any]) -> Invariance:
    check_vectors(before, after)
    a, b = normalized(before), normalized(after)
    distances = cosine_distances(a, b)
    differences = np.abs(a - b).max(axis=1)
    return Invariance(
        name=name,
        num_texts=len(chosen),
        cosine_min=float(1 - distances.max()),
        cosine_min_text=int(chosen[distances.argmax()]),
        max_abs_diff=float(differences.max()),
        max_abs_diff_text=int(chosen[differences.argmax()]),
    )
