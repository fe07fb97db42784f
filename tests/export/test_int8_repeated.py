"""Texts of one word over and over, and the FFNs that stay float32 for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from embedrt_export import int8
from embedrt_export.emit import emit
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import to_int8
from embedrt_export.int8.repeated import Repeats, first_ffns
from embedrt_export.int8.repetitions import repeated_texts, repetitions
from tests.encoders import VOCAB, make_spec, make_tensors
from tests.export.test_int8_emitted import QUICK

WIDER = replace(QUICK, max_wide=1, reserve=0.0)
RNG = np.random.default_rng(3)
CALIBRATION = [[1, *RNG.integers(4, VOCAB, length).tolist(), 2] for length in RNG.integers(2, 24, 60)]


def graph(blocks: int = 3) -> EncoderGraph:
    spec = make_spec(blocks=blocks)
    return EncoderGraph(emit(spec, make_tensors(spec)), None, {}, (), spec)


def test_words_fill_the_longest_text_between_its_first_and_last_tokens() -> None:
    texts = repeated_texts([[1, 7, 8, 9, 2], [1, 5, 2]])
    assert texts == repeated_texts([[1, 7, 8, 9, 2], [1, 5, 2]])
    assert sorted(texts) == [[1, word, word, word, 2] for word in (5, 7, 8, 9)]
    assert len(repeated_texts([list(range(1000))])[0]) == 256
    assert repeated_texts([[1, 2], [1]]) == []


def test_repetitions_stand_between_what_all_texts_begin_and_end_with() -> None:
    texts = [[1, 30, *range(5, 5 + length), 2] for length in range(3, 120)] * 4
    made = repetitions(texts)
    assert made == repetitions(texts)
    assert len(made) == len(texts) // 16
    for text in made:
        assert (text[:2], text[-1]) == ([1, 30], 2)
        assert len(text) <= max(map(len, texts))
        assert len(set(text[2:-1])) < len(text[2:-1])
    assert len({len(set(text)) for text in made}) > 2
    assert max(map(len, repetitions([[1, *range(5, 9), word, 2] for word in range(9, 60)]))) == 7
    assert repetitions([[1, 2]] * 50) == []
    assert repetitions([]) == []


def test_layers_that_share_their_weights_count_once() -> None:
    spec = make_spec(blocks=3)
    assert list(first_ffns(spec, 2)) == [
        ("layers.0.ffn_up", "layers.0.ffn_down"),
        ("layers.0.ffn_up", "layers.0.ffn_down", "layers.1.ffn_up", "layers.1.ffn_down"),
    ]
    shared = replace(spec, blocks=tuple(replace(block, weights=0) for block in spec.blocks))
    assert list(first_ffns(shared, 3)) == [("layers.0.ffn_up", "layers.0.ffn_down")]


def test_what_they_are_off_by_is_measured() -> None:
    made = graph()
    assert made.spec is not None
    repeats = Repeats(made.spec, made.model, CALIBRATION, None)
    assert repeats.cosine(made.model) == pytest.approx(1, abs=1e-6)
    assert repeats.cosine(graph(blocks=2).model) < 0.9


@pytest.mark.parametrize(("found", "kept"), [([0.999], 0), ([0.4, 0.999], 1), ([0.4, 0.9, 0.9, 0.9, 0.9], 3)])
def test_the_first_ffns_stay_float32_until_the_gate_is_kept(
    monkeypatch: pytest.MonkeyPatch, found: list[float], kept: int
) -> None:
    answers = iter(found)
    monkeypatch.setattr(Repeats, "cosine", lambda *_: next(answers))
    monkeypatch.setattr(int8, "find_failures", lambda *_: ())  # of the other texts
    model, report = to_int8(graph(), CALIBRATION, recipe=WIDER)
    assert report["kept_float32"] == [
        f"layers.{i}.{product}" for i in range(kept) for product in ("ffn_up", "ffn_down")
    ]
    assert [row["repeated_min"] for row in report["measured"]] == found[: kept + 1]
    there: dict[str, Any] = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert [f"layers.{i}.ffn_up.scale" in there for i in range(3)] == [i >= kept for i in range(3)]


def test_none_is_widened_where_nothing_may_be() -> None:
    assert "repeated_min" not in to_int8(graph(), CALIBRATION, recipe=QUICK)[1]["measured"][0]
