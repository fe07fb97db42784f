"""What newcomers give where texts are expected, and what they type for a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

INPUTS = {
    "book.xlsx": "is a spreadsheet: save it as CSV",
    "paper.pdf": "is a document: save its texts, one per line",
    "글.hwp": "is a document: save its texts, one per line",
    "vectors.npy": "is an array of numbers: texts are expected",
    "notes.sqlite": "is a database: save the texts as CSV",
    "notes.zip": "is an archive: unpack it",
    "notes.text": "unknown suffix '.text'; known: .txt, ",
}


@pytest.mark.parametrize("name", INPUTS)
def test_files_that_hold_no_texts_say_what_to_do(cli: Any, lookup_bundle: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"water\n")
    assert INPUTS[name] in cli.fails("embed", lookup_bundle, tmp_path / name, "-o", tmp_path / "out.npy")
    cli.ok("embed", lookup_bundle, tmp_path / name, "-o", tmp_path / "out.npy", "--input-format", "txt")


def test_a_folder_without_pictures_is_none_of_pictures(
    cli: Any, lookup_bundle: Path, clip_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("water\n")
    for bundle in (lookup_bundle, clip_bundle):
        said = cli.fails("embed", bundle, tmp_path / "texts", "-o", tmp_path / "out.npy")
        assert "texts is a folder, and holds no pictures" in said
        assert "texts are given as one file" in said


@pytest.mark.parametrize("address", ["https://example.com/texts.txt", "s3://bucket/texts.jsonl"])
def test_an_address_is_not_fetched(cli: Any, lookup_bundle: Path, tmp_path: Path, address: str) -> None:
    said = cli.fails("embed", lookup_bundle, address, "-o", tmp_path / "out.npy")
    assert "is an address, and nothing is fetched" in said


@pytest.mark.parametrize(
    ("typed", "meant"), [("version", "--version"), ("encode", "embed"), ("ls", "list"), ("serv", "serve")]
)
def test_commands_of_other_programs_lead_to_ours(cli: Any, typed: str, meant: str) -> None:
    assert f"Did you mean: {meant}" in cli.fails(typed, code=2)
