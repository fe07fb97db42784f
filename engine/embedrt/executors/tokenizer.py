"""The native module's tokenizer: the ids that the tokenizers library gives, from a tenth of its memory and time.

It follows WordPiece behind BERT's normalizer, and the Unigram of SentencePiece. A tokenizer.json of another kind is not
read, and a text of which it is not certain to give the library's ids is handed back.
"""

from __future__ import annotations

import base64
import ctypes
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import DependencyError
from embedrt.executors.library import ERROR_BYTES, load_library

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
_IDS_PER_BYTE = 1  # room for a first try; what the texts' ids need beyond it is known after that
_FEWEST_IDS = 64


class _Part(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int32),
        ("value", ctypes.c_int32),
        ("data", ctypes.c_char_p),
        ("size", ctypes.c_int64),
    )


class Part(NamedTuple):
    """A step of the pipeline, or a token; see `embedrt_tokenizer_part` in embedrt_native.h."""

    kind: str
    value: int = 0
    data: bytes = b""


class NotFollowedError(Exception):
    """The tokenizer has a step that the native one does not follow."""


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
        self._handle = ctypes.c_void_p()
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
            ctypes.byref(self._handle),
            error,
            ctypes.c_size_t(ERROR_BYTES),
        )
        if code:
            raise NotFollowedError(error.value.decode(errors="replace"))

    def __del__(self) -> None:
        if self._handle:
            self._library.embedrt_tokenizer_destroy(self._handle)

    def one(self, text: str) -> NDArray[np.int32] | None:
        """As a call with one text, special tokens included, in a third of its time."""
        data = text.encode()
        capacity = len(data) + _FEWEST_IDS
        while True:
            ids = _room(capacity.bit_length())()
            count: int = self._one(self._handle, data, len(data), ids, len(ids))
            if count <= len(ids):
                return None if count < 0 else np.frombuffer(memoryview(ids), np.int32, count)
            capacity = count

    def __call__(self, texts: Sequence[str], *, special: bool = True) -> list[NDArray[np.int32] | None]:
        """Ids (n,) of each text, with special tokens or without; None where only the library can say."""
        encoded = [text.encode() for text in texts]
        joined = b"".join(encoded)
        ends = np.fromiter(map(len, encoded), np.int64, len(encoded)).cumsum()
        counts = np.empty(len(encoded), np.int32)
        capacity = _FEWEST_IDS * len(encoded) + _IDS_PER_BYTE * len(joined)
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
            self._handle,
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


def parts_of(config: Mapping[str, Any]) -> Iterator[Part]:
    """The pipeline that a tokenizer.json says.

    Raises:
        NotFollowedError: it has a step that the native tokenizer does not follow.
    """
    for step in _steps(config["normalizer"], "normalizers"):
        yield _normalizer(step)
    splits = [_split(step) for step in _steps(config["pre_tokenizer"], "pretokenizers")]
    if [part.kind for part in splits] not in (["bert_split"], ["metaspace"], ["whitespace_split", "metaspace"]):
        raise NotFollowedError("a way to split words that is not followed")
    yield from splits
    for token in config["added_tokens"]:
        yield Part("normalized_token" if token["normalized"] else "added_token", 0, token["content"].encode())
    yield from _special(config["post_processor"])
    yield from _model(config["model"])


def _steps(step: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    if step is None:
        return []
    return [part for inner in step[name] for part in _steps(inner, name)] if step["type"] == "Sequence" else [step]


def _normalizer(step: Mapping[str, Any]) -> Part:
    kind = step["type"]
    if kind == "Precompiled":
        return Part("chars_map", 0, base64.b64decode(step["precompiled_charsmap"]))
    if kind == "BertNormalizer":
        lowercase = step["lowercase"]
        strips = step["strip_accents"]
        if strips not in (None, lowercase):
            raise NotFollowedError("accents without case, or case without accents")
        return Part("bert_normalizer", step["clean_text"] + 2 * step["handle_chinese_chars"] + 4 * lowercase)
    if kind == "Strip":
        return Part("strip", step["strip_left"] + 2 * step["strip_right"])
    if kind == "Replace" and step["pattern"] == {"Regex": " {2,}"}:
        return Part("collapse_spaces", 0, step["content"].encode())
    if kind in ("NFC", "NFKC", "Nmt"):
        return Part(kind.lower())
    raise NotFollowedError(kind)


def _split(step: Mapping[str, Any]) -> Part:
    kind = step["type"]
    if kind == "Metaspace":
        if step.get("prepend_scheme", "always") != "always" or not step.get("split", True):
            raise NotFollowedError("a metaspace that is not before every word")
        return Part("metaspace", 0, step["replacement"].encode())
    known = {"WhitespaceSplit": "whitespace_split", "BertPreTokenizer": "bert_split"}
    if kind not in known:
        raise NotFollowedError(kind)
    return Part(known[kind])


def _special(step: Mapping[str, Any] | None) -> Iterator[Part]:
    if step is None:
        return
    if step["type"] in ("BertProcessing", "RobertaProcessing"):
        yield Part("special_before", step["cls"][1])
        yield Part("special_after", step["sep"][1])
        return
    if step["type"] != "TemplateProcessing":
        raise NotFollowedError(step["type"])
    side = "special_before"
    for piece in step["single"]:
        if "Sequence" in piece:
            if side == "special_after":
                raise NotFollowedError("a template with the text twice")
            side = "special_after"
        else:
            for token in step["special_tokens"][piece["SpecialToken"]["id"]]["ids"]:
                yield Part(side, token)
    if side == "special_before":
        raise NotFollowedError("a template without the text")


def _model(model: Mapping[str, Any]) -> Iterator[Part]:
    kind = model["type"]
    if kind == "Unigram" and not model.get("byte_fallback", False) and model["unk_id"] is not None:
        yield Part("unigram", model["unk_id"])
    elif kind == "WordPiece":
        yield Part("inside_prefix", 0, model["continuing_subword_prefix"].encode())
        yield Part("unknown_token", 0, model["unk_token"].encode())
        yield Part("word_piece", model["max_input_chars_per_word"])
    else:
        raise NotFollowedError(kind)
