"""Texts over the limit: windows in one vector, and pieces with a vector each."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder, InputError, NonFiniteError, OptionError, TruncationWarning
from embedrt.overflow import spread

ENGLISH = "The quick brown fox jumps over the lazy dog. How much protein should a female eat every day? " * 6
KOREAN = "서울은 대한민국의 수도이다. 오늘 날씨가 좋다. " * 8
JAPANESE = "日本の首都は東京です。今日は天気がいい。" * 8
UNBROKEN = "南瓜的家常做法有很多种" * 10
SHORT = "a fox"
TEXTS = [ENGLISH, SHORT, KOREAN, JAPANESE, UNBROKEN, "", ENGLISH]


@pytest.fixture(params=["fp32", "int8"])
def model(tiny_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Embedder]:
    with Embedder(tiny_bundle, variant=request.param, num_threads=1) as made:
        yield made


@pytest.mark.parametrize(
    ("num_tokens", "room", "expected"),
    [
        (10, 10, [(0, 10)]),
        (11, 10, [(0, 6), (5, 11)]),
        (19, 10, [(0, 10), (9, 19)]),
        (20, 10, [(0, 8), (6, 14), (12, 20)]),
        (3, 1, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_windows_are_few_of_one_length_and_overlap(num_tokens: int, room: int, expected: list[tuple[int, int]]) -> None:
    assert spread(num_tokens, room) == expected


@pytest.mark.parametrize("num_tokens", [49, 100, 333, 1000])
def test_windows_cover_the_text(num_tokens: int) -> None:
    windows = spread(num_tokens, 48)
    assert windows[0][0] == 0
    assert windows[-1][1] == num_tokens
    for (_, end), (start, _) in pairwise(windows):
        assert end - start >= 48 // 8
    assert {b - a for a, b in windows} == {windows[0][1]}
    assert windows[0][1] <= 48


def test_windows_are_the_mean_of_their_vectors(model: Embedder) -> None:
    """Two windows, put together by hand: prompt and special tokens before and behind each."""
    prompt = "query: "
    (ids,) = model.tokenize(prompt + ENGLISH)
    head = model.count_tokens(prompt) - 1
    body, tail = ids[head:-1], ids[-1:]
    options = model.resolve(prompt=prompt)
    spans = spread(len(body), model.max_tokens - head - 1)
    rows = [model.embed_tokens([np.array([*ids[:head], *body[a:b], *tail], np.int32)], options)[0] for a, b in spans]
    mean = np.sum([row * (b - a) for row, (a, b) in zip(rows, spans, strict=True)], axis=0)
    found = model.encode(ENGLISH, prompt=prompt, on_overflow="windows")
    assert len(spans) > 2
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)


def test_windows_do_not_depend_on_the_batch_and_warn_of_nothing(model: Embedder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = model.encode(TEXTS, on_overflow="windows")
        alone = [model.encode(text, on_overflow="windows", batch_size=1) for text in TEXTS]
    np.testing.assert_array_equal(together, np.stack(alone))
    np.testing.assert_array_equal(together[1], model.encode(SHORT))
    blocks = list(model.encode_stream(iter(TEXTS), block_size=2, on_overflow="windows"))
    np.testing.assert_array_equal(np.concatenate([block.embeddings for block in blocks]), together)
    assert not any(block.truncated for block in blocks)
    assert model.encode_detailed(TEXTS, on_overflow="windows").truncated == ()


def test_windows_read_what_cutting_loses(embedder: Embedder) -> None:
    other = ENGLISH + JAPANESE
    with pytest.warns(TruncationWarning, match="on_overflow=.windows"):
        cut = embedder.encode([ENGLISH, other])
    np.testing.assert_array_equal(cut[0], cut[1])
    read = embedder.encode([ENGLISH, other], on_overflow="windows")
    assert read[0] @ read[1] < 0.999


def test_windows_are_part_of_the_identity(embedder: Embedder) -> None:
    assert embedder.identify(on_overflow="windows") != embedder.identity
    assert embedder.identify(on_overflow="error") == embedder.identity


def test_windows_go_with_sentence_embeddings_only(embedder: Embedder) -> None:
    with pytest.raises(OptionError, match="makes one vector"):
        embedder.encode("a", on_overflow="windows", output_value="token_embeddings")


def test_a_prompt_that_fills_a_window_is_an_error(embedder: Embedder) -> None:
    with pytest.raises(OptionError, match="fill the 48 tokens"):
        embedder.encode(ENGLISH, on_overflow="windows", prompt="fox " * 60)


def test_truncated_windows_are_normalized_again(embedder: Embedder) -> None:
    found = embedder.encode(TEXTS, on_overflow="windows", truncate_dim=16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_a_piece_has_the_vector_of_its_text_alone(model: Embedder) -> None:
    pieces = model.encode_windows(TEXTS, tokens=20, overlap=8, kind="document")
    assert {piece.index for piece in pieces} == set(range(len(TEXTS)))
    for piece in pieces:
        text = TEXTS[piece.index][piece.start : piece.end]
        assert model.count_tokens("passage: " + text) <= 20
        np.testing.assert_array_equal(piece.vector, model.encode_document(text))


@pytest.mark.parametrize("context", ["none", "late"])
def test_pieces_do_not_depend_on_the_batch(model: Embedder, context) -> None:
    together = model.encode_windows(TEXTS, tokens=20, overlap=8, context=context)
    alone = [
        piece
        for text in TEXTS
        for piece in model.encode_windows(text, tokens=20, overlap=8, context=context, batch_size=1)
    ]
    assert [(p.start, p.end) for p in together] == [(p.start, p.end) for p in alone]
    np.testing.assert_array_equal([p.vector for p in together], [p.vector for p in alone])


@pytest.mark.parametrize("text", [ENGLISH, KOREAN, JAPANESE, UNBROKEN])
def test_pieces_cover_the_text_and_end_with_sentences(embedder: Embedder, text: str) -> None:
    spans = embedder.split(text, tokens=30, overlap=0)
    assert len(spans) > 1
    seen = "".join(text[a:b] for a, b in spans)
    assert seen.replace(" ", "") == text.replace(" ", "")
    if text is not UNBROKEN:
        assert all(text[a:b].endswith((".", "?", "。")) for a, b in spans)
    assert embedder.encode_windows(text, tokens=30, overlap=0)[1].start == spans[1][0]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_any_text_fit_cover_and_advance(embedder: Embedder, seed: int) -> None:
    draw = random.Random(seed)
    letters = "abc .,!?。！\n가나다ไทยกขค漢字0123é\u0301ﬁ😀\u200bßİ\x00"
    text = "".join(draw.choices(letters, weights=[draw.random() ** 3 for _ in letters], k=draw.choice([30, 600])))
    tokens = draw.randint(10, 40)
    spans = embedder.split(text, tokens=tokens, overlap=draw.choice([0, 3, 200]))
    assert all(count <= tokens for count in embedder.count_tokens([text[a:b] for a, b in spans]))
    covered = {place for a, b in spans for place in range(a, b)}
    assert not "".join(char for k, char in enumerate(text) if k not in covered).strip()
    for (a, b), (c, d) in pairwise(spans):
        assert a < c
        assert b < d


@pytest.mark.parametrize("context", ["none", "late"])
def test_a_text_that_fits_has_the_vector_of_encode(model: Embedder, context) -> None:
    (piece,) = model.encode_windows(SHORT, context=context, kind="query")
    assert (piece.index, piece.start, piece.end) == (0, 0, len(SHORT))
    np.testing.assert_array_equal(piece.vector, model.encode_query(SHORT))


def test_late_pools_the_pieces_own_tokens_out_of_the_whole_text(embedder: Embedder) -> None:
    text = "The quick brown fox. How much protein should a female eat."
    pieces = embedder.encode_windows(text, tokens=12, overlap=0, context="late")
    hidden = embedder.encode(text, output_value="token_embeddings")
    assert embedder.count_tokens(text) <= embedder.max_tokens
    assert len(pieces) > 1
    assert text[pieces[0].start : pieces[0].end] == "The quick brown fox."
    count = embedder.count_tokens("The quick brown fox.") - 2
    mean = hidden[1 : 1 + count].mean(axis=0)
    np.testing.assert_allclose(pieces[0].vector, mean / np.linalg.norm(mean), atol=1e-6)
    assert pieces[0].vector @ embedder.encode("The quick brown fox.") < 0.9999


def test_late_reads_what_stands_around_a_piece(embedder: Embedder) -> None:
    """Within one context, and across a text of several."""
    for count in (1, 6):
        text = "The quick brown fox jumps. " * count
        here, there = (
            embedder.encode_windows(text + end, tokens=12, overlap=0, context="late")[-2].vector
            for end in ("How much protein should a female eat.", "Ein kleiner Test mit Wörtern und a fox.")
        )
        assert here @ there < 0.9999


def test_late_refuses_models_that_pool_the_first_token(tiny_bundle: Path) -> None:
    with (
        Embedder(tiny_bundle, variant="fp32", pooling="cls", num_threads=1) as model,
        pytest.raises(OptionError, match="use context='none'"),
    ):
        model.encode_windows(ENGLISH, context="late")


@pytest.mark.parametrize("pooling", ["max", "lasttoken", "weightedmean", "mean+max"])
def test_late_with_other_poolings(tiny_bundle: Path, pooling: str) -> None:
    with Embedder(tiny_bundle, variant="fp32", pooling=pooling, num_threads=1) as model:
        found = model.encode_windows([ENGLISH, SHORT], tokens=20, overlap=0, context="late")
        np.testing.assert_array_equal(found[-1].vector, model.encode(SHORT))
        assert np.isfinite([piece.vector for piece in found]).all()


def test_options_reach_the_vectors(embedder: Embedder) -> None:
    for context in ("none", "late"):
        pieces = embedder.encode_windows(ENGLISH, tokens=20, overlap=0, context=context, truncate_dim=16)  # type: ignore[call-overload]
        np.testing.assert_allclose([np.linalg.norm(piece.vector) for piece in pieces], 1, atol=1e-6)
        assert pieces[0].vector.shape == (16,)
    (piece,) = embedder.encode_windows(SHORT, precision="ubinary")  # type: ignore[call-arg]
    assert piece.vector.dtype == np.uint8


def test_another_splitter(embedder: Embedder) -> None:
    text = "fox | " * 40
    spans = embedder.split(text, tokens=20, overlap=0, sentences=lambda t: [i + 2 for i, c in enumerate(t) if c == "|"])
    assert len(spans) > 1
    assert all(text[a:b].endswith("|") for a, b in spans)


def test_the_identity_of_pieces(embedder: Embedder) -> None:
    same = embedder.identify(kind="document")
    assert embedder.identify_windows(kind="document") == same
    late = embedder.identify_windows(kind="document", context="late")
    assert late not in (same, embedder.identify_windows(kind="document", context="late", tokens=100))


def test_what_cannot_be_embedded_is_named_by_its_text(embedder: Embedder) -> None:
    with pytest.raises(InputError, match="text 1: has a lone surrogate"):
        embedder.encode_windows([ENGLISH, "\ud800"])


@pytest.mark.parametrize("context", ["none", "late"])
def test_nan_is_named_by_its_text(embedder: Embedder, context, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = embedder._encoding.runner.executor
    run, count = type(executor).run, embedder.count_tokens(SHORT)

    def spoiled(self, batch, **kwargs):
        out = run(self, batch, **kwargs).copy()
        out[batch.offsets[:-1][np.diff(batch.offsets) == count]] = np.nan
        return out

    monkeypatch.setattr(type(executor), "run", spoiled)
    with pytest.raises(NonFiniteError, match=r"^text 1: "):
        embedder.encode_windows([ENGLISH, SHORT, ENGLISH + KOREAN], tokens=30, overlap=0, context=context)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tokens": 5}, "tokens must be at least 10"),
        ({"tokens": 0}, "tokens must be a whole number"),
        ({"overlap": -1}, "overlap must be a whole number"),
        ({"context": "wide"}, "context must be one of none, late"),
        ({"output_value": None}, "encode_windows gives vectors"),
        ({"token": 3}, "unknown option 'token'"),
    ],
)
def test_wrong_options(embedder: Embedder, options: dict[str, object], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        embedder.encode_windows(ENGLISH, **{"overlap": 0, **options})  # type: ignore[arg-type]
