"""The engine over a tiny real bundle."""

from __future__ import annotations

import copy
import itertools
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import (
    BundleFormatError,
    BundleIntegrityError,
    Embedder,
    ExecutorError,
    InputError,
    InputTypeError,
    NonFiniteError,
    OptionError,
    TokenLimitError,
    TruncationWarning,
)
from embedrt import encoding as encoding_module
from embedrt.pooling import pool
from embedrt.windows import join_texts

TEXTS = ["fox", "the lazy dog jumps", "서울은 수도이다", "", "a " * 20, "fox", "\x00 \u200b", "🙂🙂"]
LONG = "the quick brown fox " * 40


def test_shapes_follow_the_input(embedder: Embedder) -> None:
    assert embedder.encode("fox").shape == (64,)
    assert embedder.encode(["fox"]).shape == (1, 64)
    assert embedder.encode(("fox", "dog")).shape == (2, 64)
    assert embedder.encode([]).shape == (0, 64)
    assert embedder.encode([]).dtype == np.float32
    assert embedder.dimension == 64


def test_a_text_alone_equals_the_text_in_any_batch_and_order(embedder: Embedder) -> None:
    together = embedder.encode(TEXTS)
    np.testing.assert_allclose(np.stack([embedder.encode(t) for t in TEXTS]), together, atol=2e-6)
    np.testing.assert_allclose(embedder.encode(TEXTS[::-1])[::-1], together, atol=2e-6)
    np.testing.assert_array_equal(embedder.encode(TEXTS), together)


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_int8_and_fp16_do_not_see_their_neighbours(tiny_bundle: Path, variant: str) -> None:
    with Embedder(tiny_bundle, variant=variant, num_threads=1) as small:
        together = small.encode(TEXTS)
        alone = np.stack([small.encode(t) for t in TEXTS])
    assert (together * alone).sum(axis=1).min() > 0.999999


def test_duplicates_are_embedded_once_and_come_back_at_their_places(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    run = embedder._executor.run

    def counting(batch: Any, **kwargs: Any) -> Any:
        ran.append(len(batch.offsets) - 1)
        return run(batch, **kwargs)

    monkeypatch.setattr(embedder._executor, "run", counting)
    vectors = embedder.encode(["fox", "dog", "fox", "fox"])
    assert sum(ran) == 2
    np.testing.assert_array_equal(vectors[0], vectors[3])
    assert not np.array_equal(vectors[0], vectors[1])


def test_long_calls_run_in_windows_with_the_same_result(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"fox {i}" for i in range(23)]
    whole = embedder.encode(texts)
    monkeypatch.setattr(encoding_module, "WINDOW_TEXTS", 5)
    np.testing.assert_allclose(embedder.encode(texts), whole, atol=2e-6)


def test_truncation_is_warned_of_once_and_reported(embedder: Embedder) -> None:
    with pytest.warns(TruncationWarning, match=r"1 of 2 texts were cut at 48 tokens") as caught:
        cut = embedder.encode([LONG, "fox"])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = embedder.encode_detailed([LONG, "fox"])
    np.testing.assert_array_equal(result.embeddings, cut)
    assert [t.index for t in result.truncated] == [0]
    assert result.truncated[0].num_tokens == result.num_tokens[0] == embedder.count_tokens(LONG) > 48
    with pytest.raises(TokenLimitError, match="text 1: has") as refused:
        embedder.encode(["fox", LONG], on_overflow="error")
    assert refused.value.index == 1


@pytest.mark.parametrize("bad", [None, 3, b"bytes", ["fox", None], ["fox", 3.5], ["fox", b"bytes"]])
def test_what_is_no_string_is_a_type_error_of_our_own(embedder: Embedder, bad: Any) -> None:
    with pytest.raises(InputTypeError, match="string") as raised:
        embedder.encode(bad)
    assert isinstance(raised.value, TypeError)
    assert raised.value.index == (1 if isinstance(bad, list) else None)


def test_lone_surrogates_name_their_place(embedder: Embedder) -> None:
    with pytest.raises(InputError, match="text 1: has a lone surrogate at character 2"):
        embedder.encode(["fox", "ab\ud800"])


def test_a_ten_megabyte_text_is_cut_like_any_other(embedder: Embedder) -> None:
    huge = "fox " * 2_500_000
    result = embedder.encode_detailed([huge, "fox"])
    assert embedder.count_tokens(huge) == 2_500_002
    assert embedder.max_tokens + 64 <= result.num_tokens[0] <= 2_500_002  # no more was tokenized than is kept
    assert [(cut.index, cut.limit) for cut in result.truncated] == [(0, embedder.max_tokens)]
    head = embedder.encode_detailed("fox " * embedder.max_tokens * 2)
    np.testing.assert_array_equal(result.embeddings[0], head.embeddings)
    assert np.isfinite(result.embeddings).all()
    with pytest.raises(TokenLimitError, match=f"has {result.num_tokens[0]} or more tokens, the model takes"):
        embedder.encode(huge, on_overflow="error")


def test_options_that_do_not_exist_or_fit_are_refused(embedder: Embedder) -> None:
    with pytest.raises(OptionError, match="did you mean 'normalize_embeddings'"):
        embedder.encode("fox", normalise_embeddings=True)  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="truncate_dim=65 is more than"):
        embedder.encode("fox", truncate_dim=65)
    with pytest.raises(OptionError, match="no prompt 'nope'; this bundle has: query, document"):
        embedder.encode("fox", prompt_name="nope")
    with pytest.raises(OptionError, match="num_threads"):
        Embedder(embedder.bundle, num_threads=0)
    with pytest.raises(OptionError, match="variant 'int4' is not in this bundle; it has: fp32, fp16, int8"):
        Embedder(embedder.bundle, variant="int4")


def test_prompts_are_put_before_texts(embedder: Embedder) -> None:
    np.testing.assert_array_equal(embedder.encode_query("fox"), embedder.encode("query: fox"))
    np.testing.assert_array_equal(embedder.encode_document(["fox"]), embedder.encode(["passage: fox"]))
    np.testing.assert_array_equal(embedder.encode("fox", prompt="x "), embedder.encode("x fox"))
    with pytest.raises(OptionError, match=r"no \{task\} to fill"):
        embedder.encode_query("fox", task="search")


def test_truncated_vectors_have_length_one_again(embedder: Embedder) -> None:
    full, short = embedder.encode("fox"), embedder.encode("fox", truncate_dim=16)
    np.testing.assert_allclose(short, full[:16] / np.linalg.norm(full[:16]), rtol=1e-6)


def test_token_embeddings_are_ragged_and_pool_to_the_vector(embedder: Embedder) -> None:
    tokens = embedder.encode(TEXTS[:3], output_value="token_embeddings")
    assert [len(t) for t in tokens] == embedder.count_tokens(TEXTS[:3])
    mean = tokens[1].mean(axis=0)
    np.testing.assert_allclose(mean / np.linalg.norm(mean), embedder.encode(TEXTS[1]), atol=1e-6)


def test_integer_precisions_do_not_depend_on_the_call(embedder: Embedder) -> None:
    together = embedder.encode(TEXTS, precision="int8")
    assert together.dtype == np.int8
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(embedder.encode(text, precision="int8").astype(int), row.astype(int), atol=1)
    assert embedder.encode(TEXTS, precision="ubinary").shape == (len(TEXTS), 8)


def test_streams_keep_order_and_report_what_they_skip(embedder: Embedder) -> None:
    read = 0

    def source() -> Iterator[Any]:
        nonlocal read
        for text in ["a", "b", None, "c", LONG, "a", "\ud800", "d"]:
            read += 1
            yield text

    stream = embedder.encode_stream(source(), block_size=3, on_error="skip")
    first = next(stream)
    assert read == 6  # one block ahead and no further
    blocks = [first, *stream]
    assert [b.indices for b in blocks] == [(0, 1), (3, 4, 5), (7,)]
    assert [(b.start, b.num_texts) for b in blocks] == [(0, 3), (3, 3), (6, 2)]
    assert [s.index for b in blocks for s in b.skipped] == [2, 6]
    assert [t.index for b in blocks for t in b.truncated] == [4]
    np.testing.assert_allclose(blocks[1].embeddings[2], blocks[0].embeddings[0], atol=2e-6)
    with pytest.raises(InputTypeError, match="text 2"):
        list(embedder.encode_stream(source(), block_size=3))
    assert list(embedder.encode_stream([])) == []


def test_streams_skip_texts_over_the_limit_and_lose_nothing_else(embedder: Embedder) -> None:
    texts = ["a", LONG, "fox", LONG, None, "dog"]
    blocks = list(embedder.encode_stream(texts, block_size=4, on_error="skip", on_overflow="error"))  # type: ignore[arg-type]
    assert [b.indices for b in blocks] == [(0, 2), (5,)]
    assert [(b.start, b.num_texts) for b in blocks] == [(0, 4), (4, 2)]
    count = embedder.count_tokens(LONG)
    reason = f"has {count} tokens, the model takes 48"
    assert [(s.index, s.reason) for s in blocks[0].skipped] == [(1, f"text 1: {reason}"), (3, f"text 3: {reason}")]
    assert [s.index for s in blocks[1].skipped] == [4]
    assert all(not b.truncated and len(b.num_tokens) == len(b.indices) for b in blocks)
    np.testing.assert_allclose(np.concatenate([b.embeddings for b in blocks]), embedder.encode(["a", "fox", "dog"]),
                               atol=2e-6)  # fmt: skip
    with pytest.raises(TokenLimitError, match=f"text 1: {reason}"):
        list(embedder.encode_stream(["a", LONG], on_overflow="error"))
    only = next(embedder.encode_stream([LONG], on_error="skip", on_overflow="error"))
    assert only.embeddings.shape == (0, 64)


def test_streams_skip_vectors_with_nan_and_lose_nothing_else(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["fox dog", "the quick brown fox", "dog fox", "the lazy dog jumps", "the quick brown fox", "fox"]
    expected = embedder.encode(texts)
    (poison,) = embedder.tokenize(texts[1])
    run = embedder._executor.run

    def poisoned(batch: Any, **kwargs: Any) -> Any:
        hidden = run(batch, **kwargs).copy()
        for begin, end in itertools.pairwise(batch.offsets):
            if batch.token_ids[begin:end].tolist() == poison:
                hidden[begin] = np.nan
        return hidden

    monkeypatch.setattr(embedder._executor, "run", poisoned)
    (block,) = embedder.encode_stream(texts, on_error="skip")
    assert block.indices == (0, 2, 3, 5)
    assert [s.index for s in block.skipped] == [1, 4]
    assert block.skipped[1].reason.startswith("text 4: its vector holds NaN or infinity; this variant (fp32)")
    np.testing.assert_allclose(block.embeddings, expected[list(block.indices)], atol=2e-6)
    with pytest.raises(NonFiniteError, match="text 1") as raised:
        list(embedder.encode_stream(texts))
    assert raised.value.index == 1


def test_threads_may_share_an_embedder(embedder: Embedder) -> None:
    expected = embedder.encode(TEXTS)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(10):
            if not np.allclose(embedder.encode(TEXTS), expected, atol=2e-6):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nan_is_an_error_that_names_the_text(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    run = embedder._executor.run

    def poisoned(batch: Any, **kwargs: Any) -> Any:
        hidden = run(batch, **kwargs).copy()
        hidden[-1] = np.nan  # the last row is the shortest text's
        return hidden

    monkeypatch.setattr(embedder._executor, "run", poisoned)
    with pytest.raises(NonFiniteError, match="text 1"):
        embedder.encode(["the quick brown fox", "fox"])


def test_pooling_at_run_time_is_another_space(tiny_bundle: Path, embedder: Embedder) -> None:
    with Embedder(tiny_bundle, variant="fp32", pooling="cls") as other:
        tokens = embedder.encode("fox", output_value="token_embeddings")
        np.testing.assert_allclose(other.encode("fox"), tokens[0] / np.linalg.norm(tokens[0]), atol=1e-6)
        assert other.identity != embedder.identity
    with pytest.raises(OptionError, match="pooling must be of"):
        Embedder(tiny_bundle, pooling="median")


def test_identity_changes_with_all_that_changes_vectors(tiny_bundle: Path, embedder: Embedder) -> None:
    with Embedder(tiny_bundle, variant="int8") as int8:
        identities = [
            embedder.identity,
            embedder.identify(kind="query"),
            embedder.identify(prompt="x"),
            embedder.identify(truncate_dim=8),
            embedder.identify(precision="int8"),
            int8.identity,
        ]
    assert len(set(identities)) == len(identities)
    assert embedder.identify(batch_size=3, show_progress_bar=True) == embedder.identity


def test_closed_embedders_say_so(tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle) as closed:
        assert closed.variant == "int8"
    with pytest.raises(ExecutorError, match="closed"):
        closed.encode("fox")


def test_a_flipped_bit_is_found_while_loading(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    weights = copy / "fp32" / "weights.bin"
    data = bytearray(weights.read_bytes())
    data[5000] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleIntegrityError, match=r"fp32/weights.bin does not match its sha256"):
        Embedder(copy, variant="fp32")
    Embedder(copy, variant="fp32", verify_hashes=False).close()
    Embedder(copy, variant="int8").close()


def test_a_damaged_tokenizer_is_told_by_its_hash(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes().replace(b"{", b"[", 1))
    with pytest.raises(BundleIntegrityError, match=r"tokenizer.json does not match its sha256"):
        Embedder(copy)
    with pytest.raises(BundleFormatError, match="cannot be read by tokenizers"):
        Embedder(copy, verify_hashes=False)


def test_sentence_transformers_older_name_of_the_inputs(embedder: Embedder) -> None:
    np.testing.assert_array_equal(embedder.encode(sentences=["fox"]), embedder.encode(["fox"]))
    np.testing.assert_array_equal(embedder.encode_query(sentences="fox"), embedder.encode_query("fox"))
    for given, told in (({}, "not None"), ({"inputs": "fox", "sentences": "fox"}, "once")):
        with pytest.raises(InputTypeError, match=told):
            embedder.encode(**given)


def test_similarities_of_pairs(embedder: Embedder) -> None:
    a, b = embedder.encode(["fox", "dog"]), embedder.encode(["dog", "dog"])
    np.testing.assert_allclose(embedder.similarity_pairwise(a, b), np.diag(embedder.similarity(a, b)), rtol=1e-5)
    with pytest.raises(OptionError, match="1 and 2 vectors"):
        embedder.similarity_pairwise(a[:1], b)


def test_the_callers_floating_point_mode_stays_as_it_was(embedder: Embedder) -> None:
    """ONNX Runtime's set_denormal_as_zero would set it for the thread that makes a session."""
    embedder.encode("fox")
    assert np.float32(1e-40) * np.float32(1) != 0


@pytest.mark.parametrize("text", ["", "a", "the water is light", "stone " * 40, "서울"])
def test_one_text_by_the_short_way_is_what_several_give(embedder: Embedder, text: str, monkeypatch: pytest.MonkeyPatch):
    short = embedder.encode_detailed(text)
    assert embedder.tokenizer.short_ids(text).tolist() == embedder.tokenizer.ids([text])[0]
    monkeypatch.setattr("embedrt.windows.WindowRunner.run_one", lambda *_: None)
    long = embedder.encode_detailed(text)
    assert np.array_equal(short.embeddings, long.embeddings)
    assert short.embeddings.shape == (embedder.dimension,)
    assert (short.num_tokens, short.truncated, short.identity) == (long.num_tokens, long.truncated, long.identity)
    many = embedder.encode_detailed([text, "another text beside it"]).embeddings
    assert np.allclose(short.embeddings, many[0], atol=1e-6)


def test_a_vector_of_one_text_is_the_callers_own(embedder: Embedder) -> None:
    first = embedder.encode("fox")
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(embedder.encode("fox"), kept)


def test_means_by_onnx_runtime_are_those_of_its_rows(tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle, variant="fp32", executor="onnxruntime", num_threads=1) as model:
        ids = [np.array(ids, np.int32) for ids in model.tokenize(["fox", "the water is light", "stone " * 4])]
        batch = join_texts(ids)
        rows = model._executor.run(batch)
        assert model._executor.run(batch, want="mean").tobytes() == pool(rows, batch.offsets, ("mean",)).tobytes()


def test_a_long_text_and_one_of_unknown_tokens_go_the_long_way(tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle) as model:
        assert model.tokenizer.short_ids("fox " * 1000) is None
        few = copy.copy(model.tokenizer)
        few.num_rows = max(model.tokenize(["fox"])[0])
        assert few.short_ids("fox") is None
