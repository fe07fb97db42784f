from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from embedrt.errors import NonFiniteError
from embedrt.parity.invariance import INVARIANCES, check_invariances, of_every_length, spread_positions
from tests.parity.fakes import vectors_of

TEXTS = [f"text number {i} {'word ' * (i % 9)}" for i in range(40)]
BASE = vectors_of(TEXTS)


def smallest(encode, **options) -> dict[str, float]:  # type: ignore[no-untyped-def]
    return {found.name: found.cosine_min for found in check_invariances(encode, TEXTS, BASE, **options)}


def test_a_steady_embedder_passes_all_four() -> None:
    found = check_invariances(vectors_of, TEXTS, BASE)
    assert [f.name for f in found] == ["alone", "in a batch", "in another order", "on the second call"]
    assert all(f.cosine_min == 1 and f.max_abs_diff == 0 and f.num_texts == 40 for f in found)


def test_padding_with_batch_mates_is_found() -> None:
    def padded(texts: Sequence[str]) -> np.ndarray:
        longest = max(map(len, texts))
        return np.stack([v + 1e-2 * (longest - len(t)) for t, v in zip(texts, vectors_of(texts), strict=True)])

    found = smallest(padded)
    assert found["alone"] == 1
    assert found["in a batch"] < 0.999999


def test_a_vector_that_differs_alone_is_found_by_text() -> None:
    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors = vectors_of(texts)
        if list(texts) == [TEXTS[23]]:
            vectors[0, 0] += 0.05
        return vectors

    alone, *others = check_invariances(encode, TEXTS, BASE)
    assert (alone.cosine_min_text, alone.max_abs_diff_text) == (23, 23)
    assert alone.cosine_min < 0.99999
    assert alone.max_abs_diff > 1e-3
    assert all(f.cosine_min == 1 for f in others)


def test_a_dependence_on_order_is_found() -> None:
    def encode(texts: Sequence[str]) -> np.ndarray:
        return vectors_of(texts) + 0.05 * (texts[0] == TEXTS[-1] and len(texts) > 1)

    found = smallest(encode)
    assert found["in another order"] < 0.999999
    assert found["alone"] == found["on the second call"] == 1


def test_a_state_between_calls_is_found() -> None:
    def encode(texts: Sequence[str]) -> np.ndarray:
        same = list(texts) == TEXTS
        return vectors_of(texts) + 0.05 * same

    found = smallest(encode)
    assert found["on the second call"] < 0.999999
    assert found["alone"] == found["in a batch"] == found["in another order"] == 1


def test_every_way_embeds_every_text_once() -> None:
    for plan in INVARIANCES.values():
        for count in (1, 7, 8, 40):
            assert sorted(np.concatenate(plan(count)).tolist()) == list(range(count))
    assert max(map(len, INVARIANCES["in a batch"](40))) > 1
    assert all(len(call) == 1 for call in INVARIANCES["alone"](40))
    assert INVARIANCES["in another order"](40)[0].tolist() != list(range(40))


def test_a_part_is_reported_by_its_position_among_all() -> None:
    def encode(texts: Sequence[str]) -> np.ndarray:
        return vectors_of(texts) + 0.1 * np.array([[text == TEXTS[31]] for text in texts])

    found = check_invariances(encode, TEXTS, BASE, positions=(3, 31, 39))
    assert {f.cosine_min_text for f in found} == {31}
    assert {f.num_texts for f in found} == {3}


def test_progress_counts_every_text() -> None:
    units: list[int] = []
    check_invariances(vectors_of, TEXTS, BASE, advance=units.append)
    assert sum(units) == len(INVARIANCES) * len(TEXTS)


def test_nan_is_refused() -> None:
    with pytest.raises(NonFiniteError):
        check_invariances(lambda texts: np.full((len(texts), BASE.shape[1]), np.nan), TEXTS, BASE)


def test_positions_are_spread_over_lengths() -> None:
    counts = [5, 100, 3, 50, 7, 900, 20]
    assert spread_positions(counts, 7) == (0, 1, 2, 3, 4, 5, 6)
    chosen = spread_positions(counts, 3)
    assert [counts[i] for i in chosen] == [3, 900, 20]


def test_calls_side_by_side_find_the_same() -> None:
    def encode(texts: Sequence[str]) -> np.ndarray:
        return vectors_of(texts) + 0.05 * (list(texts) == [TEXTS[23]])

    assert check_invariances(encode, TEXTS, BASE, lanes=3) == check_invariances(encode, TEXTS, BASE)


def test_calls_are_side_by_side() -> None:
    both = threading.Barrier(2, timeout=30)

    def encode(texts: Sequence[str]) -> np.ndarray:
        both.wait()  # until another call is here too
        return vectors_of(texts)

    even = check_invariances(encode, TEXTS[:38], BASE[:38], lanes=2)  # 38 alone, 6 in batches, 2 of all: 46 calls
    assert all(found.cosine_min == 1 for found in even)


def test_texts_of_every_length_are_asked_first_and_are_enough_while_no_bit_differs() -> None:
    units: list[int] = []
    found = check_invariances(vectors_of, TEXTS, BASE, first=(0, 5, 39), advance=units.append)
    assert {f.num_texts for f in found} == {3}
    assert sum(units) == len(INVARIANCES) * len(TEXTS)


def test_one_bit_of_one_text_asks_all() -> None:
    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors = vectors_of(texts)
        if len(texts) == 1:  # the last bit of a text of the first, and much of another
            vectors[0] = np.nextafter(vectors[0], np.inf) if texts[0] == TEXTS[5] else vectors[0]
            vectors[0, 0] += 0.1 * (texts[0] == TEXTS[30])
        return vectors

    found = check_invariances(encode, TEXTS, BASE, first=(0, 5, 39))
    assert {f.num_texts for f in found} == {40}
    assert found[0].cosine_min_text == 30


def test_of_every_length_takes_the_first_of_each_and_others_where_they_are_few() -> None:
    counts = [3, 3, 9, 3, 9, 4, 3, 3]
    assert of_every_length(counts, range(8), least=1) == (0, 2, 5)
    assert of_every_length(counts, (1, 3, 4, 6), least=2) == (1, 4)
    assert of_every_length([5] * 100, range(100), least=4) == (0, 1, 50, 99)
    assert of_every_length([5, 5], range(2), least=4) == (0, 1)
