"""Long texts: a vector for each piece of them, by itself or read within its surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack

from numpy.typing import NDArray

from embedrt.encoding import Encoding
from embedrt.errors import InputError, NonFiniteError, OptionError
from embedrt.inputs import Texts, checked_texts
from embedrt.late import Split, late_vectors
from embedrt.options import CommonKwargs, EncodeOptions, Kind, short_hash
from embedrt.pieces import (
    DEFAULT_OVERLAP,
    DEFAULT_TOKENS,
    PieceRule,
    Span,
    checked_rule,
    cut_text,
    without_contained,
)
from embedrt.results import TextPiece
from embedrt.sentences import Splitter
from embedrt.text_checks import check_text
from embedrt.tokenization import TextTokenizer, WholeText

_LEAST_ROOM = 8  # tokens of a text in a piece; less is no text to compare


class LongTexts:
    """What an embedder does with texts that its model does not take whole."""

    _encoding: Encoding

    def split(
        self,
        text: str,
        *,
        tokens: int = DEFAULT_TOKENS,
        overlap: int = DEFAULT_OVERLAP,
        sentences: Splitter | None = None,
        kind: Kind = "encode",
        **options: Unpack[CommonKwargs],
    ) -> list[tuple[int, int]]:
        """The pieces of a text that `encode_windows` embeds, as (start, end) of their characters.

        Takes no model's work. The arguments are those of `encode_windows`.
        """
        rule = checked_rule(tokens, overlap, "none", sentences)
        chosen = self._encoding.options(options, kind)
        return [
            (span.start, span.end)
            for span in _split(self._encoding, check_text(text, None), chosen.prompt, rule).pieces
        ]

    def encode_windows(
        self,
        texts: Texts,
        *,
        tokens: int = DEFAULT_TOKENS,
        overlap: int = DEFAULT_OVERLAP,
        context: Literal["none", "late"] = "none",
        sentences: Splitter | None = None,
        kind: Kind = "encode",
        **options: Unpack[CommonKwargs],
    ) -> list[TextPiece]:
        """A vector for each piece of each text, in their order.

        A text that fits is one piece, with the vector that `encode` gives it. Pieces of longer ones end with a sentence
        where one ends in time, else with a phrase, a word or a token. A vector does not depend on what else is in the
        call.

        Args:
            texts: a string, or an iterable of strings.
            tokens: that a piece may have, prompt and special tokens included; never more than `max_tokens`.
            overlap: tokens that a piece may repeat of the one before, in whole sentences; half a piece at most.
            context: "none" embeds each piece as `encode` would; "late" lets the encoder read the longest context that
                it takes around the piece, and pools the piece's own tokens (late chunking, Günther et al., 2024,
                arXiv:2409.04701). Not for models that pool the first token.
            sentences: a text to the ends of its sentences; default `embedrt.sentences.sentence_ends`.
            kind, options: as in `encode_detailed`; float32 or integer vectors as arrays only.

        Raises:
            InputError: a text cannot be embedded; `.index` says which.
            OptionError: an argument does not fit.
        """
        rule = checked_rule(tokens, overlap, context, sentences)
        encoding, chosen = self._encoding, self._encoding.options(options, kind)
        if chosen.output_value != "sentence_embedding" or chosen.container != "array":
            raise OptionError("encode_windows gives vectors of pieces as arrays; encode has output_value and tensors")
        if rule.context == "late" and "cls" in encoding.dense.pooling:
            raise OptionError(
                "context='late' pools a piece's own tokens, this model the text's first: use context='none'"
            )
        if rule.context == "late" and encoding.model.bundle.manifest.table is not None:
            raise OptionError("context='late' is of encoders; static embeddings read no context: use context='none'")
        checked = checked_texts(texts)
        split = [_split(encoding, text, chosen.prompt, rule) for text in checked]
        spans = [(i, span) for i, one in enumerate(split) for span in one.pieces]
        late = rule.context == "late"
        vectors = late_vectors(encoding, split, chosen) if late else _alone(encoding, checked, spans, chosen)
        return [TextPiece(i, *span, vector) for (i, span), vector in zip(spans, vectors, strict=True)]

    def identify_windows(
        self,
        *,
        tokens: int = DEFAULT_TOKENS,
        overlap: int = DEFAULT_OVERLAP,
        context: Literal["none", "late"] = "none",
        sentences: Splitter | None = None,
        kind: Kind = "encode",
        **options: Unpack[CommonKwargs],
    ) -> str:
        """The identity of what `encode_windows` gives, see `identify`. Without context it is that of `encode`."""
        rule = checked_rule(tokens, overlap, context, sentences)
        identity = self._encoding.identity(self._encoding.options(options, kind))
        if rule.context == "none":
            return identity
        name = f"{rule.sentences.__module__}.{getattr(rule.sentences, '__qualname__', '')}"
        return short_hash([identity, rule.context, rule.tokens, rule.overlap, name])


def _split(encoding: Encoding, text: str, prompt: str, rule: PieceRule) -> Split:
    """A text's tokens, and its pieces as characters; each piece fits when it is tokenized by itself, too.

    Raises:
        OptionError: prompt and special tokens leave no room for text.
    """
    tokenizer = encoding.runner.tokenizer
    (whole,) = tokenizer.whole([text], prompt)
    limit = min(rule.tokens, encoding.settings.max_tokens)
    room = whole.room(limit)
    if len(whole.ids) <= room:
        return Split(whole, [Span(0, len(text))])
    if room < _LEAST_ROOM:
        taken = len(whole.head) + len(whole.tail)
        raise OptionError(
            f"pieces of {limit} tokens leave {max(room, 0)} for the text, because prompt and special tokens take "
            f"{taken}; tokens must be at least {taken + _LEAST_ROOM}"
        )
    return Split(whole, without_contained(_fitting(tokenizer, text, whole, prompt, limit, rule)))


def _fitting(
    tokenizer: TextTokenizer, text: str, whole: WholeText, prompt: str, limit: int, rule: PieceRule
) -> list[Span]:
    """Pieces within the limit also when they are tokenized by themselves: cut within a word, they have other tokens."""
    spans = cut_text(text, whole.ends, whole.room(limit), rule.overlap, rule.sentences)
    if len(spans) < 2:
        return spans
    found: list[Span] = []
    for span, piece in zip(spans, tokenizer.whole([text[a:b] for a, b in spans], prompt), strict=True):
        if len(piece.ids) <= piece.room(limit):
            found.append(span)
        else:
            again = _fitting(tokenizer, text[slice(*span)], piece, prompt, limit, rule)
            found += [Span(span.start + a, span.start + b) for a, b in again]
    return found


def _alone(
    encoding: Encoding, texts: Sequence[str], spans: Sequence[tuple[int, Span]], options: EncodeOptions
) -> NDArray[Any]:
    """Vectors (P, D) of pieces, each with its text's position, as `encode` gives them."""
    try:
        found: NDArray[Any] = encoding.encode([texts[i][slice(*span)] for i, span in spans], options).embeddings
    except (InputError, NonFiniteError) as exc:
        raise type(exc)(exc.reason, index=None if exc.index is None else spans[exc.index][0]) from exc
    return found
