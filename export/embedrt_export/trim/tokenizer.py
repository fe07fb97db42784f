"""tokenizer.json with some of its tokens, their ids numbered anew in the old order.

What is left out was never chosen in a text of the tokens that stay, and so changes none of it: Unigram's best path and
WordPiece's longest match stay the best and the longest where only others go. BPE builds a token out of others, which
stay with it, as do the merges between them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedrt.errors import UnsupportedModelError

_MARKS = ("▁", "##", "</w>")  # that a token begins a word, or goes on with one, or ends it


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a tokenizer.json."""

    data: dict[str, Any]
    ids: dict[str, int]  # of all tokens, added ones included
    added: frozenset[int]
    byte_level: bool  # tokens are bytes, written as letters

    def text_of(self, token: str) -> str | None:
        """What a token stands for; None where it is a part of a character's bytes."""
        if not self.byte_level:
            for mark in _MARKS:
                token = token.removeprefix(mark).removesuffix(mark)
            return token
        try:
            return bytes(_bytes_of_letters()[letter] for letter in token).decode()
        except (KeyError, UnicodeDecodeError):
            return None

    def is_byte(self, token: str) -> bool:
        """Whether a token is one byte, by which any character can be said."""
        if self.byte_level:
            return len(token) == 1
        return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def read_vocabulary(text: str) -> Vocabulary:
    """The tokens of a tokenizer.json.

    Raises:
        UnsupportedModelError: its model is none of Unigram, WordPiece, BPE and WordLevel.
    """
    data = json.loads(text)
    vocab = data["model"].get("vocab")
    if not isinstance(vocab, (list, dict)):
        raise UnsupportedModelError(f"a tokenizer of type {data['model'].get('type')} cannot be trimmed")
    ids = {token: i for i, (token, _) in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)
    added = {one["content"]: int(one["id"]) for one in data.get("added_tokens") or ()}
    pieces = json.dumps([data.get("pre_tokenizer"), data.get("decoder")])
    return Vocabulary(data, ids | added, frozenset(added.values()), '"ByteLevel"' in pieces)


def with_parts(vocabulary: Vocabulary, kept: set[int]) -> set[int]:
    """The kept ids, and for BPE those of the tokens that they are merged from."""
    parts: dict[int, list[int]] = {}
    for left, right in _merges(vocabulary.data["model"]):
        made = vocabulary.ids.get(left + right.removeprefix(_prefix(vocabulary.data["model"])))
        if made is not None:
            parts.setdefault(made, []).extend((vocabulary.ids[left], vocabulary.ids[right]))
    out, waiting = set(kept), list(kept)
    while waiting:
        new = [part for part in parts.get(waiting.pop(), ()) if part not in out]
        out.update(new)
        waiting.extend(new)
    return out


def trim(vocabulary: Vocabulary, kept: set[int]) -> tuple[str, NDArray[np.int64]]:
    """tokenizer.json with the kept tokens, and the old id of each new one.

    Raises:
        UnsupportedModelError: its ids cannot be numbered anew.
    """
    rows = np.array(sorted(kept), np.int64)
    new = {int(old): i for i, old in enumerate(rows)}
    data = copy.deepcopy(vocabulary.data)
    model, old_model = data["model"], vocabulary.data["model"]
    if isinstance(old_model["vocab"], list):
        model["vocab"] = [entry for i, entry in enumerate(old_model["vocab"]) if i in new]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {token: new[i] for token, i in old_model["vocab"].items() if i in new}
    if old_model.get("merges"):
        made, prefix = model["vocab"], _prefix(old_model)
        pairs = zip(old_model["merges"], _merges(old_model), strict=True)
        model["merges"] = [
            entry for entry, (a, b) in pairs if a in made and b in made and a + b.removeprefix(prefix) in made
        ]
    for one in data.get("added_tokens") or ():
        one["id"] = new[one["id"]]
    _renumber(data.get("post_processor"), new)
    text = json.dumps(data, ensure_ascii=False)
    tokenizer = Tokenizer.from_str(text)
    for token, old in vocabulary.ids.items():
        if old in new and tokenizer.token_to_id(token) != new[old]:
            raise UnsupportedModelError(
                f"this tokenizer cannot be trimmed: {token!r} would get another id than its place"
            )
    return text, rows


def ids_of(tokenizer: Tokenizer, texts: Iterable[str]) -> list[list[int]]:
    """Token ids of each text, special ones included, nothing cut."""
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def survives(old: Sequence[int], new: Sequence[int], rows: NDArray[np.int64]) -> bool:
    """Whether a text has the same tokens before and after."""
    return len(old) == len(new) and all(int(rows[i]) == j for i, j in zip(new, old, strict=True))


def _prefix(model: dict[str, Any]) -> str:
    return str(model.get("continuing_subword_prefix") or "")


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    """As pairs, whichever way they are written."""
    merges = model.get("merges") or ()
    return [(a, b) for a, b in (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)]


def _renumber(part: Any, new: dict[int, int]) -> None:
    """Ids in a post-processor: of a template's special tokens, and BERT's and RoBERTa's pairs of token and id."""
    if isinstance(part, list):
        for one in part:
            _renumber(one, new)
    elif isinstance(part, dict):
        for key in ("sep", "cls"):
            if isinstance(part.get(key), list):
                part[key][1] = new[part[key][1]]
        if part.get("type") == "TemplateProcessing":
            for special in part["special_tokens"].values():
                special["ids"] = [new[i] for i in special["ids"]]
        _renumber(part.get("processors"), new)


@cache
def _bytes_of_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: those that print are themselves, the others follow from U+0100 on."""
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(256 + i): byte for i, byte in enumerate(others)}
