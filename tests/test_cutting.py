"""Long texts are tokenized part by part: the ids that are kept are those of the whole text."""

from __future__ import annotations

import copy
import gzip
import json
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from embedrt import cutting, tokenization
from embedrt.cutting import Cuts, prove
from embedrt.token_ids import TokenIds
from embedrt.tokenization import TextTokenizer, UnbrokenTextError
from tests import tiny
from tests.training import learn_merges, numbered, words_of


def _bpe(pre_tokenizer: pre_tokenizers.PreTokenizer) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer
    special, alphabet = ["<s>", "</s>"], sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols, merges = learn_merges(words_of(tokenizer, tiny.CORPUS), 500)
    tokenizer.model = models.BPE(numbered([*special, *alphabet, *symbols]), merges)
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 1)])
    return str(tokenizer.to_str())


def _unparted_bpe() -> str:
    """As Llama's: words begin with "▁", and nothing parts them before the model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    words = [word for text in tiny.CORPUS for word in text.split()]
    symbols, merges = learn_merges(words_of(tokenizer, words), 399)
    tokenizer.model = models.BPE(numbered(["<unk>", *symbols]), merges, unk_token="<unk>")
    tokenizer.add_special_tokens(["<unk>"])
    return str(tokenizer.to_str())


def _metaspace_only() -> str:
    tokenizer = Tokenizer.from_str(tiny.unigram_json())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return str(tokenizer.to_str())


SORTS = {
    "wordpiece": tiny.wordpiece_json,
    "unigram": tiny.unigram_json,
    "unigram, metaspace only": _metaspace_only,
    "byte-level": lambda: _bpe(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "byte-level with a space in front": lambda: _bpe(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "unparted": _unparted_bpe,
}


@cache
def tokenizer_of(sort: str, folder: Path) -> TextTokenizer:
    path = folder / f"{sort}.json"
    path.write_text(SORTS[sort]())
    return TextTokenizer(path, 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


WORDS = st.one_of(
    st.sampled_from([word for text in tiny.CORPUS for word in text.split()]),
    st.text(alphabet="abcdeéßΣσж水のガｶﾞ가각ا\u0301\u0e01\u0e33\u0d4e_.,'\"。?!-▁\u200d\u00a0²１a9<>[]", max_size=12),
)
GAPS = st.sampled_from([" ", " ", " ", "\n", "\n", "  ", "\n\n", "\t", " \n", "\r\n", "\u3000", ". ", "\u2009"])
TEXTS = st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=60).map(lambda rows: "".join(w + g for w, g in rows))


@pytest.mark.parametrize("sort", SORTS)
@settings(max_examples=120, deadline=None)
@given(text=TEXTS)
def test_parts_give_the_ids_of_the_whole(sort: str, folder: Path, text: str):
    tokenizer = tokenizer_of(sort, folder)
    raw = tokenizer._ids.library
    bare = raw.encode(text, add_special_tokens=False).ids
    for size in (1, 7, 40):
        for from_end in (False, True):
            found = [
                raw.encode(text[span], add_special_tokens=False).ids
                for span in tokenizer.spans(text, from_end=from_end, size=size)
            ]
            assert [i for ids in (reversed(found) if from_end else found) for i in ids] == bare


@pytest.mark.parametrize("keep_end", [False, True])
@pytest.mark.parametrize("sort", SORTS)
def test_a_long_text_is_cut_as_if_it_were_tokenized_whole(
    sort: str, folder: Path, keep_end: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tokenization, "_PART_CHARACTERS", 64)
    monkeypatch.setattr(tokenization, "_CHARACTERS_PER_TOKEN", 1)
    tokenizer = tokenizer_of(sort, folder)
    texts = [f"{i} {text} " * (i + 1) for i in range(14) for text in tiny.CORPUS]
    done = tokenizer(texts, keep_end=keep_end)
    wholes = [np.array(tokenizer._ids.library.encode(text).ids, np.int32) for text in texts]
    assert [row.tolist() for row in done.token_ids] == [tokenizer.cut(i, keep_end=keep_end).tolist() for i in wholes]
    for k, (count, whole) in enumerate(zip(done.num_tokens, wholes, strict=True)):
        assert count == len(whole) if k not in done.at_least else tokenizer.max_tokens + 64 <= count <= len(whole)
    assert len(done.at_least) > 10
    assert tokenizer.ids(texts) == [ids.tolist() for ids in wholes]


def test_where_texts_are_cut():
    cuts = Cuts({" ": True, "\n": False})
    text = "one two\nthree  four - five. Six"

    def parts(text: str, size: int) -> list[str]:
        return [text[span] for span in cuts.spans(text, size)]

    def from_end(text: str, size: int) -> list[str]:
        return [text[span] for span in cuts.spans_from_end(text, size)]

    assert parts(text, 5) == ["one", " two", "three  four - five.", " Six"]
    assert from_end(text, 5) == [" Six", "three  four - five.", " two", "one"]
    assert parts(text, 100) == from_end(text, 100) == [text]
    assert parts("one two", 4) == parts("one two", 3) == ["one", " two"]
    assert from_end("one two", 4) == [" two", "one"]
    assert [text[span] for span in cuts.spans(text, 5, longest=9)] == ["one", " two", "three  fou"]
    assert [text[span] for span in cuts.spans_from_end(text, 5, longest=9)] == [" Six", "ur - five."]
    assert parts("", 5) == [""]
    assert parts("one" * 9, 5) == from_end("one" * 9, 5) == ["one" * 9]


@settings(deadline=None)
@given(text=TEXTS, size=st.integers(1, 60))
def test_places_to_cut_are_the_same_however_much_is_searched_at_once(text: str, size: int):
    cuts = Cuts({" ": True, "\n": True})
    whole = list(cuts.spans(text, size)), list(cuts.spans_from_end(text, size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_SEARCHED", 5)
        assert (list(cuts.spans(text, size)), list(cuts.spans_from_end(text, size))) == whole


def _changed(sort: str, change: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(SORTS[sort]())
    match change:
        case "a token with a space":
            tokenizer.add_tokens(["fox jumps"])
        case "a token that takes the space after it":
            tokenizer.add_tokens([AddedToken("brown", rstrip=True)])
        case "a token that takes the space before it":
            tokenizer.add_tokens([AddedToken("brown", lstrip=True)])
        case "an unknown pattern":
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+ \w+"), "isolated")
        case "an unknown normalizer":
            tokenizer.normalizer = normalizers.Replace(Regex(r"(\w) (\w)"), "x")
        case "words that are not parted":
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
        case "byte-level without words":
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False)
    return tokenizer


def proven(described: str, folder: Path) -> Cuts | None:
    """Where a tokenizer lets its texts be cut, whether it is followed natively or not."""
    (folder / "proven.json").write_text(described, encoding="utf-8")
    found = TextTokenizer(folder / "proven.json", 8)._cuts()
    by_library = TokenIds(folder / "proven.json")
    by_library._native, by_library._library = None, by_library.library
    assert prove(by_library.pipeline, partial(by_library.several, special=False)) == found
    return found


@pytest.mark.parametrize(
    ("sort", "change"),
    [
        ("wordpiece", "a token with a space"),
        ("byte-level", "a token that takes the space after it"),
        ("byte-level", "a token that takes the space before it"),
        ("wordpiece", "an unknown pattern"),
        ("wordpiece", "an unknown normalizer"),
        ("unigram", "words that are not parted"),
        ("byte-level", "byte-level without words"),
    ],
)
def test_what_is_not_known_to_be_safe_stays_whole(sort: str, change: str, tmp_path: Path):
    assert proven(SORTS[sort](), tmp_path) is not None
    changed = _changed(sort, change)
    assert proven(changed.to_str(), tmp_path) is None
    changed.save(str(tmp_path / "tokenizer.json"))
    text = "the quick brown fox jumps " * 1000
    done = TextTokenizer(tmp_path / "tokenizer.json", 8)([text])
    assert done.num_tokens == (len(changed.encode(text).ids),)
    assert not done.at_least


def test_where_spaces_part_nothing_newlines_may(tmp_path: Path):
    tokenizer = Tokenizer.from_str(tiny.wordpiece_json())
    tokenizer.normalizer = normalizers.Replace(" ", "")
    assert proven(tokenizer.to_str(), tmp_path) == Cuts({"\n": True})


def test_a_piece_that_reaches_over_a_space_forbids_cuts(tmp_path: Path):
    described = json.loads(_unparted_bpe())
    described["model"]["vocab"]["s▁"] = len(described["model"]["vocab"])
    assert proven(_unparted_bpe(), tmp_path) == Cuts({" ": False})
    assert proven(json.dumps(described), tmp_path) is None


def test_a_stretch_without_a_place_to_cut_may_be_limited(folder: Path):
    tokenizer = tokenizer_of("wordpiece", folder)
    texts = ["fox", "fox " * 9000, "x" * 9000]
    with pytest.raises(UnbrokenTextError) as caught:
        tokenizer(texts, longest_part=8999)
    assert (caught.value.position, caught.value.characters) == (2, 9000)
    assert len(tokenizer(texts, longest_part=9000).token_ids) == 3


def test_a_copy_with_another_limit_shares_the_proof(folder: Path):
    tokenizer = tokenizer_of("wordpiece", folder)
    assert copy.copy(tokenizer)._cuts() is tokenizer._cuts()
    assert tokenizer.limited(8)._cuts() is tokenizer._cuts()


@pytest.mark.slow
def test_published_texts_in_parts_have_the_published_ids(shared_data: Path):
    """XLM-R's tokenizer, texts of 205 languages joined to long ones."""
    tokenizer = TextTokenizer(shared_data / "me5_large_instruct" / "tokenizer.json", 512)
    with gzip.open(shared_data / "tokenizer_refs" / "hf_tokenizers_ids.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["t"] for line in lines][::7]
    for begin in range(0, len(texts), 500):
        text = " ".join(texts[begin : begin + 500])
        whole = tokenizer._ids.library.encode(text, add_special_tokens=False).ids
        parts = [text[span] for span in tokenizer.spans(text, size=500)]
        found = tokenizer._ids.library.encode_batch_fast(parts, add_special_tokens=False)
        assert [i for one in found for i in one.ids] == whole
        assert len(parts) > 10
