"""Bundles with fewer tokens: same tokens, same rows, same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from embedrt import Embedder, OptionError
from embedrt_export.trim import Kept, trimmed
from embedrt_export.trim import bundle as trim_bundle
from embedrt_export.trim.scripts import COMMON, script_of, scripts_of
from embedrt_export.trim.tokenizer import read_vocabulary, trim, with_parts
from tests import tiny
from tests.export.exporting import export
from tests.training import learn_merges, numbered, words_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
KOREAN = ["서울은 대한민국의 수도이다.", "오늘 날씨가 좋다.", "오늘 서울"]


def byte_level_json() -> str:
    """A BPE over bytes, as GPT-2's and Qwen's, with a special token behind the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    symbols, merges = learn_merges(words_of(tokenizer, tiny.CORPUS), 240)
    tokenizer.model = models.BPE(numbered([*sorted(pre_tokenizers.ByteLevel.alphabet()), *symbols]), merges)
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", tokenizer.token_to_id("<end>"))]
    )
    return str(tokenizer.to_str())


TOKENIZERS = {"unigram": tiny.unigram_json, "wordpiece": tiny.wordpiece_json, "byte-level": byte_level_json}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_texts_of_kept_tokens_are_cut_as_before(kind: str, tmp_path: Path) -> None:
    before = TOKENIZERS[kind]()
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(KOREAN), encoding="utf-8")
    small = trimmed(before, Kept(texts=file), ["query: "], 10_000)
    assert small.survivors([*KOREAN, "query: "]) == [*KOREAN, "query: "]
    assert 10 < len(small.rows) < len(read_vocabulary(before).ids)
    old, new = Tokenizer.from_str(before), Tokenizer.from_str(small.tokenizer)
    for text in (*KOREAN, "오늘"):
        assert [int(small.rows[i]) for i in new.encode(text).ids] == old.encode(text).ids
        assert new.encode(text).tokens == old.encode(text).tokens
    others = [text for text in tiny.CORPUS if "서울" not in text]
    kept = {int(row) for row in small.rows}
    assert small.survivors(others) == [text for text in others if kept.issuperset(old.encode(text).ids)] != others
    assert "all 3 given texts keep their tokens, and of further ones" in small.note


def test_every_text_in_a_languages_scripts_survives(tmp_path: Path) -> None:
    small = trimmed(tiny.unigram_json(), Kept(languages=("ko", "en")), [], 10_000)
    ours = [*KOREAN, "The quick brown fox!", "오늘 the fox, 100 %", "dog 서울"]
    assert small.survivors(ours) == ours
    others = ["Где находится ближайшая станция метро?", "今日は天気がいい。", "كيف حالك اليوم؟"]
    assert small.survivors(others) == []


def test_tokens_of_a_file_and_always_those_that_others_need(tmp_path: Path) -> None:
    before = read_vocabulary(byte_level_json())
    merged = max((token for token in before.ids if token.isascii()), key=len)
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps([merged]))
    small = trimmed(byte_level_json(), Kept(tokens=file), [], 10_000)
    after = read_vocabulary(small.tokenizer)
    assert merged in after.ids
    assert sum(map(after.is_byte, after.ids)) == 256  # any text can still be said
    text = before.text_of(merged)
    assert text is not None
    assert small.survivors([text]) == [text]
    assert Tokenizer.from_str(small.tokenizer).encode("南瓜").tokens  # nothing is unknown
    file.write_text("no-such-token\n")
    with pytest.raises(OptionError, match=r"'no-such-token' is no token of this model \(1 are not\)"):
        trimmed(byte_level_json(), Kept(tokens=file), [], 10_000)


def test_without_their_parts_merged_tokens_would_not_be_made() -> None:
    vocabulary = read_vocabulary(byte_level_json())
    tokens = {i: token for token, i in vocabulary.ids.items()}
    longest = max(tokens, key=lambda i: len(tokens[i]) if tokens[i].isascii() and i not in vocabulary.added else 0)
    letters = {i for i, token in tokens.items() if len(token) == 1} | set(vocabulary.added)
    text = vocabulary.text_of(tokens[longest])
    assert text is not None
    with_them, _ = trim(vocabulary, with_parts(vocabulary, {longest, *letters}))
    without, _ = trim(vocabulary, {longest, *letters})
    assert len(Tokenizer.from_str(with_them).encode(text).ids) == 2  # itself and <end>
    assert len(Tokenizer.from_str(without).encode(text).ids) > 2


def test_scripts() -> None:
    expected = {
        "a": "Latin", "é": "Latin", "서": "Hangul", "ㄱ": "Hangul", "東": "Han", "は": "Hiragana", "ー": "Katakana",
        "ア": "Katakana", "я": "Cyrillic", "ك": "Arabic", "ก": "Thai", "अ": "Devanagari", "ि": "Devanagari",
        "1": COMMON, ".": COMMON, "€": COMMON, "\u0301": COMMON, "²": COMMON, "😀": COMMON, "▁": COMMON, "ʰ": COMMON,
        "٣": COMMON, "Ａ": "Latin", "ｱ": "Katakana", "Ꭰ": "CHEROKEE",
    }  # fmt: skip
    assert {character: script_of(character) for character in expected} == expected
    assert scripts_of(("ko", "en")) == {COMMON, "Hangul", "Latin"}
    with pytest.raises(OptionError, match="'tlh' is none of af, am, ar"):
        scripts_of(("tlh",))


def qwen(folder: Path) -> Path:
    if not hasattr(transformers, "Qwen3Config"):
        pytest.skip("this transformers has no Qwen3")
    model = tiny.save_pipeline(folder, "qwen3", pooling="lasttoken")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(byte_level_json()), pad_token="<end>", model_max_length=64
    )
    tokenizer.save_pretrained(model)
    return model


MODELS: dict[str, Any] = {
    "xlmr": lambda folder: tiny.save_pipeline(folder, "xlmr", prompts={"query": "the fox: "}),  # fused
    "modernbert": lambda folder: tiny.save_pipeline(folder, "modernbert"),  # emitted
    "mpnet": lambda folder: tiny.save_pipeline(folder, "mpnet"),  # positions count from the padding's id
    "qwen3": qwen,
}


@pytest.mark.parametrize("name", MODELS)
def test_vectors_of_what_survives_have_the_same_bits(name: str, tmp_path: Path) -> None:
    model = MODELS[name](tmp_path / "model")
    texts = tmp_path / "texts.txt"
    own = [*KOREAN, *(f"the quick brown fox {word}" for word in ("jumps", "over", "the lazy dog", "every day") * 6)]
    texts.write_text("\n".join(own), encoding="utf-8")
    variants = ["fp32", "fp16"] if name == "qwen3" else ["fp32", "fp16", "int8"]  # its int8 misses a gate, whole too
    export(model, tmp_path / "whole", variants=variants)
    export(model, tmp_path / "small", variants=variants, keep_texts=texts)
    for variant in variants:
        for executor in ("auto", "onnxruntime"):
            given = {"variant": variant, "executor": executor, "num_threads": 1}
            with Embedder(tmp_path / "whole", **given) as whole, Embedder(tmp_path / "small", **given) as small:
                np.testing.assert_array_equal(small.encode(own), whole.encode(own))
                rows = small.bundle.manifest.architecture.vocab_size
                assert rows < whole.bundle.manifest.architecture.vocab_size
    assert any(f"{rows:,} of " in note for note in small.bundle.manifest.notes)
    sizes = [(tmp_path / bundle / "fp32" / "weights.bin").stat().st_size for bundle in ("small", "whole")]
    assert sizes[0] < sizes[1] - 10_000


def test_too_few_texts_to_prove_it_on_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trim_bundle, "_FEWEST_TEXTS", 10_000)
    model = tiny.save_pipeline(tmp_path / "model")
    file = tmp_path / "t.txt"
    file.write_text("서울은 대한민국의 수도이다.\n")
    with pytest.raises(OptionError, match="texts keep their tokens, too few to prove the bundle on"):
        export(model, tmp_path / "b", keep_texts=file)
    with pytest.raises(OptionError, match="'xx' is none of"):
        export(model, tmp_path / "b", keep_languages=["xx"])
