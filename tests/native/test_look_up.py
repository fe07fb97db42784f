"""Tables of token vectors without blocks: their rows, and means with the bits of those of other encoders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embedrt.encoder import Embeddings, EncoderSpec, Norm
from embedrt.errors import UnsupportedByNativeError
from embedrt.pooling import pool
from tests.native import made, specs

WIDTH, ROWS = 96, 80
TABLE = EncoderSpec(
    WIDTH, ROWS, None, Embeddings(WIDTH, 0, None, has_token_types=False, scale=1.0, norm=None), (), None
)
LENGTHS = [1, 2, 17, 64, 5, 130, 33]


def float_table(seed: int = 0) -> specs.Tensors:
    return {"embeddings.word": np.random.default_rng(seed).normal(size=(ROWS, WIDTH)).astype(np.float32)}


def int8_table(seed: int = 0) -> specs.Tensors:
    """Every third token has a second row."""
    rng = np.random.default_rng(seed)
    row = np.where(np.arange(ROWS) % 3 == 0, 1 + np.arange(ROWS) // 3, 0).astype(np.int32)[:, None]
    count = int(row.max()) + 1
    return {
        "embeddings.word": rng.integers(-127, 128, (ROWS, WIDTH), np.int8),
        "embeddings.word.scale": rng.uniform(0.001, 0.01, (ROWS, 1)).astype(np.float32),
        "embeddings.word_rest": rng.integers(-127, 128, (count, WIDTH), np.int8),
        "embeddings.word_rest.scale": rng.uniform(1e-5, 1e-4, (count, 1)).astype(np.float32),
        "embeddings.word_rest.row": row,
    }


def rows_of(tensors: specs.Tensors) -> np.ndarray:
    word = tensors["embeddings.word"].astype(np.float32)
    if "embeddings.word.scale" not in tensors:
        return word
    rest = tensors["embeddings.word_rest"] * tensors["embeddings.word_rest.scale"]
    row = tensors["embeddings.word_rest.row"][:, 0]
    return word * tensors["embeddings.word.scale"] + np.where(row[:, None] > 0, rest[row], 0)


@pytest.mark.parametrize("tensors", [float_table(), int8_table()], ids=["float32", "int8"])
def test_rows_and_their_means(isa: str, tensors: specs.Tensors) -> None:
    encoder, batch = specs.load(TABLE, tensors, isa=isa), made.random_batch(LENGTHS, ROWS)
    rows = encoder.run(batch)
    np.testing.assert_allclose(rows, rows_of(tensors)[batch.token_ids], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(encoder.run(batch, "first"), rows[batch.offsets[:-1]])
    np.testing.assert_array_equal(encoder.run(batch, "last"), rows[batch.offsets[1:] - 1])
    np.testing.assert_array_equal(encoder.run(batch, "mean"), pool(rows, batch.offsets, ("mean",)))


def test_bits_depend_on_neither_threads_nor_batch(native_isas: dict[str, bool]) -> None:
    tensors = int8_table()
    many = made.random_batch([1 + k % 40 for k in range(300)], ROWS)  # more rows than one thread takes
    for isa in (isa for isa, available in native_isas.items() if available):
        one, several = (specs.load(TABLE, tensors, isa=isa, threads=n) for n in (1, 3))
        alone = np.concatenate([one.run(made.text(many, i), "mean") for i in range(300)])
        np.testing.assert_array_equal(one.run(many, "mean"), alone)
        np.testing.assert_array_equal(several.run(many, "mean"), alone)


@pytest.mark.parametrize(
    "spec",
    [
        replace(TABLE, final_norm=Norm("layer", 1e-5)),
        replace(TABLE, embeddings=replace(TABLE.embeddings, norm=Norm("rms", 1e-5))),
        replace(TABLE, embeddings=replace(TABLE.embeddings, num_positions=9)),
        replace(TABLE, embeddings=replace(TABLE.embeddings, size=48)),
    ],
)
def test_more_than_a_table_needs_layers(native_isas: dict[str, bool], spec: EncoderSpec) -> None:
    with pytest.raises(UnsupportedByNativeError, match="no layers behind more than a table"):
        specs.load(spec, float_table(), isa="auto")
