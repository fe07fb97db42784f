"""What a tokenizer.json says beside its vocabulary: steps that the native tokenizer follows, and special tokens."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Part(NamedTuple):
    """A step of the pipeline, or a token; see `embedrt_tokenizer_part` in embedrt_native.h."""

    kind: str
    value: int = 0
    data: bytes = b""


class NotFollowedError(Exception):
    """The tokenizer has a step that the native one does not follow."""


@dataclass(frozen=True)
class PairParts:
    """The special tokens of a pair of texts."""

    before: list[int]
    between: list[int]
    after: list[int]
    of_first: int  # tokens of `between` that have the first text's token type


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
    places = _places(step["single"])
    if len(places) != 1:
        raise NotFollowedError("a template that does not have the text once")
    before, after = step["single"][: places[0]], step["single"][places[0] + 1 :]
    yield from (Part("special_before", token) for token, _ in _tokens(step, before))
    yield from (Part("special_after", token) for token, _ in _tokens(step, after))


def _places(template: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where texts stand in a template."""
    return [k for k, piece in enumerate(template) if "Sequence" in piece]


def _tokens(step: Mapping[str, Any], pieces: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Ids and token types of a template's special tokens."""
    special = [piece["SpecialToken"] for piece in pieces]
    return [(token, one["type_id"]) for one in special for token in step["special_tokens"][one["id"]]["ids"]]


def pair_of(step: Mapping[str, Any] | None) -> PairParts | None:
    """The special tokens of a pair as a post-processor says them; None where it does not have A before B."""
    if step is None:
        return PairParts([], [], [], 0)
    if step["type"] in ("BertProcessing", "RobertaProcessing"):
        cls, sep = step["cls"][1], step["sep"][1]
        between = [sep] if step["type"] == "BertProcessing" else [sep, sep]
        return PairParts([cls], between, [sep], len(between))
    pair = step["pair"]
    places = _places(pair)
    if [pair[k]["Sequence"]["id"] for k in places] != ["A", "B"]:
        return None
    one, two = places
    middle = _tokens(step, pair[one + 1 : two])
    before, between, after = (
        [token for token, _ in rows] for rows in (_tokens(step, pair[:one]), middle, _tokens(step, pair[two + 1 :]))
    )
    return PairParts(before, between, after, sum(kind == 0 for _, kind in middle))


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
