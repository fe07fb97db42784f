"""What may be tokenized: a string of valid Unicode, whatever container it came out of."""

from __future__ import annotations

import math

from embedrt.errors import InputError, InputTypeError
from embedrt.pictures.reading import is_picture

_MISSING = ("NAType", "NaTType")  # pandas.NA and pandas.NaT
_CHECKED_CHARACTERS = 1 << 20  # encoded at once to find surrogates: a millisecond


def check_text(text: object, index: int | None) -> str:
    """`text` as a plain string, if it can be tokenized. Values of Arrow arrays are strings as well.

    Raises:
        InputTypeError: not a string.
        InputError: lone surrogates, which no encoding of Unicode can carry.
    """
    if type(text) is not str:
        text = _plain_string(text, index)
    if not text.isascii():
        try:
            begin = 0
            for begin in range(0, len(text), _CHECKED_CHARACTERS):
                text[begin : begin + _CHECKED_CHARACTERS].encode()
        except UnicodeEncodeError as exc:
            raise InputError(
                f"has a lone surrogate at character {begin + exc.start} and is no valid Unicode; "
                "repair it with text.encode('utf-8', 'replace').decode()",
                index=index,
            ) from exc
    return text


def _plain_string(value: object, index: int | None) -> str:
    """What is not quite a `str`: numpy's, other subclasses (which may add and compare in their own way), Arrow's."""
    as_py = getattr(value, "as_py", None)  # of pyarrow's scalars
    value = as_py() if callable(as_py) else value
    if isinstance(value, str):
        return str.__str__(value)
    if is_picture(value):
        decode = "decode it; " if isinstance(value, (bytes, bytearray, memoryview)) else ""
        raise InputTypeError(
            f"must be a string, not {type(value).__name__}: {decode}this model embeds texts only; pictures need a "
            "bundle of CLIP or its kin",
            index=index,
        )
    missing = value is None or type(value).__name__ in _MISSING or (isinstance(value, float) and math.isnan(value))
    hint = '; a missing value has no vector: fill it with "", or leave it out' if missing else ""
    if isinstance(value, (list, tuple)):
        hint = "; texts go into one list, side by side, and pairs of them into embedrt.Reranker"
    raise InputTypeError(f"must be a string, not {type(value).__name__}{hint}", index=index)
