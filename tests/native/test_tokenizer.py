"""The native tokenizer beside the library: the same ids, or none."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from embedrt.errors import BundleFormatError, BundleIntegrityError
from embedrt.executors import tokenizer as native
from embedrt.executors.tokenizer import NativeTokenizer, read_tokenizer
from embedrt.token_ids import TokenIds
from embedrt.tokenizer_json import PairParts, pair_of
from tests import tiny_tokenizers as tiny
from tests.native.chars_map import chars_map

# Of SentencePiece's own kind: letters beside marks that join them, in keys of one character and of several.
CHANGES = {
    "ª": "a", "²": "2", "Å": "Å", "e\u0301": "é", "é": "é", "ﬁ": "fi", "①": "1", "ﷺ": "صلى الله عليه وسلم",
    "\u00a0": " ", "\u3000": " ", "\u200b": " ", "\r\n": " ", "\u0007": "", "½": "1/2", "ｶﾞ": "ガ", "ｶ": "カ", "™": "TM",
    "\u0343": "\u0313", "A\u030a": "Å",
}  # fmt: skip


def wordpiece(**on: Any) -> Tokenizer:
    tokenizer = Tokenizer.from_str(tiny.wordpiece_json())
    tokenizer.normalizer = normalizers.BertNormalizer(**on)
    return tokenizer


def unigram(normalizer: normalizers.Normalizer | None, pre_tokenizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer.from_str(tiny.unigram_json())
    pieces = [tuple(row) for row in json.loads(tiny.unigram_json())["model"]["vocab"]]
    known = {piece for piece, _ in pieces}
    more = ["▁", "é", "가", "각", "ガ", "2", "TM", "a", "aa", "▁the quick", "▁▁", "水", "서울", "🏽"]
    pieces += [(piece, -4.0 - len(piece) / 7) for piece in more if piece not in known]
    tokenizer.model = models.Unigram(pieces, unk_id=3)
    tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def mapped() -> normalizers.Normalizer:
    return normalizers.Precompiled(chars_map(CHANGES))


SORTS: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": lambda: wordpiece(lowercase=True),
    "wordpiece, cased": lambda: wordpiece(lowercase=False),
    "wordpiece, nothing normalized": lambda: wordpiece(
        clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False
    ),
    "unigram": lambda: unigram(mapped()),
    "unigram, spaces collapsed": lambda: unigram(
        normalizers.Sequence([mapped(), normalizers.Replace(Regex(" {2,}"), " ")])
    ),
    "unigram, metaspace only": lambda: unigram(
        normalizers.Sequence([mapped(), normalizers.Strip(left=False), normalizers.Replace(Regex(" {2,}"), "▁")]),
        pre_tokenizers.Metaspace(),
    ),
    "unigram, NFKC": lambda: unigram(normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])),
    "unigram, NFC and stripped": lambda: unigram(
        normalizers.Sequence([normalizers.NFC(), normalizers.Strip()]), pre_tokenizers.Metaspace()
    ),
    "unigram, not normalized": lambda: unigram(None),
}

_ODD = (
    "ª²ÅéﬁﷺÅ½①™İßΣςŉ가각水の\u1100\u1161\u11a8\u0301\u0323\u0343\u200d\u200b\u00a0\u3000\u0085\u2028\ufe0f\ufeff\ufffd"
)
CHARACTERS = st.one_of(
    st.sampled_from(sorted(set("".join(tiny.CORPUS)))),
    st.sampled_from(sorted(_ODD + "▁ \t\r\n\x00\x07\x7f🏽👩©🇰🇷\u0600\u0d4e\u302e_.!?-#[]<>aA")),
    st.characters(exclude_categories=["Cs"]),
)
PARTS = st.one_of(
    CHARACTERS,
    st.sampled_from([word for text in tiny.CORPUS for word in text.split()]),
    st.sampled_from(["e\u0301", "ｶﾞ", "\r\n", "▁the", "x" * 101, "가" * 99, "[MASK]", "<mask>", "[mask]", "##s"]),
)
TEXTS = st.lists(PARTS, max_size=40).map("".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


def write(tokenizer: Tokenizer, path: Path) -> Path:
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    return path


@cache
def both(sort: str, folder: Path) -> tuple[NativeTokenizer, Tokenizer]:
    library = SORTS[sort]()
    found = read_tokenizer(write(library, folder / f"{sort}.json"))
    assert found is not None
    return found, library


@pytest.mark.parametrize("sort", SORTS)
@settings(max_examples=250, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_ids_are_the_librarys(sort: str, folder: Path, texts: list[str]):
    tokenizer, library = both(sort, folder)
    for special in (True, False):
        wanted = [found.ids for found in library.encode_batch(texts, add_special_tokens=special)]
        for ids, want in zip(tokenizer(texts, special=special), wanted, strict=True):
            assert ids is None or ids.tolist() == want
    for text in texts:
        one, (same,) = tokenizer.one(text), tokenizer([text])
        assert (one is None and same is None) or np.array_equal(one, same)


@pytest.mark.parametrize("sort", SORTS)
def test_common_texts_need_no_library(sort: str, folder: Path):
    tokenizer, _ = both(sort, folder)
    texts = [
        *tiny.CORPUS,
        "",
        " ",
        "Crème brûlée für 2 €, das kostet nicht viel!",
        "서울은 대한민국의 수도이다.",
        "東京 👍🏽 ½",
    ]
    assert all(ids is not None for ids in tokenizer(texts))


@pytest.mark.parametrize("sort", ["wordpiece", "unigram"])
def test_what_only_the_library_can_say(sort: str, folder: Path):
    tokenizer, _ = both(sort, folder)
    mask = "[MASK]" if sort == "wordpiece" else "<mask>"
    assert tokenizer([f"a {mask} b", "\u0600a", "a"])[:2] == [None, None]
    assert tokenizer.one(f"a {mask} b") is None


def test_tokens_that_are_found_in_the_normalized_text(tmp_path: Path):
    library = wordpiece(lowercase=True)
    library.add_tokens([AddedToken("HELLO", normalized=True)])
    tokenizer = read_tokenizer(write(library, tmp_path / "t.json"))
    assert tokenizer is not None
    assert tokenizer.one("say hello") is None
    assert tokenizer.one("say hallo") is not None


def test_ids_that_outnumber_the_bytes(folder: Path):
    """Room for them is found on the second try."""
    tokenizer, library = both("unigram", folder)
    text = "ﷺ" * 50
    want = library.encode(text).ids
    assert len(want) > len(text.encode()) + 2 * 64
    one, (several, short) = tokenizer.one(text), tokenizer([text, "fox"])
    assert one.tolist() == several.tolist() == want
    assert short.tolist() == library.encode("fox").ids


@pytest.mark.parametrize(
    "spell",
    [lambda text: text, lambda text: json.dumps(json.loads(text)), lambda text: json.dumps(json.loads(text), indent=2)],
)
def test_json_however_it_is_written(spell: Callable[[str], str], tmp_path: Path):
    """Escapes, of characters beyond 16 bits too, and white space; the vocabulary before and behind the rest."""
    library = unigram(None)
    vocab = [
        *((piece, score) for piece, score in json.loads(library.to_str())["model"]["vocab"]),
        ('"\\/\n\t', -3.5),
        ("👍🏽", -1e-3),
    ]
    library.model = models.Unigram(vocab, unk_id=3)
    path = tmp_path / "t.json"
    path.write_text(spell(library.to_str()), encoding="utf-8")
    tokenizer = read_tokenizer(path)
    assert tokenizer is not None
    for text in ('x "\\/\n\t y', "👍🏽 👍", "the quick"):
        assert tokenizer.one(text).tolist() == library.encode(text).ids


def test_of_equal_pieces_the_last_counts(tmp_path: Path):
    library = unigram(None)
    vocab = [tuple(row) for row in json.loads(library.to_str())["model"]["vocab"]]
    library.model = models.Unigram([*vocab, ("▁zz", -1.0), ("▁zz", -50.0)], unk_id=3)
    tokenizer = read_tokenizer(write(library, tmp_path / "t.json"))
    assert tokenizer is not None
    assert tokenizer.one("zz").tolist() == library.encode("zz").ids


def _other(change: str) -> Tokenizer:
    found = unigram(None) if "unigram" in change else wordpiece(lowercase=True)
    match change:
        case "another normalizer":
            found.normalizer = normalizers.Lowercase()
        case "case without accents":
            found.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
        case "another pre-tokenizer":
            found.pre_tokenizer = pre_tokenizers.Whitespace()
        case "unigram with a metaspace before the first word":
            found.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        case "unigram with bytes":
            pieces = [(f"<0x{i:02X}>", -20.0) for i in range(256)]
            found.model = models.Unigram([("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces], 2, byte_fallback=True)
        case "a byte pair encoding":
            found.model = models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])
        case "a text twice":
            found.post_processor = processors.TemplateProcessing("[CLS] $A $A", None, [("[CLS]", 2)])
        case "unigram that knows no unknown":
            found.model = models.Unigram([("a", 0.0)], None)
    return found


@pytest.mark.parametrize(
    "change",
    [
        "another normalizer",
        "case without accents",
        "another pre-tokenizer",
        "unigram with a metaspace before the first word",
        "unigram with bytes",
        "a byte pair encoding",
        "a text twice",
        "unigram that knows no unknown",
    ],
)
def test_what_is_not_followed_is_the_librarys(change: str, tmp_path: Path):
    library = _other(change)
    path = write(library, tmp_path / "t.json")
    assert read_tokenizer(path) is None
    asked: list[bool] = []
    ids = TokenIds(path, lambda: asked.append(True))
    assert (ids.is_native, asked) == (False, [True])
    if change != "unigram that knows no unknown":
        texts = ["a quick brown fox", "b"]
        assert [row.tolist() for row in ids.several(texts)] == [library.encode(text).ids for text in texts]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"model": {"vocab": {"a": -1}}}', '{"model": {"vocab": [["a"]]}}', "\x00", '{"a": "\\']
)
def test_a_file_that_is_none_is_named_by_the_library(text: str, tmp_path: Path):
    path = tmp_path / "t.json"
    path.write_text(text)
    assert read_tokenizer(path) is None
    with pytest.raises(BundleFormatError, match="cannot be read by tokenizers"):
        TokenIds(path)


def _with_map(precompiled: bytes, path: Path) -> Path:
    described = json.loads(unigram(mapped()).to_str())
    described["normalizer"]["precompiled_charsmap"] = b64encode(precompiled).decode()
    path.write_text(json.dumps(described))
    return path


def test_a_map_that_is_cut_short_is_not_read(tmp_path: Path):
    whole = chars_map(CHANGES)
    for size in (0, 3, 5, len(whole) // 2):
        assert read_tokenizer(_with_map(whole[:size], tmp_path / "t.json")) is None


def test_a_map_to_what_is_no_text_is_not_read(tmp_path: Path):
    whole = chars_map(CHANGES)
    assert read_tokenizer(_with_map(whole, tmp_path / "t.json")) is not None
    assert read_tokenizer(_with_map(whole[:-2] + b"\xc3\0", tmp_path / "t.json")) is None


@settings(max_examples=200, deadline=None)
@given(changed=st.dictionaries(st.integers(0, 1 << 16), st.integers(0, 255), min_size=1, max_size=20), text=TEXTS)
def test_a_damaged_map_does_no_harm(folder: Path, changed: dict[int, int], text: str):
    """It is not read, or gives ids of the vocabulary; sanitizers see what it reads."""
    damaged = bytearray(chars_map(CHANGES))
    for place, byte in changed.items():
        damaged[place % len(damaged)] = byte
    tokenizer = read_tokenizer(_with_map(bytes(damaged), folder / "damaged.json"))
    ids = None if tokenizer is None else tokenizer.one(text + "".join(CHANGES))
    assert ids is None or (ids.min() >= 0 and ids.max() < len(json.loads(unigram(None).to_str())["model"]["vocab"]))


def test_an_outcome_that_begins_within_a_character_is_none(tmp_path: Path):
    """Such a map is nobody's; the text stays as it is."""
    whole, begin = chars_map(CHANGES), "صلى".encode()
    (place,) = (i for i in range(len(whole) - 3) if whole[i : i + 4] == _unit_of(whole, begin))
    moved = whole[:place] + struct.pack("<I", struct.unpack_from("<I", whole, place)[0] + 1) + whole[place + 4 :]
    tokenizer = read_tokenizer(_with_map(moved, tmp_path / "t.json"))
    plain = read_tokenizer(write(unigram(None), tmp_path / "plain.json"))
    assert tokenizer is not None
    assert plain is not None
    assert np.array_equal(tokenizer.one("ﷺ"), plain.one("ﷺ"))


def _unit_of(whole: bytes, outcome: bytes) -> bytes:
    """The unit that names the place of an outcome."""
    outcomes = 4 + struct.unpack_from("<I", whole)[0]
    return struct.pack("<I", 1 << 31 | whole.index(outcome, outcomes) - outcomes)


def test_without_the_native_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from embedrt.errors import DependencyError

    def missing() -> Any:
        raise DependencyError("not built")

    monkeypatch.setattr(native, "load_library", missing)
    ids = TokenIds(write(wordpiece(lowercase=True), tmp_path / "t.json"))
    assert not ids.is_native
    assert ids.one("fox").tolist() == wordpiece(lowercase=True).encode("fox").ids


def test_the_library_is_read_when_a_text_needs_it(tmp_path: Path):
    """And gives what it does."""
    path = write(wordpiece(lowercase=True), tmp_path / "t.json")
    library = Tokenizer.from_file(str(path))
    ids = TokenIds(path)
    texts = ["a quick fox", "a [MASK] fox", "", "[SEP]"]
    assert [row.tolist() for row in ids.several(texts)] == [library.encode(text).ids for text in texts]
    assert ids.one("a [MASK] fox").tolist() == library.encode("a [MASK] fox").ids


def test_a_file_that_was_changed_is_not_read_later(tmp_path: Path):
    path = write(wordpiece(lowercase=True), tmp_path / "t.json")
    ids = TokenIds(path)
    os.utime(path, ns=(1, 1))
    ids.one("fox")
    with pytest.raises(BundleIntegrityError, match="was changed while it was in use; load the bundle again"):
        ids.one("a [MASK] fox")


def test_it_is_not_imported_where_nothing_needs_it(tmp_path: Path):
    path = write(wordpiece(lowercase=True), tmp_path / "t.json")
    program = (
        "import sys; from pathlib import Path; from embedrt.tokenization import TextTokenizer\n"
        f"t = TextTokenizer(Path({str(path)!r}), 64); t(['a fox', 'long ' * 9999])\n"
        "t.pair_parts(); t.prompt_tokens('query: ')\n"
        "assert 'tokenizers' not in sys.modules; t.pieces('a'); assert 'tokenizers' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "processor",
    [
        processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
        processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2)),
        processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]),
        processors.TemplateProcessing("$A", "$A [SEP] [SEP]:1 $B [SEP]", [("[SEP]", 3)]),
        processors.TemplateProcessing("[CLS] $A", "[CLS] $B [SEP] $A", [("[CLS]", 2), ("[SEP]", 3)]),
    ],
)
def test_special_tokens_are_the_librarys(processor: Any, tmp_path: Path):
    library = wordpiece(lowercase=True)
    library.post_processor = processor
    path = write(library, tmp_path / "t.json")
    ids = TokenIds(path)
    assert ids.is_native
    found = library.encode("fox").ids
    bare = library.encode("fox", add_special_tokens=False).ids
    before, after = ids.special() or ([], [])
    assert before + bare + after == found
    by_library = TokenIds(path)
    by_library._native, by_library._library = None, library
    known = pair_of(json.loads(library.to_str())["post_processor"])
    if known is None:  # the second text first: only the library says what that means
        return
    assert ids.pair_parts() == by_library.pair_parts() == known
    assert isinstance(known, PairParts)


def test_several_threads(folder: Path):
    tokenizer, library = both("unigram", folder)
    texts = tiny.CORPUS * 40
    wanted = [library.encode(text).ids for text in texts]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(10):
            if [ids.tolist() for ids in tokenizer(texts) if ids is not None] != wanted:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_real_texts_in_205_languages(shared_data: Path):
    """XLM-R's own tokenizer; every text without the library."""
    tokenizer = read_tokenizer(shared_data / "me5_large_instruct" / "tokenizer.json")
    assert tokenizer is not None
    with gzip.open(shared_data / "tokenizer_refs" / "hf_tokenizers_ids.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][::4]
    for row, ids in zip(rows, tokenizer([row["t"] for row in rows]), strict=True):
        assert ids.tolist() == row["i"]
