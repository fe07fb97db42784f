from __future__ import annotations

import itertools
import random

import pytest

from embedrt import OptionError
from embedrt.pieces import Context, Span, checked_rule, cut_text, packed, plan_contexts, tokens_of, without_contained
from embedrt.sentences import sentence_ends


def ends_of_words(text: str) -> list[int]:
    """A tokenizer whose tokens are words."""
    return [i + 1 for i, char in enumerate(text) if char != " " and (i + 1 == len(text) or text[i + 1] == " ")]


def cut(text: str, room: int, overlap: int = 0) -> list[str]:
    return [text[a:b] for a, b in cut_text(text, ends_of_words(text), room, overlap, sentence_ends)]


def test_pieces_end_with_their_sentences() -> None:
    assert cut("A b cc. D ee. F g h ii. Jj.", 6) == ["A b cc. D ee.", "F g h ii. Jj."]


def test_a_text_that_fits_is_whole_with_its_white_space() -> None:
    assert cut("  A b c.  ", 3) == ["  A b c.  "]
    assert cut("", 3) == [""]


def test_a_long_sentence_is_cut_behind_phrases_then_words() -> None:
    assert cut("A b c, d e f g, h.", 4) == ["A b c,", "d e f g,", "h."]
    assert cut("a b c d e f g", 3) == ["a b c", "d e f", "g"]


def test_without_any_space_it_is_cut_behind_tokens() -> None:
    text = "abcdefghij"
    assert cut_text(text, list(range(1, 11)), 4, 0, sentence_ends) == [(0, 4), (4, 8), (8, 10)]


def test_tokens_that_share_a_character_stay_together() -> None:
    ends = [1, 1, 1, 2, 2, 2, 3, 3, 3]  # three bytes of each character
    assert cut_text("가나다", ends, 3, 0, sentence_ends) == [(0, 1), (1, 2), (2, 3)]
    assert cut_text("가나다", ends, 4, 0, sentence_ends) == [(0, 1), (1, 2), (2, 3)]
    assert cut_text("가나다", ends, 7, 0, sentence_ends) == [(0, 2), (2, 3)]
    assert cut_text("가나다", ends, 2, 0, sentence_ends) == [(0, 1), (1, 2), (2, 3)], (
        "one character has more than there is room"
    )


def test_overlap_is_whole_sentences_that_fit_into_it() -> None:
    text = "A b cc. D ee. F g hh. I jj."
    assert cut(text, 5, overlap=2) == ["A b cc. D ee.", "D ee. F g hh.", "I jj."]
    assert cut(text, 6, overlap=1) == ["A b cc. D ee.", "F g hh. I jj."]


@pytest.mark.parametrize("seed", range(30))
def test_packed_covers_and_advances(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.randint(0, 9) for _ in range(draw.randint(1, 40))]
    room, overlap = draw.randint(9, 20), draw.randint(0, 9)
    runs = packed(sizes, room, overlap)
    assert runs[0].start == 0
    assert runs[-1].end == len(sizes)
    for run in runs:
        assert sum(sizes[run.start : run.end]) <= room
    for before, after in itertools.pairwise(runs):
        assert before.start < after.start <= before.end < after.end
        assert sum(sizes[after.start : before.end]) <= overlap


def test_a_part_larger_than_the_room_stands_alone() -> None:
    assert packed([1, 50, 1], 10, 5) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("seed", range(30))
def test_every_piece_has_one_context_that_holds_it_with_neighbours(seed: int) -> None:
    draw = random.Random(seed)
    room = draw.randint(20, 60)
    bounds = [0]
    while bounds[-1] < 400:
        bounds.append(bounds[-1] + draw.randint(1, room // 2))
    pieces = [Span(a, b) for a, b in itertools.pairwise(bounds)]
    num_tokens = bounds[-1]
    contexts = plan_contexts(pieces, num_tokens, room)
    taken = [k for context in contexts for k in range(*context.pieces)]
    assert taken == list(range(len(pieces)))
    for context in contexts:
        assert context.tokens.end - context.tokens.start == room
        first, last = pieces[context.pieces.start], pieces[context.pieces.end - 1]
        before, behind = first.start - context.tokens.start, context.tokens.end - last.end
        assert min(before, behind) >= 0
        if context.tokens.start > 0 and context.tokens.end < num_tokens:
            assert abs(before - behind) <= 1


def test_a_text_that_fits_is_one_context() -> None:
    assert plan_contexts([Span(0, 3), Span(2, 5)], 5, 5) == [Context(Span(0, 5), Span(0, 2))]


def test_what_lies_within_a_neighbour_is_left_out() -> None:
    spans = [Span(0, 4), Span(3, 4), Span(4, 5), Span(4, 9), Span(8, 9), Span(8, 12)]
    assert without_contained(spans) == [(0, 4), (4, 9), (8, 12)]


def test_tokens_of_a_span_are_those_that_end_in_it() -> None:
    ends = [2, 4, 4, 9]
    assert tokens_of(ends, Span(0, 4)) == (0, 3)
    assert tokens_of(ends, Span(4, 9)) == (3, 4)
    assert tokens_of(ends, Span(5, 8)) == (3, 4), "within a token: that one"
    assert tokens_of(ends, Span(9, 12)) == (3, 4), "behind all: the last"
    assert tokens_of([], Span(0, 0)) == (0, 0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((0, 0, "none"), "tokens must be a whole number of at least 1, not 0"),
        ((None, 0, "none"), "tokens must be"),
        ((True, 0, "none"), "tokens must be"),
        ((8, -1, "none"), "overlap must be"),
        ((8, False, "none"), "overlap must be"),
        ((8, None, "none"), "overlap must be"),
        ((8, 2, "wide"), "context must be one of none, late, not 'wide'"),
    ],
)
def test_wrong_values(given: tuple[object, object, object], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        checked_rule(*given, None)
