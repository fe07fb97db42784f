"""One pass over the calibration texts serves all variants, and gives each what a pass of its own would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt.progress import NullProgress
from embedrt_export import variants
from embedrt_export.fp16 import to_fp16
from embedrt_export.int8 import calibration as observing
from embedrt_export.int8 import to_int8, wanted
from embedrt_export.int8.calibration import (
    GRAM_TOKENS,
    MAX_HELD_OUT,
    MEANS_WEIGHT,
    InputStats,
    Session,
    Wanted,
    held_out,
    observe,
    pooled,
)
from embedrt_export.int8.repetitions import repetitions
from embedrt_export.variants import Job, make_variants, observe_for
from tests.export.encoders import CONFIGS, FFN, LAYERS, QUICK, WIDTH


def _watched(monkeypatch: pytest.MonkeyPatch) -> list[list[list[Any]]]:
    """The groups of texts of each pass from now on."""
    passes: list[list[list[Any]]] = []
    original = Session.run_all

    def looking(self: Session, groups: Any) -> Iterator[Any]:
        passes.append(list(groups))
        return original(self, passes[-1])

    monkeypatch.setattr(Session, "run_all", looking)
    return passes


@pytest.mark.parametrize("room", [1 << 28, 1 << 18])
@pytest.mark.parametrize("kind", CONFIGS)
def test_variants_are_the_same_from_one_pass_for_all(
    graphs: Any, calibration: Any, kind: str, room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "_BATCH_BYTES", room)  # of some dozens of tokens, as a large model has it
    job = Job(tmp_path, graphs[kind][1], calibration, None, QUICK)
    for_all = observe_for(job, ["fp32", "fp16", "int8"])
    int8, report = to_int8(job.graph, calibration, recipe=QUICK, observed=for_all)
    alone, report_alone = to_int8(job.graph, calibration, recipe=QUICK)
    assert int8.SerializeToString() == alone.SerializeToString()
    assert report == report_alone
    shared, separate = (to_fp16(job.graph, calibration, seen) for seen in (for_all, None))
    assert [one.SerializeToString() for one in shared[:2]] == [one.SerializeToString() for one in separate[:2]]
    assert shared[2] == separate[2]


def test_texts_run_once_whatever_is_made(
    graphs: Any, calibration: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = _watched(monkeypatch)
    job = Job(tmp_path, graphs["bert"][1], calibration, None, QUICK)
    made = make_variants(job, ["fp32", "fp16", "int8"], NullProgress())
    assert list(made) == ["fp32", "fp16", "int8"]
    fitted, others = held_out(calibration)
    seen = len(fitted) + len(repetitions(fitted))
    counts = [sum(map(len, groups)) for groups in passes]
    assert counts == [seen, len(others), len(calibration)]  # the fp32 graph in two parts; int8, to be measured


def test_a_run_has_no_more_values_than_there_is_room_for(
    graphs: Any, calibration: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = _watched(monkeypatch)
    monkeypatch.setattr(observing, "_BATCH_BYTES", 1 << 17)
    asked = wanted(graphs["bert"][1], QUICK, None)
    observe(graphs["bert"][1].model, asked, calibration)
    of_a_token = 4 * LAYERS * (3 * WIDTH + FFN)
    assert len(asked.values) == 4 * LAYERS
    runs = [group for groups in passes for group in groups]
    assert max(map(len, runs)) > 1
    assert all(len(texts) == 1 or sum(map(len, texts)) * of_a_token <= 1 << 17 for texts in runs)


def test_grams_are_gone_when_fp16_is_made(
    graphs: Any, calibration: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grams: list[bool] = []
    original = variants.to_fp16

    def looking(graph: Any, texts: Any, observed: Any) -> Any:
        grams.append(any(stats.gram is not None for stats in observed.fitted.values()))
        return original(graph, texts, observed)

    monkeypatch.setattr(variants, "to_fp16", looking)
    make_variants(Job(tmp_path, graphs["bert"][1], calibration, None, QUICK), ["fp16", "int8"], NullProgress())
    assert grams == [False]


def test_what_is_observed(graphs: Any, calibration: Any) -> None:
    graph = graphs["bert"][1]
    fitted, others = held_out(calibration)
    assert len(others) == 12
    assert sorted(map(len, [*fitted, *others])) == sorted(map(len, calibration))
    asked = wanted(graph, QUICK, 0)
    value = next(iter(asked.values))
    found = observe(graph.model, asked | Wanted({}, {value}), calibration)
    assert found.fitted[value].count == sum(map(len, [*fitted, *repetitions(fitted)]))
    assert found.held_out[value].count == sum(map(len, others))
    assert all(stats.gram is None for stats in found.held_out.values())
    both = (found.fitted[value], found.held_out[value])
    assert found.peaks[value] == max(max(-stats.low.min(), stats.high.max()) for stats in both)
    np.testing.assert_array_equal(found.vectors, pooled(Session(graph.model), [*fitted, *others], token=0))


def test_of_many_texts_fewer_are_held_out() -> None:
    fitted, others = held_out([[1, 2, 3]] * 2_000)
    assert len(others) == MAX_HELD_OUT - 1  # every 34th
    assert len(fitted) + len(others) == 2_000


def test_texts_count_alike_in_a_covariance_and_their_means_more_than_their_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((*shape, 6)) + rng.standard_normal(6) * 5 for shape in ((3, 4), (2, 9))]
    monkeypatch.setattr(observing, "GRAM_TOKENS", 9)
    monkeypatch.setattr(observing, "_GRAM_BLOCK", 4)  # so that a whole block and a part of one are added
    stats = InputStats.empty(6, with_gram=True)
    for batch in batches:
        stats.add(batch.reshape(-1, 6).astype(np.float32), len(batch))
    stats.finish()
    texts = [text for batch in batches for text in batch]
    means = np.array([text.mean(axis=0) for text in texts])
    within = np.mean([np.cov(text.T, bias=True) for text in texts], axis=0)
    want = within + (1 + MEANS_WEIGHT) * np.cov(means.T, bias=True)
    scale = np.arange(1, 7, dtype=np.float32)
    np.testing.assert_allclose(stats.covariance(scale), want / np.outer(scale, scale), rtol=1e-4, atol=1e-5)


def test_a_long_text_gives_its_covariance_as_many_rows_as_a_short_one() -> None:
    stats = InputStats.empty(4, with_gram=True)
    stats.add(np.random.default_rng(0).standard_normal((1000, 4)).astype(np.float32), 1)
    assert len(stats.pending[0]) <= GRAM_TOKENS
    stats.finish()
    assert np.linalg.eigvalsh(stats.covariance(np.ones(4, np.float32))).min() > 0


def test_texts_of_one_row_add_their_means_alone() -> None:
    rows = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    stats = InputStats.empty(4, with_gram=True)
    stats.add(rows, 40)
    assert [len(pending) for pending in stats.pending] == [40]
    stats.finish()
    want = (1 + MEANS_WEIGHT) * np.cov(rows.T.astype(np.float64), bias=True)
    np.testing.assert_allclose(stats.covariance(np.ones(4, np.float32)), want, rtol=1e-4, atol=1e-5)
