"""What a load does side by side."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any, NoReturn

import pytest

from embedrt import BundleIntegrityError, ExecutorError, loading
from embedrt.loading import load_beside
from embedrt.opening import open_bundle
from embedrt.tokenization import TextTokenizer


@pytest.fixture
def own_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def fails() -> NoReturn:
    raise ExecutorError("no such executor")


def test_the_executor_loads_while_the_tokenizer_is_read(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, read = threading.Event(), threading.Event()

    def executor() -> bool:
        began.set()
        return read.wait(20)

    def tokenizer(*given: Any) -> TextTokenizer:
        assert began.wait(20)
        read.set()
        return TextTokenizer(*given)

    monkeypatch.setattr(loading, "TextTokenizer", tokenizer)
    found, waited = load_beside(open_bundle(tiny_bundle), "int8", executor, verify_hashes=True)
    assert waited
    assert len(found.ids(["fox"])) == 1


def test_an_executor_that_cannot_load_says_so(tiny_bundle: Path) -> None:
    with pytest.raises(ExecutorError, match="no such executor"):
        load_beside(open_bundle(tiny_bundle), "int8", fails, verify_hashes=True)


@pytest.mark.parametrize("damaged", ["tokenizer.json", "int8/weights.bin"])
def test_a_damaged_file_is_told_before_what_others_make_of_it(own_bundle: Path, damaged: str) -> None:
    data = bytearray((own_bundle / damaged).read_bytes())
    data[0] ^= 1
    (own_bundle / damaged).write_bytes(data)
    with pytest.raises(BundleIntegrityError, match=f"{damaged} does not match its sha256"):
        load_beside(open_bundle(own_bundle), "int8", fails, verify_hashes=True)


@pytest.mark.parametrize("verify_hashes", [False, True])
def test_a_file_that_has_become_shorter_is_told(own_bundle: Path, verify_hashes: bool) -> None:
    opened = open_bundle(own_bundle)
    (own_bundle / "int8/weights.bin").write_bytes(b"")
    with pytest.raises(BundleIntegrityError, match=r"int8/weights\.bin"):
        load_beside(opened, "int8", lambda: None, verify_hashes=verify_hashes)
