from __future__ import annotations

from math import log

from embedrt.commands import keywords
from embedrt.commands.keywords import key_words, words_of


def words(text):
    return list(words_of(text))


def test_words_of_scripts_with_spaces():
    assert words("Don't STOP: the café's 42 naïve-ish x хлеб हिन्दी भाषा") == [
        "don't", "stop", "the", "café's", "naïve", "ish", "хлеб", "हिन्दी", "भाषा",
    ]  # fmt: skip
    assert words("cafe\u0301") == ["café"], "composed"


def test_sequences_of_scripts_without_spaces():
    assert words("東京都へ行く") == ["東京", "京都", "東京都"], "hiragana is left out, and one character is no word"
    assert words("トムはテレビを") == ["トム", "テレビ"]
    assert words("ABC회사는 2020") == ["abc", "회사는"]
    thai = words("น้ำแข็ง")
    assert "น้ำ" in thai
    assert not any(word[0] in "้็" or word[-1] in "เแโใไ" for word in thai), "no mark begins one, no lead vowel ends one"


def test_scores_are_the_papers(monkeypatch):
    """tf * log(1 + A / f) of every word, where none is left out."""
    monkeypatch.setattr(keywords, "_LIFT", 0.0)
    texts = {0: ["aa aa bb", "cc aa dd"], 1: ["bb bb ee", "ff ee bb bb"]}
    counts = {group: " ".join(lines).split() for group, lines in texts.items()}
    everything = counts[0] + counts[1]
    mean = len(everything) / 2

    def score(word, group):
        return counts[group].count(word) / len(counts[group]) * log(1 + mean / everything.count(word))

    for group, found in key_words(texts).items():
        assert list(found) == sorted(set(counts[group]), key=lambda word: (-score(word, group), word))


def test_words_that_all_groups_have_are_left_out():
    texts = {i: [f"the {word} is the {word} of it"] * 5 for i, word in enumerate(("bread", "water", "stone"))}
    assert key_words(texts) == {0: ("bread",), 1: ("water",), 2: ("stone",)}


def test_words_are_compared_within_their_script():
    """ "the" is rarer where Korean is counted too, and yet no key word; a script's only group is compared with all."""
    english = [f"the {word} is the {word}" for word in ("bread", "water")]
    texts = {0: [english[0]] * 5, 1: [english[1]] * 5, 2: ["물을 물은 물이 물에 마신다"] * 5}
    found = key_words(texts)
    assert (found[0], found[1]) == (("bread",), ("water",))
    assert found[2][0] == "물"


def test_korean_particles_are_taken_off_where_the_stem_is_seen_otherwise():
    texts = {0: ["학교에서 학교는 학교를", "고양이가 고양이는 고양이"], 1: ["호랑이", "시내 바다는 바다에"]}
    found = key_words(texts, count=20)
    assert "학교" in found[0]
    assert "고양이" in found[0], "its last syllable is no particle"
    assert "호랑이" in found[1], "seen only so"
    assert "바다" in found[1]


def test_words_of_a_single_text_are_no_key_words_of_a_larger_group():
    texts = {0: ["bread"] * 4 + ["zzz"], 1: ["water"] * 4 + ["yyy"]}
    assert key_words(texts) == {0: ("bread",), 1: ("water",)}


def test_words_of_a_single_text_come_before_those_that_all_groups_have():
    texts = {0: ["the bread", "the oven", "the dough", "the salt"], 1: ["the sea", "the river", "the rain", "the ice"]}
    assert key_words(texts) == {0: ("bread", "dough", "oven", "salt"), 1: ("river", "rain", "ice", "sea")}


def test_a_word_that_two_texts_share_by_chance_does_not_stand_alone():
    """Of twelve sentences about cooking "and" is in two, and nothing else."""
    cooking = ["salt and pepper", "onions and garlic", "a hot oven", "boil soup", "slice bread", "roast beef"]
    texts = {0: cooking, 1: ["the sea is rough"] * 6}
    found = key_words(texts)[0]
    assert found[0] == "and"
    assert len(found) == 4
    assert set(found) < set(" ".join(cooking).split())
    assert key_words(texts)[1] == ("rough", "sea", "the", "is"), "words of most texts are enough"
    assert len(key_words(texts, count=3)[0]) == 3


def test_of_sequences_that_lie_in_each_other_one_is_shown():
    texts = {0: ["人工知能の研究"] * 4, 1: ["天気予報です"] * 4}
    found = key_words(texts)
    assert found[0] == ("人工知能", "研究")
    assert found[1] == ("天気予報",)


def test_a_single_group_and_none():
    assert key_words({}) == {}
    assert key_words({0: ["water water the"]}) == {0: ("water", "the")}
    assert key_words({0: ["?!", ""]}) == {0: ()}
