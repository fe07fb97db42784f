from __future__ import annotations

import pytest

from embedrt import OptionError
from embedrt.sentences import checked_ends, icu_ends, phrase_ends, sentence_ends, word_ends


def parts(text: str, ends: list[int]) -> list[str]:
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    "expected",
    [
        ["It rained. ", "Then it stopped! ", "Why?"],
        ["It was 3.14 m long. ", "Mr. ", "Ito saw J. Smith, approx. at noon (p. 7)."],
        ["오늘은 맑다. ", "내일은 비가 온다! ", "정말인가?"],
        ["그런 것. ", "저런 것."],
        ["今日は晴れ。", "「明日は雨。」", "本当ですか？", "はい"],
        ["今天下雨。", "明天呢？！", "不知道……", "走吧"],
        ["วันนี้อากาศดี ", "เราไปเที่ยว ", "แล้วกลับบ้าน"],
        ["नमस्ते। ", "आप कैसे हैं? ", "ठीक।"],
        ["كيف حالك؟ ", "بخير."],
        ["A heading without a stop\n\n", "and a line"],
        ["He said “go.” ", "She went."],
        ["one sentence only"],
        [""],
    ],
)
def test_sentences_end_where_people_pause(expected: list[str]) -> None:
    text = "".join(expected)
    assert parts(text, sentence_ends(text)) == expected


def test_phrases_and_words() -> None:
    text = "one, two; 1,000 three、四，五"
    assert parts(text, phrase_ends(text)) == ["one, ", "two; ", "1,000 three、", "四，", "五"]
    assert parts("a  b\tc", word_ends("a  b\tc")) == ["a  ", "b\t", "c"]


@pytest.mark.parametrize("ends", [sentence_ends, phrase_ends, word_ends])
def test_what_they_say_covers_the_text(ends) -> None:
    for text in ("", " ", "...", "。。。", "a.\n\n\nb. ", "  !  ? "):
        found = ends(text)
        assert found[-1] == len(text)
        assert found == sorted(set(found))
        assert "".join(parts(text, found)) == text


def test_icu_counts_characters_not_utf16() -> None:
    pytest.importorskip("icu4py")
    text = "😀 it rained. 😀 It stopped. 今日は晴れ。はい"
    assert parts(text, icu_ends(text)) == ["😀 it rained. ", "😀 It stopped. ", "今日は晴れ。", "はい"]


def test_a_splitter_may_say_anything_and_is_put_in_order() -> None:
    assert checked_ends(lambda text: [5, 2, 2, -1, 0, 99], "0123456789") == [2, 5, 10]
    assert checked_ends(lambda text: [], "abc") == [3]


@pytest.mark.parametrize("wrong", [lambda: [1], lambda text: 3, lambda text: ["a"], "sentences"])
def test_what_is_no_splitter_is_said(wrong) -> None:
    with pytest.raises(OptionError, match="a function from a text to the ends"):
        checked_ends(wrong, "a. b.")
