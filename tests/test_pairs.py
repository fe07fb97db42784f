"""Pairs of texts to token ids, against transformers' own fast tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from embedrt.errors import InputError, OptionError, TokenLimitError
from embedrt.heads import PairTemplate, ScoreHead
from embedrt.pairs import PairCut, PairTokenizer, longest_first
from embedrt.tokenization import TextTokenizer
from tests import tiny, tiny_rerankers

TEXTS = (tiny.CORPUS[0], tiny.CORPUS[2], "", " ", "a", "fox " * 40, "лиса " * 30, "\u0000 control \u202e", "😀🏽")
TOKENIZERS: dict[str, Any] = {
    "bert": tiny._bert_tokenizer,
    "xlmr": tiny._xlmr_tokenizer,
    "modernbert": tiny._typeless_tokenizer,
    "qwen3": tiny_rerankers.qwen_tokenizer,
}


def head(*, has_types: bool = False, template: PairTemplate | None = None) -> ScoreHead:
    return ScoreHead(("cls",), (), ("score",), "identity", has_types, template)


def made(own: Any, path: Path, limit: int, **options: Any) -> PairTokenizer:
    file = path / "tokenizer.json"
    file.write_text(own.backend_tokenizer.to_str())
    return PairTokenizer(TextTokenizer(file, limit), head(**options))


@pytest.mark.parametrize("limit", [8, 9, 24, 512])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_pairs_are_transformers_own(tmp_path: Path, name: str, limit: int) -> None:
    own = TOKENIZERS[name]()
    has_types = "token_type_ids" in own.model_input_names
    tokenizer = made(own, tmp_path, limit, has_types=has_types)
    pairs = [(one, two) for one in TEXTS for two in TEXTS]
    wanted = own([p[0] for p in pairs], [p[1] for p in pairs], truncation="longest_first", max_length=limit)
    whole = own([p[0] for p in pairs], [p[1] for p in pairs])
    for k, pair in enumerate(tokenizer(pairs)):
        assert pair.ids.tolist() == wanted["input_ids"][k], pairs[k]
        assert pair.num_tokens == len(whole["input_ids"][k])
        if has_types:
            types = (np.arange(len(pair)) >= pair.second).astype(int)
            assert types.tolist() == wanted["token_type_ids"][k]
        else:
            assert pair.second == len(pair)


@pytest.mark.parametrize("limit", [8, 9, 24, 512])
@pytest.mark.parametrize("name", ["bert", "xlmr", "modernbert"])
def test_pairs_are_cut_on_the_left_as_tokenizers_does_it(tmp_path: Path, name: str, limit: int) -> None:
    own = TOKENIZERS[name]()
    has_types = "token_type_ids" in own.model_input_names
    tokenizer = made(own, tmp_path, limit, has_types=has_types)
    backend = own.backend_tokenizer
    backend.enable_truncation(limit, strategy="longest_first", direction="left")
    pairs = [(one, two) for one in TEXTS for two in TEXTS]
    for pair, found in zip(pairs, tokenizer(pairs, "", PairCut(keep_end=True)), strict=True):
        wanted = backend.encode(*pair)
        assert found.ids.tolist() == wanted.ids, pair
        if has_types:
            assert (np.arange(len(found)) >= found.second).astype(int).tolist() == wanted.type_ids


def test_very_long_texts_are_cut_on_the_left(tmp_path: Path) -> None:
    own = tiny._bert_tokenizer()
    tokenizer = made(own, tmp_path, 256, has_types=True)
    own.backend_tokenizer.enable_truncation(256, strategy="longest_first", direction="left")
    words = "quick brown fox. " * 600 + "the end"
    for pair in [("fox", words), (words, "fox"), (words, words + "more")]:
        (found,) = tokenizer([pair], "", PairCut(keep_end=True))
        assert found.ids.tolist() == own.backend_tokenizer.encode(*pair).ids


@pytest.mark.parametrize("keep_end", [False, True])
def test_a_documents_tokens_are_cut_before_the_pair(tmp_path: Path, keep_end: bool) -> None:
    own = tiny._bert_tokenizer()
    tokenizer = made(own, tmp_path, 64, has_types=True)
    document = "the quick brown fox jumps over the lazy dog " * 1000
    ids = own.backend_tokenizer.encode(document, add_special_tokens=False).ids
    (found,) = tokenizer([("fox", document)], "", PairCut(keep_end, 5))
    kept = ids[-5:] if keep_end else ids[:5]
    fox = own("fox")["input_ids"]
    assert found.ids.tolist() == [*fox, *kept, fox[-1]]
    assert found.num_tokens == len(found)


def test_a_text_alone_is_transformers_own(tmp_path: Path) -> None:
    own = tiny._bert_tokenizer()
    tokenizer = made(own, tmp_path, 16, has_types=True)
    texts = [text for text in TEXTS if text]
    for text, found in zip(texts, tokenizer([(text, None) for text in texts]), strict=True):
        assert found.ids.tolist() == own(text, truncation=True, max_length=16)["input_ids"]
        assert found.second == len(found)


def test_very_long_texts_are_cut_as_if_they_were_tokenized_whole(tmp_path: Path) -> None:
    own = tiny._bert_tokenizer()
    tokenizer = made(own, tmp_path, 256, has_types=True)
    words = "quick brown fox. " * 600  # 10,200 characters, of which no more is tokenized than is kept
    for one, two in [("fox", words), (words, "fox"), (words, words + "more"), (words + "more", words)]:
        # What is cut transformers keeps in pieces of the limit, each of one text with each of the other.
        wanted = own(one, two, truncation="longest_first", max_length=256)
        (pair,) = tokenizer([(one, two)])
        assert pair.ids.tolist() == wanted["input_ids"]
        assert pair.num_tokens > 256


def test_a_prompt_goes_before_the_first_text(tmp_path: Path) -> None:
    tokenizer = made(tiny._bert_tokenizer(), tmp_path, 64)
    (told,), (plain,) = tokenizer([("fox", "dog")], "query: "), tokenizer([("query: fox", "dog")])
    np.testing.assert_array_equal(told.ids, plain.ids)


@settings(max_examples=100, deadline=None)
@given(one=st.integers(0, 40), two=st.integers(0, 40), room=st.integers(1, 50))
def test_longest_first_is_tokenizers_strategy(one: int, two: int, room: int) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(room, strategy="longest_first")
    ids = tokenizer.encode("a " * one, "b " * two).ids
    assert longest_first(one, two, room) == (ids.count(0), ids.count(1))


TEMPLATE = PairTemplate("Judge {instruction}.\nQuery: {query}\nDocument: {document}", "<|im_end|>\nanswer", "it")


def test_a_template_is_cut_before_what_stands_behind_it(tmp_path: Path) -> None:
    own = tiny_rerankers.qwen_tokenizer()
    tokenizer = made(own, tmp_path, 96, template=TEMPLATE)
    after = own("<|im_end|>\nanswer")["input_ids"]
    for document in ("a dog", "{query} {instruction} {document}", "dog " * 90):
        text = f"Judge braces {{query}}.\nQuery: {{document}}\nDocument: {document}"
        (pair,) = tokenizer([("{document}", document)], "braces {query}")
        assert pair.ids.tolist() == own(text)["input_ids"][: 96 - len(after)] + after
        assert pair.second == len(pair)
    (cut,) = tokenizer([("fox", "dog " * 9)], "", PairCut(document_tokens=2))
    head = own("Judge it.\nQuery: fox\nDocument: ")["input_ids"]
    assert len(head) <= len(cut) - len(after) <= len(head) + 2
    with pytest.raises(InputError, match="text 0: this model reads a query and a document"):
        tokenizer([("fox", None)])
    with pytest.raises(OptionError, match="cannot be cut on the left"):
        tokenizer([("fox", "dog")], "", PairCut(keep_end=True))
    (pair,) = tokenizer([("fox", "dog")])
    assert pair.ids.tolist() == own("Judge it.\nQuery: fox\nDocument: dog")["input_ids"] + after


def test_a_query_that_fills_the_limit_alone_is_refused(tmp_path: Path) -> None:
    told = made(tiny_rerankers.qwen_tokenizer(), tmp_path, 48, template=TEMPLATE)
    with pytest.raises(TokenLimitError, match=r"the query has \d+ tokens .* may have 48 together; shorten it"):
        told.check_query("fox " * 50)
    joined = made(tiny._bert_tokenizer(), tmp_path, 16)
    joined.check_query("fox " * 12)  # and three special tokens
    with pytest.raises(TokenLimitError, match="the query has 16 tokens"):
        joined.check_query("fox " * 13)
