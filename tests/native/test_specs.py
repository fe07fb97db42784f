"""Encoders of every family on every instruction set: the interpreter's numbers, the twin's, and the same bits whatever
the batch.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedrt.errors import ExecutorError, UnsupportedByNativeError
from embedrt.executors import TokenBatch
from tests.native import door, made, specs
from tests.native.specs import SPECS
from tests.native.twin_encoder import Twin

# Shorter and longer than windows, tiles of queries (6) and panels of keys (16, 64).
LENGTHS = [1, 2, 17, 64, 5, 130, 33]


def of_all(encode: Twin, batch: TokenBatch) -> NDArray[np.floating]:
    return np.concatenate([encode(made.text(batch, i).token_ids) for i in range(len(batch.offsets) - 1)])


@pytest.mark.parametrize("name", SPECS)
def test_float32_weights_give_the_twins_numbers(isa: str, name: str) -> None:
    """But for roundings of float32; with bfloat16, by less than that itself costs."""
    spec, narrow = SPECS[name], isa in door.NARROW
    tensors, batch = specs.float_tensors(spec), made.random_batch(LENGTHS, specs.VOCABULARY)
    got = specs.load(spec, tensors, isa=isa).run(batch)
    exact = of_all(Twin(spec, tensors), batch)
    if not narrow:
        np.testing.assert_allclose(got, exact, rtol=0, atol=3e-5 * np.abs(exact).max())
        return
    rounded = of_all(Twin(spec, tensors, narrow=True, narrow_products=True), batch)
    close_as_rounded(got, rounded, exact)


def close_as_rounded(got: NDArray[np.floating], rounded: NDArray[np.floating], exact: NDArray[np.floating]) -> None:
    """Nearer to what has the same roundings than that is to the exact numbers, and no further from these.

    A rounding to 8 bits that lies within one of float32 of a tie falls either way, and moves all behind it by a share
    of a step: after two layers two right implementations differ by a part of what rounding costs.
    """
    noise = np.abs(rounded - exact).mean()
    assert np.abs(got - rounded).mean() < 0.8 * noise
    assert np.abs(got - exact).mean() < 1.15 * noise


@pytest.mark.parametrize("name", SPECS)
def test_int8_is_the_twins_but_for_roundings_that_flip(isa: str, name: str) -> None:
    spec, narrow = SPECS[name], isa in door.NARROW
    if narrow and spec.blocks:  # which adds roundings that flip: of one layer
        spec = replace(spec, blocks=spec.blocks[:1])
    tensors, batch = specs.int8_tensors(spec), made.random_batch(LENGTHS, specs.VOCABULARY)
    got = specs.load(spec, tensors, isa=isa).run(batch)
    wanted = of_all(Twin(spec, tensors, narrow, narrow_products=narrow), batch)
    exact = of_all(Twin(spec, widened(tensors)), batch)
    close_as_rounded(got, wanted, exact)


def widened(tensors: specs.Tensors) -> specs.Tensors:
    """The same numbers in float32, so that no rows are rounded; the tables as they are."""
    out = {}
    for name, value in tensors.items():
        if name.endswith(".weight") and value.dtype == np.int8:
            out[name] = value * tensors[name.removesuffix("weight") + "scale"]
        elif not name.endswith(".scale") or name.startswith("embeddings."):
            out[name] = value
    return out


@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=6),
    threads=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    eight=st.booleans(),
)
@pytest.mark.parametrize("name", SPECS)
def test_bits_depend_on_nothing_but_the_text(
    native_isas: dict[str, bool], name: str, lengths: list[int], threads: int, seed: int, eight: bool
) -> None:
    spec = SPECS[name]
    tensors = specs.int8_tensors(spec) if eight else specs.float_tensors(spec)
    batch, order = (
        made.random_batch(lengths, specs.VOCABULARY, seed),
        np.random.default_rng(seed).permutation(len(lengths)),
    )
    shuffled = TokenBatch(
        np.concatenate([made.text(batch, i).token_ids for i in order]),
        np.cumsum([0, *(lengths[i] for i in order)]).astype(np.int32),
    )
    for isa in [isa for isa, available in native_isas.items() if available and isa != "portable"]:
        one, several = (specs.load(spec, tensors, isa=isa, threads=n) for n in (1, threads))
        alone = [one.run(made.text(batch, i)) for i in range(len(lengths))]
        np.testing.assert_array_equal(several.run(batch), np.concatenate(alone))
        np.testing.assert_array_equal(several.run(shuffled), np.concatenate([alone[i] for i in order]))
        np.testing.assert_array_equal(several.run(batch, "first"), np.stack([rows[0] for rows in alone]))
        np.testing.assert_array_equal(several.run(batch, "last"), np.stack([rows[-1] for rows in alone]))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("eight", [True, False])
def test_tokens_that_are_not_seen_change_none_but_their_own_rows(
    native_isas: dict[str, bool], name: str, eight: bool
) -> None:
    spec = SPECS[name]
    tensors = specs.int8_tensors(spec) if eight else specs.float_tensors(spec)
    lengths, keys = [12, 20, 5], np.array([7, 20, 1], np.int32)
    if any(block.attention.window is not None and block.attention.window < 19 for block in spec.blocks):
        with pytest.raises(ExecutorError, match="more than the window"):
            specs.load(spec, tensors, isa="portable").run(
                replace(made.random_batch(lengths, specs.VOCABULARY), keys=np.array([7, 19, 1], np.int32))
            )
        return
    batch = replace(made.random_batch(lengths, specs.VOCABULARY), keys=keys)
    others = batch.token_ids.copy()
    others[8:12] = others[8:12][::-1]
    for isa in [isa for isa, available in native_isas.items() if available]:
        encoder = specs.load(spec, tensors, isa=isa)
        hidden = encoder.run(batch)
        for i, (start, count) in enumerate(zip(batch.offsets, keys, strict=False)):
            seen = TokenBatch(made.text(batch, i).token_ids[:count], np.array([0, count], np.int32))
            np.testing.assert_array_equal(hidden[start : start + count], encoder.run(seen))
        changed = encoder.run(replace(batch, token_ids=others))
        np.testing.assert_array_equal(changed[:8], hidden[:8])
        assert not np.array_equal(changed[8:12], hidden[8:12])
        np.testing.assert_array_equal(changed[12:], hidden[12:])
        with pytest.raises(ExecutorError, match="text 2 has no such tokens"):
            encoder.run(replace(batch, keys=np.array([7, 20, 6], np.int32)))


@pytest.mark.parametrize("name", SPECS)
def test_tensors_that_are_missing_or_misshapen_are_refused_by_name(native_isas: dict[str, bool], name: str) -> None:
    """But for what is zero or one where a file does not have it."""
    spec, batch = SPECS[name], made.random_batch([9], specs.VOCABULARY)
    tensors = specs.int8_tensors(spec)
    for key, value in tensors.items():
        without = {other: array for other, array in tensors.items() if other != key}
        if key.endswith((".bias", ".beta", ".restore")):
            assert np.isfinite(specs.load(spec, without, isa="auto").run(batch)).all(), key
        else:
            with pytest.raises(UnsupportedByNativeError):
                specs.load(spec, without, isa="auto")
        longer = np.concatenate([value, value[-1:]])
        if key != "embeddings.token_type":  # the first row is read, of however many
            with pytest.raises(UnsupportedByNativeError):
                specs.load(spec, {**tensors, key: longer}, isa="auto")
        with pytest.raises(UnsupportedByNativeError, match=r"nothing reads these .*: layers\.9\.more"):
            specs.load(spec, {**tensors, "layers.9.more": value}, isa="auto")


def test_rows_of_what_is_left_of_tokens_must_be_there(native_isas: dict[str, bool]) -> None:
    spec = SPECS["mpnet"]
    tensors = specs.int8_tensors(spec)
    for row in (-1, 8):
        tensors["embeddings.word_rest.row"][5] = row
        with pytest.raises(UnsupportedByNativeError, match=f"names row {row} of 8"):
            specs.load(spec, tensors, isa="auto")


def test_blocks_of_different_numbers_have_no_weights_in_common(native_isas: dict[str, bool]) -> None:
    spec = SPECS["albert"]
    other = replace(spec.blocks[0], attention=replace(spec.blocks[0].attention, scale=1.0))
    with pytest.raises(UnsupportedByNativeError, match="different numbers share the weights of layer 0"):
        specs.load(replace(spec, blocks=(*spec.blocks[:2], other)), specs.int8_tensors(spec), isa="auto")


def test_texts_longer_than_the_spec_allows_are_refused(native_isas: dict[str, bool]) -> None:
    spec = SPECS["qwen3"]
    encoder = specs.load(spec, specs.int8_tensors(spec), isa="auto")
    encoder.run(made.random_batch([specs.POSITIONS], specs.VOCABULARY))
    with pytest.raises(ExecutorError, match="301 tokens, the model has positions for 300"):
        encoder.run(made.random_batch([specs.POSITIONS + 1], specs.VOCABULARY))
