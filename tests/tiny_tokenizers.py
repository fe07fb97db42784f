"""Texts in several languages, and small tokenizers learned from them; without torch, where that is not installed."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.training import learn_merges, learn_pieces, numbered, words_of

CORPUS = (
    "The quick brown fox jumps over the lazy dog.",
    "How much protein should a female eat every day?",
    "서울은 대한민국의 수도이다. 오늘 날씨가 좋다.",
    "日本の首都は東京です。今日は天気がいい。",
    "南瓜的家常做法有很多种。",
    "Где находится ближайшая станция метро?",
    "كيف حالك اليوم؟",
    "Ein kleiner Test mit deutschen Wörtern.",
)


@cache
def wordpiece_json() -> str:
    """A lower-casing WordPiece tokenizer of BERT's kind: [CLS] text [SEP]."""
    tokenizer = Tokenizer(models.WordPiece({}))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    symbols, _ = learn_merges(words_of(tokenizer, CORPUS), 395, inside="##")
    tokenizer.model = models.WordPiece(numbered([*special, *symbols]), unk_token="[UNK]")
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]"))
    )
    return str(tokenizer.to_str())


@cache
def unigram_json() -> str:
    """A Unigram tokenizer of XLM-R's kind: <s> text </s>, ids <s> 0, <pad> 1, </s> 2, <unk> 3."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = learn_pieces(words_of(tokenizer, CORPUS), 120)
    tokenizer.model = models.Unigram([*((token, 0.0) for token in special), *pieces], unk_id=3)
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return str(tokenizer.to_str())
