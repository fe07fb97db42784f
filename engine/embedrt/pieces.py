"""Long texts into pieces that end with their sentences, and which contexts a late pooling reads them in. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from embedrt.errors import OptionError
from embedrt.options import whole_number
from embedrt.sentences import Splitter, checked_ends, phrase_ends, sentence_ends, word_ends

CONTEXTS = ("none", "late")
DEFAULT_TOKENS, DEFAULT_OVERLAP = 256, 32


class Span(NamedTuple):
    """Characters of a text from `start` to before `end`, or tokens."""

    start: int
    end: int


@dataclass(frozen=True)
class PieceRule:
    """How texts are cut into pieces."""

    tokens: int = DEFAULT_TOKENS  # that a piece may have, prompt and special tokens included
    overlap: int = DEFAULT_OVERLAP  # tokens that a piece may repeat of the one before
    context: Literal["none", "late"] = "none"
    sentences: Splitter = sentence_ends


def checked_rule(tokens: object, overlap: object, context: object, sentences: Splitter | None) -> PieceRule:
    """The rule that these arguments make.

    Raises:
        OptionError: one of them does not fit.
    """
    if context not in CONTEXTS:
        raise OptionError(f"context must be one of {', '.join(CONTEXTS)}, not {context!r}")
    size = whole_number("tokens", tokens)
    if size is None:
        raise OptionError("tokens must be a whole number of at least 1, not None")
    repeated = 0 if overlap == 0 and not isinstance(overlap, bool) else whole_number("overlap", overlap)
    if repeated is None:
        raise OptionError("overlap must be a whole number, not None")
    return PieceRule(size, repeated, context, sentences or sentence_ends)  # type: ignore[arg-type]  # checked above


def cut_text(text: str, token_ends: Sequence[int], room: int, overlap: int, sentences: Splitter) -> list[Span]:
    """Pieces of a text, in its order, each of at most `room` tokens.

    A piece ends with a sentence; one that is longer than `room` is cut behind phrases, else words, else tokens. It
    begins with as many whole sentences of the piece before as `overlap` has room for. White space around it is not
    of it.

    Args:
        text: of any length.
        token_ends: for each token the character behind it, never falling.
        room: tokens.
        overlap: tokens; half of `room` at most is heeded.
        sentences: where they end.
    """

    def size(start: int, end: int) -> int:
        return bisect_right(token_ends, end) - bisect_right(token_ends, start)

    if size(0, len(text)) <= room:
        return [Span(0, len(text))]
    parts = list(_parts(text, Span(0, len(text)), [lambda t: checked_ends(sentences, t), phrase_ends, word_ends],
                        size, token_ends, room))  # fmt: skip
    sizes = [size(*part) for part in parts]
    found = [_stripped(text, parts[a].start, parts[b - 1].end) for a, b in packed(sizes, room, min(overlap, room // 2))]
    return [span for span in found if span.end > span.start]


def _parts(
    text: str,
    span: Span,
    levels: Sequence[Callable[[str], Sequence[int]]],
    size: Callable[[int, int], int],
    token_ends: Sequence[int],
    room: int,
) -> Iterator[Span]:
    """Parts that cover a span, each within `room`, cut at the first of the levels that does it."""
    if size(*span) <= room:
        yield span
    elif levels:
        ends = levels[0](text[span.start : span.end])
        for start, end in pairwise([0, *ends]):
            yield from _parts(text, Span(span.start + start, span.start + end), levels[1:], size, token_ends, room)
    else:
        cuts = _cuts_behind_tokens(span, token_ends, room)
        yield from (Span(a, b) for a, b in pairwise([span.start, *cuts, span.end]))


def _cuts_behind_tokens(span: Span, token_ends: Sequence[int], room: int) -> Iterator[int]:
    """Places within a span, `room` tokens apart or less: tokens of one character are not parted."""
    first, last = bisect_right(token_ends, span.start), bisect_right(token_ends, span.end)
    while last - first > room:
        cut = token_ends[first + room - 1]
        if bisect_right(token_ends, cut) - first > room and (others := bisect_left(token_ends, cut)) > first:
            cut = token_ends[others - 1]
        if cut >= span.end:
            return
        yield cut
        first = bisect_right(token_ends, cut)


def packed(sizes: Sequence[int], room: int, overlap: int) -> list[Span]:
    """Runs of parts of at most `room` together, each beginning with parts of at most `overlap` of the run before.

    A part that is larger than `room` stands alone.
    """
    runs: list[Span] = []
    first = 0
    while first < len(sizes):
        last, total = first + 1, sizes[first]
        while last < len(sizes) and total + sizes[last] <= room:
            total += sizes[last]
            last += 1
        runs.append(Span(first, last))
        if last == len(sizes):
            break
        begin, first, repeated = first, last, 0
        while first - 1 > begin and repeated + sizes[first - 1] <= min(overlap, room - sizes[last]):
            first -= 1
            repeated += sizes[first]
    return runs


def _stripped(text: str, start: int, end: int) -> Span:
    inner = text[start:end]
    left = len(inner) - len(inner.lstrip())
    return Span(start + left, max(start + left, start + len(inner.rstrip())))


def without_contained(spans: Sequence[Span]) -> list[Span]:
    """Spans in order of their starts, without those that lie within a neighbour."""
    kept: list[Span] = []
    for span in spans:
        while kept and kept[-1].start >= span.start and kept[-1].end <= span.end:
            kept.pop()
        if not kept or span.end > kept[-1].end:
            kept.append(span)
    return kept


def tokens_of(ends: Sequence[int], span: Span) -> Span:
    """The tokens whose last character lies in a span of characters; one at least, where there are any."""
    first, last = bisect_right(ends, span.start), bisect_right(ends, span.end)
    if last <= first < len(ends):
        last = first + 1
    return Span(min(first, last - 1), last) if last else Span(0, 0)


@dataclass(frozen=True)
class Context:
    """Tokens that the encoder reads at once, and the pieces that are pooled out of it."""

    tokens: Span
    pieces: Span  # positions among the text's pieces


def plan_contexts(pieces: Sequence[Span], num_tokens: int, room: int) -> list[Context]:
    """The longest contexts that `room` tokens allow, each piece in one of them with neighbours on both sides.

    A text that fits is one context. Else pieces are taken together up to three quarters of the room, and what is left
    is shared by the tokens before and behind them.

    Args:
        pieces: their tokens, in order; each within `room`.
        num_tokens: of the text.
        room: tokens that a context may have.
    """
    if num_tokens <= room:
        return [Context(Span(0, num_tokens), Span(0, len(pieces)))]
    contexts = []
    first = 0
    while first < len(pieces):
        last = first + 1
        while last < len(pieces) and pieces[last].end - pieces[first].start <= room - room // 4:
            last += 1
        start, end = pieces[first].start, max(piece.end for piece in pieces[first:last])
        begin = max(0, min(start - (room - (end - start)) // 2, num_tokens - room))
        contexts.append(Context(Span(begin, min(num_tokens, begin + room)), Span(first, last)))
        first = last
    return contexts
