"""What types alone cannot say of a manifest: numbers that fit, and paths that lie inside the bundle on every system."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from embedrt._encoder_checks import check_encoder, check_norm
from embedrt._schema import SchemaError, require
from embedrt.heads import (
    ACTIVATION_NAMES,
    ATTENTION,
    POOLING_MODES,
    SCORE_ACTIVATIONS,
    SIMILARITY_NAMES,
    STAGE_KINDS,
    TOKEN_SIMILARITIES,
    WORD_ACTIVATIONS,
    WORD_POOLINGS,
)
from embedrt.pictures.attention_pooling import ACTIVATIONS as POOLING_ACTIVATIONS

if TYPE_CHECKING:
    from embedrt.encoder import EncoderSpec
    from embedrt.heads import Pipeline, ScoreHead, Stage
    from embedrt.manifest import BundleFile, Manifest, TensorEntry, Variant
    from embedrt.pictures.preprocessing import Preprocessing
    from embedrt.text_rules import TextRules

_MAX_DEPTH = 32  # of nested lists and objects; what is read goes through them by recursion
_MAX_AXES = 32  # of a tensor, as numpy before 2.0; a product of thousands of extents takes minutes
_LARGEST = 2**63 - 1
_MOST_EDGE = 1 << 14  # pixels of a picture as an encoder sees it, and tokens that a text is padded to
_MOST_ID = 2**31 - 1
_SHA256 = re.compile("[0-9a-f]{64}")
_ITEM_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2, "int32": 4, "uint32": 4,
    "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
}  # fmt: skip
# Names that stand for devices on Windows in every folder, whatever the suffix; and what may not be in a name there.
_DEVICES = frozenset(
    {
        "con",
        "prn",
        "aux",
        "nul",
        "conin$",
        "conout$",
        *(f"{name}{k}" for name in ("com", "lpt") for k in "123456789¹²³"),
    }
)
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f<>:"|?*\\]')
_POSITIONS_FROM_ZERO = ("bert", "distilbert")
_POSITIONS_BEHIND_PAD = ("roberta", "xlm-roberta", "camembert", "mpnet")  # counted from pad_token_id + 1


def read_json(text: str) -> Any:
    """JSON as strict as the schema: no key twice, no NaN, no half of a surrogate pair, not nested without end.

    Raises:
        SchemaError: it is not.
    """
    try:
        data = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except SchemaError:
        raise
    except (ValueError, RecursionError) as exc:  # RecursionError: nested by thousands
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise SchemaError(f"is not JSON: {reason}") from exc
    _check_depth_and_text(data)
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        require(name not in found, ascii(name), "stands twice")
        found[name] = value
    return found


def _no_constant(name: str) -> float:
    raise SchemaError(f"{name} is no number of JSON")


def _check_depth_and_text(data: Any) -> None:
    """Without recursion, which is what the depth is checked for."""
    level: list[Any] = [data]
    for _ in range(_MAX_DEPTH):
        texts = [one for one in level if isinstance(one, str)]
        texts += [key for one in level if isinstance(one, dict) for key in one]
        for text in texts:
            if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
                raise SchemaError(f"{text!a}: half of a surrogate pair is no character")
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return
    raise SchemaError(f"lists and objects are nested more than {_MAX_DEPTH} deep")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def known_positions(manifest: Manifest) -> int | None:
    """Tokens that the encoder has positions for; None where there is no limit, or where no table is known."""
    if manifest.encoder is not None:
        return manifest.encoder.max_tokens
    numbers = manifest.architecture
    if numbers.model_type in _POSITIONS_FROM_ZERO:
        return numbers.max_positions
    if numbers.model_type in _POSITIONS_BEHIND_PAD:
        return numbers.max_positions - numbers.pad_token_id - 1
    return None


def check_numbers(manifest: Manifest, stages: Mapping[str, tuple[Stage, ...]]) -> None:
    """Counts that must be at least one, and what must fit into what; `stages` are those of each head.

    Raises:
        SchemaError: with the place of the first that does not.
    """
    numbers = manifest.architecture
    encoder = manifest.encoder
    layers = int(encoder is None or bool(encoder.blocks))
    tokens = int(encoder is None or encoder.patches is None)  # pictures have none
    counts = (("hidden_size", 1), ("num_layers", layers), ("num_heads", layers), ("intermediate_size", layers))
    others = (("vocab_size", tokens), ("max_positions", 0), ("type_vocab_size", 0))
    for name, least in (*counts, *others):
        _within(f"architecture.{name}", getattr(numbers, name), least)
    require(numbers.num_heads <= numbers.hidden_size, "architecture.num_heads", "must not be more than hidden_size")
    epsilon = numbers.layer_norm_eps
    require(math.isfinite(epsilon) and epsilon >= 0, "architecture.layer_norm_eps", f"must not be {epsilon}")
    _within("max_tokens", manifest.max_tokens, 1)
    if encoder is not None:
        check_encoder(encoder, numbers.hidden_size)
    positions = known_positions(manifest)
    require(
        positions is None or manifest.max_tokens <= positions,
        "max_tokens", f"must be at most {positions}, the model's positions, not {manifest.max_tokens}",
    )  # fmt: skip
    if manifest.pipeline is not None:
        _within("pipeline.dimension", manifest.pipeline.dimension, 1)
    for head, own in stages.items():
        for i, stage in enumerate(own):
            _check_stage(stage, f"{head}.stages[{i}]")
    for where, files in _file_lists(manifest):
        _check_files(files, where)
    for name, variant in manifest.variants.items():
        _check_tensors(variant, f"variants.{name}")


def check_preprocessing(settings: Preprocessing, encoder: EncoderSpec, texts: TextRules | None) -> None:
    """Pictures of the encoder's patches, and rules of texts that can be kept.

    Raises:
        SchemaError: with the place of the first that does not fit.
    """
    where, patches = "pictures.preprocessing", encoder.patches
    require(patches is not None, "pictures.encoder.patches", "missing")
    assert patches is not None
    for name in ("height", "width"):
        require(0 < getattr(settings, name) <= _MOST_EDGE, f"{where}.{name}", f"must be 1 to {_MOST_EDGE}")
    count = (settings.height // patches.edge) * (settings.width // patches.edge)
    require(count == patches.count, f"{where}.height", f"and width must give {patches.count} patches, not {count}")
    for name, edges in (("shortest_edge", (settings.shortest_edge,)), ("resized", settings.resized or ())):
        fits = all(edge is None or 0 < edge <= _MOST_EDGE for edge in edges)
        require(fits, f"{where}.{name}", f"must be 1 to {_MOST_EDGE}")
    both = settings.shortest_edge is not None and settings.resized is not None
    pair = settings.resized is None or len(settings.resized) == 2
    require(pair and not both, f"{where}.resized", "must be a height and a width, and null beside shortest_edge")
    numbers = (settings.scale, *settings.mean, *settings.std)
    fits = all(math.isfinite(x) for x in numbers) and all(settings.std) and len(settings.mean) == len(settings.std) == 3
    require(fits, where, "scale must be finite, and so three numbers of mean, and of std, of which none is 0")
    if texts is not None:
        pads = texts.padded_to is not None
        require(pads == (texts.pads_with is not None), "pictures.texts.pads_with", "goes with padded_to")
        require(not pads or 0 < (texts.padded_to or 0) <= _MOST_EDGE, "pictures.texts.padded_to", "is out of range")
        for name in ("ends_at", "pads_with"):
            require(0 <= (getattr(texts, name) or 0) <= _MOST_ID, f"pictures.texts.{name}", "is no token's id")


def check_table(manifest: Manifest) -> None:
    """Rules of texts where there is a table alone, and ids that it has rows for.

    Raises:
        SchemaError: with the place of the first that does not fit.
    """
    encoder, table = manifest.encoder, manifest.table
    is_table = encoder is not None and not encoder.blocks
    require(is_table == (table is not None), "table", "goes with an encoder without blocks")
    if encoder is None or table is None:
        return
    require(manifest.pictures is None, "pictures", "cannot be beside a table of token vectors")
    for name in ("empty", "skipped"):
        row = getattr(table, name)
        known = row is None or 0 <= row < encoder.vocab_size
        require(known, f"table.{name}", f"must be one of {encoder.vocab_size} rows, not {row}")
    _at_least_one("table.characters_per_token", table.characters_per_token)


def check_heads(pipeline: Pipeline | None, scores: ScoreHead | None) -> None:
    """Names that exist, and a label for each score.

    Raises:
        SchemaError: with the place of the first that does not.
    """
    if pipeline is not None:
        _check_pooled(pipeline.pooling, pipeline.stages, "pipeline")
    if scores is not None:
        _check_pooled(scores.pooling, scores.stages, "scores")
        _choice("scores.activation", scores.activation, SCORE_ACTIVATIONS)
        width = next((stage.out_features for stage in reversed(scores.stages) if stage.kind == "dense"), None)
        template = scores.template
        if template is not None:
            ends = template.text.endswith("{document}") and template.text.count("{document}") == 1
            require(ends, "scores.template.text", "must end with its one {document}")
            require(template.text.count("{query}") == 1, "scores.template.text", "must have one {query}")
        require(width == len(scores.labels), "scores.labels", f"must be {width or 'behind a dense stage'}, as it gives")


def check_code_width(manifest: Manifest) -> None:
    """Raise SchemaError where integer codes of dense vectors would be spread over nothing."""
    width = manifest.code_width
    if width is not None:
        require(math.isfinite(width) and width > 0, "code_width", "must be a number above 0")
        require(manifest.pipeline is not None, "code_width", "is of dense vectors")


def check_token_heads(manifest: Manifest) -> None:
    """Of the heads that give sparse vectors and vectors of tokens, names that exist and numbers that fit.

    Raises:
        SchemaError: with the place of the first that does not.
    """
    sparse, tokens, words = manifest.sparse, manifest.tokens, manifest.architecture.vocab_size
    if sparse is not None:
        _within("sparse.dimension", sparse.dimension, 1)
        require((sparse.words is None) != (sparse.weights is None), "sparse", "must have words or weights, one of them")
        _choice("sparse.default", sparse.default, ("query", "document"))
        _choice("sparse.similarity", sparse.similarity, SIMILARITY_NAMES)
        _at_least_one("sparse.max_active_dims", sparse.max_active_dims)
        _at_least_one("sparse.table_tokens", sparse.table_tokens)
        require((sparse.table is None) == (sparse.table_tokens is None), "sparse.table_tokens", "belongs to a table")
        if sparse.words is not None:
            _choice("sparse.words.activation", sparse.words.activation, WORD_ACTIVATIONS)
            _choice("sparse.words.pooling", sparse.words.pooling, WORD_POOLINGS)
            check_norm(sparse.words.norm, "sparse.words.norm")
    if tokens is not None:
        for i, stage in enumerate(tokens.stages):
            _check_stage_names(stage, f"tokens.stages[{i}]")
        _within("tokens.dimension", tokens.dimension, 1)
        _choice("tokens.similarity", tokens.similarity, TOKEN_SIMILARITIES)
        for name, side in (("query", tokens.query), ("document", tokens.document)):
            _at_least_one(f"tokens.{name}.max_tokens", side.max_tokens)
            if (expansion := side.expansion) is not None:
                _within(f"tokens.{name}.expansion.length", expansion.length, 1)
                known = 0 <= expansion.token < words
                require(known, f"tokens.{name}.expansion.token", f"must be a token of the {words}")


def _at_least_one(where: str, value: int | None) -> None:
    if value is not None:
        _within(where, value, 1)


def _check_pooled(pooling: tuple[str, ...], stages: tuple[Stage, ...], where: str) -> None:
    for mode in pooling:
        _choice(f"{where}.pooling", mode, (*POOLING_MODES, ATTENTION))
    alone = pooling == (ATTENTION,) and [stage.kind for stage in stages[:1]] == [ATTENTION]
    named = ATTENTION in (*pooling, *(stage.kind for stage in stages[1:])) or [s.kind for s in stages[:1]] == [
        ATTENTION
    ]
    require(not named or alone, f"{where}.pooling", f"{ATTENTION!r} stands alone, and is the first stage, too")
    require(bool(pooling), f"{where}.pooling", "must not be empty")
    for i, stage in enumerate(stages):
        _check_stage_names(stage, f"{where}.stages[{i}]")


def _check_stage_names(stage: Stage, where: str) -> None:
    _choice(f"{where}.kind", stage.kind, STAGE_KINDS)
    if stage.kind == "dense":
        _choice(f"{where}.activation", str(stage.activation), ACTIVATION_NAMES)
    if stage.kind == ATTENTION:
        _choice(f"{where}.activation", str(stage.activation), POOLING_ACTIVATIONS)


def _choice(where: str, value: str, allowed: tuple[str, ...]) -> None:
    require(value in allowed, where, f"{value!r} is not one of {', '.join(allowed)}")


def _check_stage(stage: Stage, where: str) -> None:
    for name in ("in_features", "out_features"):
        value = getattr(stage, name)
        if stage.kind == "dense" or value is not None:
            require(value is not None, f"{where}.{name}", "missing")
            _within(f"{where}.{name}", value, 1)
    epsilon = stage.epsilon
    require(epsilon is None or (math.isfinite(epsilon) and epsilon >= 0), f"{where}.epsilon", f"must not be {epsilon}")


def _file_lists(manifest: Manifest) -> Iterator[tuple[str, tuple[BundleFile, ...]]]:
    yield "files", manifest.files
    for name, variant in manifest.variants.items():
        yield f"variants.{name}.files", variant.files


def _check_files(files: tuple[BundleFile, ...], where: str) -> None:
    for i, file in enumerate(files):
        _within(f"{where}[{i}].size", file.size, 0)
        require(_SHA256.fullmatch(file.sha256) is not None, f"{where}[{i}].sha256", "must be 64 hex digits")


def _check_tensors(variant: Variant, where: str) -> None:
    sizes = {file.path: file.size for file in variant.files}
    for i, tensor in enumerate(variant.tensors):
        _check_tensor(tensor, sizes.get(tensor.path, 0), f"{where}.tensors[{i}]")


def _check_tensor(tensor: TensorEntry, file_bytes: int, where: str) -> None:
    require(tensor.dtype in _ITEM_BYTES, f"{where}.dtype", f"{tensor.dtype!r} is not one of {', '.join(_ITEM_BYTES)}")
    require(len(tensor.shape) <= _MAX_AXES, f"{where}.shape", f"has more than {_MAX_AXES} axes")
    for extent in tensor.shape:
        _within(f"{where}.shape", extent, 0)
    size = math.prod(tensor.shape) * _ITEM_BYTES[tensor.dtype]
    require(tensor.size == size, f"{where}.size", f"must be {size}, as its shape and dtype say, not {tensor.size}")
    _within(f"{where}.offset", tensor.offset, 0)
    require(
        tensor.offset + tensor.size <= file_bytes,
        where, f"ends at byte {tensor.offset + tensor.size} of {tensor.path}, which has {file_bytes}",
    )  # fmt: skip


def check_paths(paths: Iterable[str]) -> None:
    """Every path must mean the same file inside the bundle on every system, and no two the same one.

    Raises:
        SchemaError: one does not.
    """
    seen: dict[str, str] = {}
    for path in paths:
        for part in path.split("/"):
            stem = part.split(".", 1)[0].rstrip(" ").casefold()
            plain = part not in ("", ".", "..") and not _NOT_IN_NAMES.search(part) and part[-1] not in ". "
            require(plain and stem not in _DEVICES, repr(path), "must stay inside the bundle, by plain names")
        other = seen.setdefault(unicodedata.normalize("NFC", path.casefold()), path)
        same = "upper and lower case, or one character's spellings, are the same"
        require(other == path, repr(path), f"is {other!r} where {same}")


def _within(where: str, value: int, least: int) -> None:
    require(least <= value <= _LARGEST, where, f"must be at least {least} and fit 64 bits, not {value}")
