"""Whether every token that a text can become has a row in the model's token table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from embedrt.errors import SourceError


def check_vocabulary(name: str, tokenizer: Any, rows: int) -> str | None:
    """Refuse a tokenizer of which some text becomes an id at or beyond `rows`, the rows of the token table.

    An id that no text becomes is harmless (a vocabulary's unused rows), and one that only its own spelling becomes
    nearly so (a special token such as "<mask>", which other libraries tolerate as well): a text with it is refused when
    it comes. Both are told in a note. Whether a text becomes an id is tried, with the token's own letters as the text.

    Args:
        name: the model's, for messages.
        tokenizer: transformers' fast tokenizer.
        rows: of the encoder's token table.

    Returns:
        A note for the bundle, or None where every id has a row.

    Raises:
        SourceError: an ordinary text becomes such an id; the message has the text and the cure.
    """
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    if not beyond:
        return None
    texts = ["", "a"]
    special = set(tokenizer.all_special_tokens)
    for token in sorted(beyond, key=lambda token: beyond[token]):
        texts += _texts_of(tokenizer, token, beyond[token]) if token not in special else ()
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        if max(ids, default=0) >= rows:
            raise SourceError(
                f"{name}: its tokenizer and its weights do not fit: the text {text!r} becomes token id {max(ids)}, "
                f"and the token table has {rows} rows; take the added tokens out of the tokenizer, or resize the "
                "table with model.resize_token_embeddings(len(tokenizer)), train its new rows, and save the model again"
            )
    first = min(beyond, key=lambda token: beyond[token])
    return (
        f"{len(beyond)} of the tokenizer's ids lie beyond the token table's {rows} rows, the first is {first!r}; no "
        "text was found that becomes one of them, except where a special token is spelled out, which is refused"
    )


def _texts_of(tokenizer: Any, token: str, number: int) -> Iterator[str]:
    """Texts of which one becomes the token, if any does: its spelling, what it stands for, and that within a word."""
    yield token
    yield str(tokenizer.decode([number]))
    yield "a" + token.removeprefix("##")
