"""The head of a masked language model on the native module against its numpy twin."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedrt.encoder import Norm
from embedrt.errors import ExecutorError, UnsupportedByNativeError
from embedrt.executors.native import available_isas, load_library
from embedrt.executors.words import NativeWords
from embedrt.words import NumpyWords
from tests.native import door

ISAS = [name for name, available in available_isas(load_library()).items() if available]
NORM = Norm("layer", 1e-12)
OFFSETS = np.array([0, 1, 8, 60, 63, 112], np.int32)  # texts that end in, at and behind a chunk of 48 rows
POOLINGS = ("largest", "sum", "sum_of_twice")


def make_head(hidden: int = 48, size: int = 32, words: int = 203, *, int8: bool = True) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((size, words)).astype(np.float32)
    out: dict[str, NDArray[Any]] = {
        "words.transform.weight": (rng.standard_normal((hidden, size)) * hidden**-0.5).astype(np.float32),
        "words.transform.bias": (0.1 * rng.standard_normal(size)).astype(np.float32),
        "words.norm.gamma": (1 + 0.2 * rng.standard_normal(size)).astype(np.float32),
        "words.norm.beta": (0.2 * rng.standard_normal(size)).astype(np.float32),
        "words.decoder.bias": (0.3 * rng.standard_normal(words)).astype(np.float32),
    }
    if int8:
        scale = (np.abs(weight).max(axis=0) / 127).astype(np.float32)
        out |= {"words.decoder.weight": np.rint(weight / scale).astype(np.int8), "words.decoder.scale": scale}
    else:
        out["words.decoder.weight"] = weight
    return out


def make_states(width: int = 48) -> NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((int(OFFSETS[-1]), width)).astype(np.float32)


def native(
    arrays: dict[str, NDArray[Any]], isa: str, *, threads: int = 1, activation: str = "gelu", norm: Norm = NORM
) -> NativeWords:
    return NativeWords(
        arrays, activation=activation, norm=norm, num_threads=threads, available_threads=threads, isa=isa
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("int8", [True, False])
def test_words_are_those_of_the_twin(isa: str, pooling: Any, int8: bool) -> None:
    """Logits have a standard deviation of 6; 8 bits of a row err by 0.03, with a transform in bfloat16 by 0.05."""
    arrays, hidden = make_head(int8=int8), make_states()
    expected = NumpyWords(arrays, "gelu", NORM)(hidden, OFFSETS, pooling)
    found = native(arrays, isa, threads=2)(hidden, OFFSETS, pooling)
    assert found.shape == expected.shape == (5, 203)
    exact = not int8 and isa not in door.NARROW
    error = np.abs(found - expected).max(axis=1)
    tokens = np.diff(OFFSETS) if pooling != "largest" else np.ones(5)
    assert (error <= (2e-5 if exact else 0.25) * tokens).all(), error
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > (0.9999999 if exact else 0.9995)


@pytest.mark.parametrize("isa", ISAS)
def test_a_text_has_the_bits_that_it_has_alone(isa: str) -> None:
    words, hidden = native(make_head(), isa, threads=2), make_states()
    together = words(hidden, OFFSETS, "largest")
    alone = native(make_head(), isa)
    for i, (a, b) in enumerate(pairwise(OFFSETS)):
        np.testing.assert_array_equal(alone(hidden[a:b], np.array([0, b - a], np.int32), "largest")[0], together[i])


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu", "silu", "quick_gelu"])
def test_every_activation(activation: str) -> None:
    arrays, hidden, norm = make_head(int8=False), make_states(), Norm("rms", 1e-5)
    del arrays["words.norm.beta"]
    expected = NumpyWords(arrays, activation, norm)(hidden, OFFSETS, "largest")
    found = native(arrays, "portable", activation=activation, norm=norm)(hidden, OFFSETS, "largest")
    np.testing.assert_allclose(found, expected, atol=3e-5)


def test_a_head_without_biases() -> None:
    arrays, hidden = make_head(int8=False), make_states()
    for name in ("words.transform.bias", "words.decoder.bias", "words.norm.beta"):
        del arrays[name]
    expected = NumpyWords(arrays, "gelu", NORM)(hidden, OFFSETS, "largest")
    np.testing.assert_allclose(native(arrays, "portable")(hidden, OFFSETS, "largest"), expected, atol=3e-5)


def test_what_does_not_fit_is_refused() -> None:
    words = native(make_head(), "portable")
    with pytest.raises(ExecutorError, match="hidden states"):
        words(make_states(32), OFFSETS, "largest")
    with pytest.raises(ExecutorError, match="text 1 has no tokens"):
        words(make_states()[:3], np.array([0, 3, 3], np.int32), "largest")
    with pytest.raises(UnsupportedByNativeError, match="width before the vocabulary"):
        native(make_head(size=24), "portable")
    with pytest.raises(UnsupportedByNativeError, match=r"words\.extra"):
        native(make_head() | {"words.extra": np.zeros(4, np.float32)}, "portable")
