from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from embedrt.errors import FileFormatError
from embedrt.parity.texts import builtin_texts, read_texts, shorten

SCRIPTS = (
    "LATIN HANGUL HIRAGANA KATAKANA CJK ARABIC HEBREW THAI DEVANAGARI CYRILLIC GREEK "
    "BENGALI TAMIL GEORGIAN ARMENIAN ETHIOPIC"
)


def test_scripts_by_their_unicode_names() -> None:
    found = {unicodedata.name(char, "").split(" ")[0] for text in builtin_texts() for char in text}
    assert set(SCRIPTS.split()) <= found


def test_they_are_many_unique_and_encodable() -> None:
    texts = builtin_texts()
    assert len(texts) >= 220
    assert len(set(texts)) == len(texts)
    assert all(text.encode() is not None for text in texts)
    assert json.loads(json.dumps(texts)) == list(texts)


def test_they_hold_what_breaks_things() -> None:
    texts = builtin_texts()
    together = "".join(texts)
    assert "" in texts
    assert " " in texts
    assert "\n" in texts
    assert all(chr(code) in together for code in range(0x20))
    for char in "\u200b\u200d\u200f\u202e\u00a0\u3000\ufeff\u2028\x7f\x85":
        assert char in together, f"U+{ord(char):04X}"
    assert "👩‍👩‍👧‍👦" in together
    assert "🇰🇷" in together
    assert "<script>" in together
    assert any(len(text) > 500 and " " not in text for text in texts)
    assert any("  " in text.strip() for text in texts)


def test_some_spellings_differ_only_in_normalization() -> None:
    texts = builtin_texts()
    composed = {unicodedata.normalize("NFC", text) for text in texts}
    assert len(texts) - len(composed) >= 4


def test_lengths_go_from_nothing_to_far_beyond_limits() -> None:
    texts = builtin_texts()
    lengths = sorted(map(len, texts))
    assert lengths[0] == 0
    assert sum(length == 1 for length in lengths) >= 15
    assert lengths[-1] > 3000
    words = {len(text.split()) for text in texts}
    for limit in (128, 256, 512):
        assert {limit - 3, limit - 2, limit - 1} <= words  # two special tokens come on top


def test_long_texts_do_not_repeat_themselves() -> None:
    (english,) = (text for text in builtin_texts() if text.startswith("(1) It has been raining") and len(text) > 2000)
    assert "(60) " in english


def read(tmp_path: Path, name: str, content: str | bytes) -> tuple[str, ...]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_texts(path)


def test_text_files_have_one_text_per_line(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "\ufeffone\r\ntwo \u2028 still two\x0c\n\nfour") == (
        "one",
        "two \u2028 still two\x0c",
        "",
        "four",
    )


def test_jsonl_has_strings_and_objects(tmp_path: Path) -> None:
    assert read(tmp_path, "a.jsonl", '"one"\n\n{"text": "two\\u0000", "id": 2}\n') == ("one", "two\x00")


def test_json_has_a_list(tmp_path: Path) -> None:
    assert read(tmp_path, "a.json", '["한국어", {"text": "two"}]') == ("한국어", "two")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x", "must end in one of .txt, .jsonl, .json"),
        ("a.txt", "", "holds no texts"),
        ("a.txt", b"abc\xff", "not UTF-8: byte 3 is 0xff"),
        ("a.jsonl", '"one"\n{broken', "line 2: not JSON"),
        ("a.jsonl", '"one"\n42', "line 2: must be a string"),
        ("a.jsonl", '{"body": "x"}', "line 1: must be a string"),
        ("a.json", '{"text": "x"}', "must hold a list"),
        ("a.json", '["one", null]', "item 2: must be a string"),
        ("a.json", '["\\ud800"]', "item 1: has a lone surrogate at character 0"),
        ("a.json", "[" * 200_000, "not JSON"),
    ],
)
def test_other_files_are_refused_with_the_place(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        read(tmp_path, name, content)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot be read: No such file"):
        read_texts(tmp_path / "none.txt")


def test_shorten() -> None:
    assert shorten("plain") == "plain"
    assert shorten("x" * 100, limit=10) == "x" * 9 + "…"
    assert shorten("a\x00b\nc\td") == "a\\x00b\\nc\\td"
    assert shorten("\u202eabc\u200f") == "\\u{202e}abc\\u{200f}"
    assert shorten("👩‍👩‍👧‍👦") == "👩‍👩‍👧‍👦"
