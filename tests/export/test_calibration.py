from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from embedrt.errors import OptionError
from embedrt_export.calibration import read_calibration
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


def test_a_prompts_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b'\xef\xbb\xbf{"query": "q: "}')
    assert read_prompts(tmp_path / "p.json").texts == {"query": "q: "}
