"""How much a JSON body becomes when it is read: counted in its bytes, before anything is made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SLICE_BYTES = 64 * 1024  # a fraction of a millisecond


@dataclass(frozen=True)
class Counted:
    """Upper bounds; exact for JSON that is well formed."""

    strings: int  # texts, names of fields and words among the values
    brackets: int  # lists and objects
    values: int  # strings, numbers, lists, objects and words together
    plain: bool  # ASCII without escapes of other characters

    @property
    def numbers(self) -> int:
        """Numbers and words."""
        return self.values - self.strings - self.brackets


def is_plain(body: bytes) -> bool:
    """Whether it is ASCII without escapes of other characters."""
    return body.isascii() and b"\\u" not in body


def count_json(body: bytes | bytearray | memoryview) -> Counted:
    """Count in slices of the body, each of which lets other threads in."""
    quotes = brackets = commas = 0
    inside = False  # a string
    plain = True
    begin = 0
    while begin < len(body):
        end = _end_of_slice(body, begin)
        # A run of backslashes begins where an escape begins: pairs stand for one, what is left makes a quote a letter.
        raw = bytes(body[begin:end])
        plain = plain and is_plain(raw)
        part = raw.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        codes = np.frombuffer(part, np.uint8)
        is_quote = codes == ord('"')
        # Counted by bytes: whether it is odd survives the overflow, and larger arrays would be new pages each time.
        within = (np.cumsum(is_quote, dtype=np.uint8) & 1).view(bool) ^ inside
        inside = bool(within[-1])
        quotes += int(np.count_nonzero(is_quote))
        brackets += int(np.count_nonzero(((codes == ord("[")) | (codes == ord("{"))) & ~within))
        commas += int(np.count_nonzero((codes == ord(",")) & ~within))
        begin = end
    return Counted((quotes + 1) // 2, brackets, commas + brackets + 1, plain)


def _end_of_slice(body: bytes | bytearray | memoryview, begin: int) -> int:
    """About a slice further, and never between a backslash and what it belongs to."""
    end = min(len(body), begin + _SLICE_BYTES)
    part = bytes(body[begin:end])
    odd = (len(part) - len(part.rstrip(b"\\"))) % 2  # the slice begins where no escape is under way
    return min(len(body), end + odd)
