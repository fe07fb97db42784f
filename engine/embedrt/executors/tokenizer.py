"""The native module's tokenizer: the ids that the tokenizers library gives, from a tenth of its memory and time.

It follows WordPiece behind BERT's normalizer, and the Unigram of SentencePiece. A tokenizer.json of another kind is not
read, and a text of which it is not certain to give the library's ids is handed back.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import DependencyError
from embedrt.executors.library import ERROR_BYTES, load_library
from embedrt.tokenizer_json import NotFollowedError, parts_of

_KINDS = {
    name: kind
    for kind, name in enumerate(
        (
            "chars_map",
            "bert_normalizer",
            "nfc",
            "nfkc",
            "nmt",
            "strip",
            "collapse_spaces",
            "whitespace_split",
            "bert_split",
            "metaspace",
            "added_token",
            "normalized_token",
            "special_before",
            "special_after",
            "inside_prefix",
            "unknown_token",
            "unigram",
            "word_piece",
        )
    )
}
_SPARE_IDS = 64  # of a text, beside one per byte: room for a first try, after which it is known what is needed


class _Part(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int32),
        ("value", ctypes.c_int32),
        ("data", ctypes.c_char_p),
        ("size", ctypes.c_int64),
    )


class NativeTokenizer:
    """Any number of threads may use one at once."""

    def __init__(self, library: ctypes.CDLL, text: bytes, vocabulary: slice, config: Mapping[str, Any]) -> None:
        """Read a vocabulary.

        Args:
            library: the native module.
            text: of the tokenizer.json.
            vocabulary: where the value of "vocab" lies in it.
            config: the rest of it.

        Raises:
            NotFollowedError: it has a step that is not followed here, or another vocabulary than it says.
        """
        self.handle = ctypes.c_void_p()
        self._library = library
        self.config = config
        parts = list(parts_of(config))
        structs = (_Part * len(parts))(
            *(_Part(_KINDS[part.kind], part.value, part.data, len(part.data)) for part in parts)
        )
        self._one = library.embedrt_tokenize_one
        error = ctypes.create_string_buffer(ERROR_BYTES)
        code = library.embedrt_tokenizer_create(
            text,
            ctypes.c_int64(vocabulary.start),
            ctypes.c_int64(vocabulary.stop),
            structs,
            ctypes.c_int64(len(parts)),
            ctypes.byref(self.handle),
            error,
            ctypes.c_size_t(ERROR_BYTES),
        )
        if code:
            raise NotFollowedError(error.value.decode(errors="replace"))

    def __del__(self) -> None:
        if self.handle:
            self._library.embedrt_tokenizer_destroy(self.handle)

    def one(self, text: str) -> NDArray[np.int32] | None:
        """As a call with one text, special tokens included, in a third of its time."""
        data = text.encode()
        capacity = len(data) + _SPARE_IDS
        while True:
            ids = _room(capacity.bit_length())()
            count: int = self._one(self.handle, data, len(data), ids, len(ids))
            if count <= len(ids):
                return None if count < 0 else np.frombuffer(memoryview(ids), np.int32, count)
            capacity = count

    def __call__(self, texts: Sequence[str], *, special: bool = True) -> list[NDArray[np.int32] | None]:
        """Ids (n,) of each text, with special tokens or without; None where only the library can say."""
        encoded = [text.encode() for text in texts]
        joined = b"".join(encoded)
        ends = np.fromiter(map(len, encoded), np.int64, len(encoded)).cumsum()
        counts = np.empty(len(encoded), np.int32)
        capacity = len(joined) + _SPARE_IDS * len(encoded)
        while True:
            ids = np.empty(capacity, np.int32)
            needed = self._run(joined, ends, special, ids, counts)
            if needed <= capacity:
                return list(_apart(ids, counts.tolist()))
            capacity = needed

    def _run(
        self,
        texts: bytes,
        ends: NDArray[np.int64],
        special: bool,
        ids: NDArray[np.int32],
        counts: NDArray[np.int32],
    ) -> int:
        """Write what fits; the number of ids that there are."""
        needed = ctypes.c_int64()
        error = ctypes.create_string_buffer(ERROR_BYTES)
        code = self._library.embedrt_tokenize(
            self.handle,
            texts,
            ctypes.c_void_p(ends.ctypes.data),
            ctypes.c_int64(len(ends)),
            ctypes.c_int32(special),
            ctypes.c_void_p(ids.ctypes.data),
            ctypes.c_int64(len(ids)),
            ctypes.c_void_p(counts.ctypes.data),
            ctypes.byref(needed),
            error,
            ctypes.c_size_t(ERROR_BYTES),
        )
        if code:
            raise MemoryError(error.value.decode(errors="replace"))
        return needed.value


@cache
def _room(bits: int) -> type[ctypes.Array[ctypes.c_int32]]:
    """An array of 2^bits ids: cheaper to make, and to hand to C, than numpy's. There are few types, and they stay."""
    return ctypes.c_int32 * (1 << bits)


def _apart(ids: NDArray[np.int32], counts: Iterable[int]) -> Iterator[NDArray[np.int32] | None]:
    begin = 0
    for count in counts:
        if count < 0:
            yield None
        else:
            yield ids[begin : begin + count]
            begin += count


def read_tokenizer(path: Path) -> NativeTokenizer | None:
    """The tokenizer of a tokenizer.json; None where it is not followed, or there is no native module."""
    try:
        library = load_library()
    except DependencyError:
        return None
    try:
        return _read(library, path.read_bytes())
    except (NotFollowedError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # what is wrong with a file is the library's to say


def _read(library: ctypes.CDLL, text: bytes) -> NativeTokenizer:
    begin, end, merges, _ = _spans(library, text)
    if not begin or merges:
        raise NotFollowedError("no vocabulary of a kind that is followed")
    return NativeTokenizer(library, text, slice(begin, end), json.loads(text[:begin] + b"null" + text[end:]))


def _spans(library: ctypes.CDLL, text: bytes) -> list[int]:
    """Where the values of "vocab" and "merges" begin and end; 0 where there is none."""
    spans = np.zeros(4, np.int64)
    error = ctypes.create_string_buffer(ERROR_BYTES)
    code = library.embedrt_tokenizer_spans(
        text,
        ctypes.c_int64(len(text)),
        ctypes.c_void_p(spans.ctypes.data),
        error,
        ctypes.c_size_t(ERROR_BYTES),
    )
    if code:
        raise NotFollowedError(error.value.decode(errors="replace"))
    found: list[int] = spans.tolist()
    return found
