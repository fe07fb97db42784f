"""Pairs of texts, whose second part has token type 1: the twin's numbers, and the same bits in any batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from embedrt.errors import ExecutorError
from embedrt.executors import TokenBatch
from tests.native import door, made, specs
from tests.native.specs import SPECS
from tests.native.twin_encoder import Twin

LENGTHS = [1, 9, 17, 64, 33]
SECONDS = [1, 4, 0, 63, 33]  # none, in the midst, all, the last token, none


def typed(seconds: list[int] = SECONDS) -> TokenBatch:
    return replace(made.random_batch(LENGTHS, specs.VOCABULARY), seconds=np.array(seconds, np.int32))


def of_all(encode: Twin, batch: TokenBatch) -> NDArray[np.floating]:
    assert batch.seconds is not None
    texts = [made.text(batch, i).token_ids for i in range(len(LENGTHS))]
    return np.concatenate([encode(ids, int(second)) for ids, second in zip(texts, batch.seconds, strict=True)])


@pytest.mark.parametrize("name", ["albert", "nomic"])
def test_second_parts_have_the_second_type(isa: str, name: str) -> None:
    spec, narrow = SPECS[name], isa in door.NARROW
    tensors, batch = specs.float_tensors(spec), typed()
    encoder = specs.load(spec, tensors, isa=isa)
    got, exact = encoder.run(batch), of_all(Twin(spec, tensors), batch)
    if narrow:
        wanted = of_all(Twin(spec, tensors, narrow=True, narrow_products=True), batch)
        noise = np.abs(wanted - exact).mean()
        assert np.abs(got - wanted).mean() < 0.8 * noise
    else:
        np.testing.assert_allclose(got, exact, rtol=0, atol=3e-5 * np.abs(exact).max())
    assert np.abs(got - encoder.run(replace(batch, seconds=None))).max() > 0.01


def test_a_pair_has_the_same_bits_in_any_batch_and_a_batch_of_texts_those_it_always_had(isa: str) -> None:
    spec = SPECS["nomic"]
    encoder, batch = specs.load(spec, specs.int8_tensors(spec), isa=isa), typed()
    got = encoder.run(batch)
    for i, second in enumerate(SECONDS):
        alone = replace(made.text(batch, i), seconds=np.array([second], np.int32))
        np.testing.assert_array_equal(encoder.run(alone), got[batch.offsets[i] : batch.offsets[i + 1]])
    np.testing.assert_array_equal(encoder.run(typed(LENGTHS)), encoder.run(replace(batch, seconds=None)))
    np.testing.assert_array_equal(encoder.run(batch, "first"), got[batch.offsets[:-1]])


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        ([2, 0, 0, 0, 0], "text 0 has 1 tokens, its second part begins at 2"),
        ([0, -1, 0, 0, 0], "text 1 has 9 tokens, its second part begins at -1"),
        ([0, 0], "the batch has 5 texts, and 2 places of second parts"),
    ],
)
def test_wrong_places_are_refused(isa: str, seconds: list[int], reason: str) -> None:
    spec = SPECS["nomic"]
    encoder = specs.load(spec, specs.float_tensors(spec), isa=isa)
    with pytest.raises(ExecutorError, match=reason):
        encoder.run(typed(seconds))


def test_a_model_without_types_takes_no_pairs_of_them(isa: str) -> None:
    spec = SPECS["jina"]
    encoder = specs.load(spec, specs.float_tensors(spec), isa=isa)
    with pytest.raises(ExecutorError, match="the model has no second token type"):
        encoder.run(typed())
