from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from embedrt.errors import OptionError
from embedrt_export.calibration import affordable, multiplied_weights, read_calibration
from embedrt_export.prompts import read_prompts

TEXTS = [f"text {i}\u2028with \x85 in it" for i in range(40)]


def test_calibration_files_are_read_as_every_other_input(tmp_path: Path) -> None:
    plain = "".join(f"{text}\n\n" for text in TEXTS).encode()
    for name, content in {
        "a.txt": plain,
        "a.lst": plain,
        "a.txt.gz": gzip.compress(plain),
        "b.txt": plain.decode().encode("utf-16"),
        "a.csv": b"text\n" + b"".join(f'"{text}"\n'.encode() for text in TEXTS),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert read_calibration(tmp_path / name) == TEXTS, name


def test_a_calibration_file_that_cannot_be_read_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\n" + "물\n".encode("cp949"))
    with pytest.raises(OptionError, match=r"a\.txt, line 2: not valid UTF-8"):
        read_calibration(tmp_path / "a.txt")
    with pytest.raises(OptionError, match="is not there"):
        read_calibration(tmp_path / "none.txt")
    (tmp_path / "few.txt").write_text("a\n")
    with pytest.raises(OptionError, match="at least 32"):
        read_calibration(tmp_path / "few.txt")


def test_a_large_encoder_is_calibrated_on_fewer_of_the_built_in_texts() -> None:
    texts = [[1] * 20 for _ in range(1000)] + [[1] * 100 for _ in range(100)]
    few = affordable(texts, 85_000_000)
    assert few == [[1] * 20] * 1000 + [[1] * 100] * 25  # of long ones a fourth
    for weights in (450_000_000, 1_500_000_000):
        some = affordable(texts, weights)
        assert len(some) >= 200
        assert {len(text) for text in some} == {20, 100}
        assert sum(map(len, some)) * weights <= 8e12
    assert len(affordable(texts, 10**12)) >= 200  # however large it is
    assert affordable(texts[:40], 10**12) == texts[:40]  # a few are never thinned


def test_weights_that_are_looked_up_are_not_multiplied() -> None:
    table, weight, bias = (np.zeros(shape, np.float32) for shape in ((50, 8), (8, 4), (4,)))
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
        helper.make_node("Add", ["y", "bias"], ["z"]),
    ]
    arrays = [numpy_helper.from_array(a, n) for a, n in ((table, "table"), (weight, "weight"), (bias, "bias"))]
    graph = helper.make_graph(nodes, "g", [], [], arrays)
    assert multiplied_weights(helper.make_model(graph)) == 32


def test_a_prompts_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b'\xef\xbb\xbf{"query": "q: "}')
    assert read_prompts(tmp_path / "p.json").texts == {"query": "q: "}
