"""What a call of `encode` may ask for, checked once and frozen."""

from __future__ import annotations

import difflib
import hashlib
import json
import operator
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

import numpy as np

from embedrt.bundle import PARITY_VECTORS
from embedrt.errors import OptionError
from embedrt.heads import Stage
from embedrt.manifest import BF16, Manifest, Prompts, find_variant, picture_tower, pipeline_of
from embedrt.precision import CODES, PRECISIONS
from embedrt.prompting import choose_prompt, document_prompt, query_prompt
from embedrt.tensors import torch_if_imported

Kind = Literal["encode", "query", "document"]

_CHOICES: dict[str, tuple[object, ...]] = {
    "output_value": ("sentence_embedding", "token_embeddings", None),
    "precision": (*PRECISIONS, None),
    "on_overflow": ("truncate", "error", "windows"),
    "kind": ("encode", "query", "document"),
}

# Of sentence-transformers, and not for a call of ours -> what to do instead.
_ELSEWHERE = {
    "prompts": "prompts are set once: Embedder(..., prompts=...) or with_options(prompts=...)",
    "max_seq_length": "the limit is set once: Embedder(..., max_tokens=...) or with_options(max_tokens=...)",
    "max_length": "the limit is set once: Embedder(..., max_tokens=...) or with_options(max_tokens=...)",
    "processing_kwargs": "the tokenizer is the model's own; with_options(max_tokens=...) sets its limit",
    "num_workers": "threads are set once, Embedder(..., num_threads=...); one process uses every core",
}


class CommonKwargs(TypedDict, total=False):
    """The options of `Embedder.encode` that do not change the type of what it returns."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int | None
    show_progress_bar: bool | None
    normalize_embeddings: bool
    truncate_dim: int | None
    on_overflow: Literal["truncate", "error", "windows"]
    device: str | None  # accepted where it is the embedder's own
    pool: None  # accepted, because one process uses every core
    task: str | None
    chunk_size: int | None  # accepted, and nothing to us: it is of sentence-transformers' several processes


class EncodeKwargs(CommonKwargs, total=False):
    """The options of `Embedder.encode`; their names are sentence-transformers' where it has one."""

    output_value: Literal["sentence_embedding", "token_embeddings"] | None
    precision: Literal["float32", "int8", "uint8", "binary", "ubinary"] | None
    convert_to_tensor: bool
    convert_to_numpy: bool


@dataclass(frozen=True)
class EncodeOptions:
    """A call's options, checked."""

    prompt: str
    output_value: str | None = "sentence_embedding"
    precision: str = "float32"
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    on_overflow: str = "truncate"
    batch_size: int | None = None
    show_progress_bar: bool = False
    container: str = "array"  # or "tensor", or "tensors": a list of one per text
    unnormalized: bool = False  # stop before the L2 norm at the end of the model's own pipeline, if there is one


def parse_options(
    given: Mapping[str, Any],
    kind: Kind,
    prompts: Prompts,
    width: int,
    *,
    truncate_dim: int | None = None,
    device: str = "cpu",
) -> EncodeOptions:
    """Check what the caller gave.

    Args:
        given: keyword arguments as in `EncodeKwargs`.
        kind: whose prompt to use.
        prompts: the embedder's.
        width: dimension of the untruncated vector.
        truncate_dim: what holds where the call gives none.
        device: the embedder's own.

    Raises:
        OptionError: an option is unknown or does not fit.
    """
    check_known(given, _KNOWN, _ELSEWHERE, device)
    check_choice("kind", kind)
    for name in ("output_value", "precision", "on_overflow"):
        if name in given:
            check_choice(name, given[name])
    output_value, precision = given.get("output_value", "sentence_embedding"), given.get("precision") or "float32"
    dimension = whole_number("truncate_dim", given.get("truncate_dim"))
    if dimension is not None and dimension > width:
        raise OptionError(f"truncate_dim={dimension} is more than the vector's {width} dimensions")
    if output_value == "token_embeddings" and (dimension is not None or precision != "float32"):
        raise OptionError("output_value='token_embeddings' goes with neither truncate_dim nor precision")
    if output_value is None and precision != "float32":
        raise OptionError("output_value=None does not go with precision")
    if output_value != "sentence_embedding" and given.get("on_overflow") == "windows":
        raise OptionError(
            "on_overflow='windows' makes one vector of a text, and goes with output_value='sentence_embedding'"
        )
    return EncodeOptions(
        prompt=given_prompt(given, kind, prompts),
        output_value=output_value,
        precision=precision,
        normalize_embeddings=flag("normalize_embeddings", given.get("normalize_embeddings")),
        truncate_dim=truncate_dim if dimension is None and output_value != "token_embeddings" else dimension,
        on_overflow=given.get("on_overflow", "truncate"),
        batch_size=whole_number("batch_size", given.get("batch_size")),
        show_progress_bar=flag("show_progress_bar", given.get("show_progress_bar")),
        # sentence-transformers, too, heeds it for sentence embeddings only.
        container=parse_container(given) if output_value == "sentence_embedding" else "array",
    )


def identity_parts(manifest: Manifest, variant: str, pooling: tuple[str, ...], max_tokens: int) -> dict[str, Any]:
    """What decides every vector of an embedder: model, tokenizer, variant, pooling; and integer codes: their ranges."""
    pipeline = pipeline_of(manifest)
    parts = {
        **encoder_parts(manifest, variant, max_tokens),
        "pooling": [*pooling, pipeline.include_prompt],
        "stages": stage_parts(manifest, pipeline.stages),
    }
    if manifest.code_width is not None:
        parts["codes"] = [manifest.code_width, *(f.sha256 for f in manifest.files if f.path == PARITY_VECTORS)]
    return parts


def encoder_parts(manifest: Manifest, variant: str, max_tokens: int) -> dict[str, Any]:
    """What decides every output of a bundle, whatever head is behind the encoder."""
    files = find_variant(manifest, variant).files
    hashes = {f.path: f.sha256 for f in (*manifest.files, *files)}
    parts: dict[str, Any] = {
        "model": manifest.source.sha256,
        "tokenizer": hashes[manifest.tokenizer],
        "max_tokens": max_tokens,
        "variant": {path: hashes[path] for path in sorted(f.path for f in files)},
    }
    pictures = picture_tower(manifest)
    if pictures is not None:  # their vectors are compared with the texts'
        files = find_variant(pictures, variant).files
        stages = stage_parts(manifest, pipeline_of(pictures).stages)
        parts["pictures"] = [{file.path: file.sha256 for file in files}, stages]
    if manifest.table is not None:
        parts["table"] = asdict(manifest.table)
    if variant == BF16:
        parts["products"] = BF16
    return parts


def stage_parts(manifest: Manifest, stages: tuple[Stage, ...]) -> list[dict[str, Any]]:
    """Stages with the hashes of their arrays in place of the paths."""
    hashes = {f.path: f.sha256 for f in manifest.files}
    return [{**asdict(stage), "path": hashes.get(stage.path or "")} for stage in stages]


def identity_of(parts: Mapping[str, Any], options: EncodeOptions) -> str:
    """16 hex digits over `identity_parts` and what the call adds: prompt and output."""
    output = [options.output_value, options.precision, options.normalize_embeddings, options.truncate_dim]
    whole = {**parts, "prompt": options.prompt, "output": output}
    if options.precision not in CODES:
        whole.pop("codes", None)
    if options.unnormalized and parts["stages"] and parts["stages"][-1]["kind"] == "normalize":
        whole["stages"] = parts["stages"][:-1]
    if options.on_overflow == "windows":
        whole["overflow"] = "windows"
    return short_hash(whole)


def hash_of(parts: object) -> str:
    """Hex sha256 over what JSON can say, keys in any order."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def short_hash(parts: object) -> str:
    """16 hex digits of `hash_of`: an identity."""
    return hash_of(parts)[:16]


def whole_number(name: str, value: object) -> int | None:
    """`value` as an int of at least 1, out of any library's whole numbers; None stays None.

    Raises:
        OptionError: it is something else; True is no number here.
    """
    if value is None:
        return None
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1:
        raise OptionError(f"{name} must be a whole number of at least 1, not {value!r}")
    return number


def given_prompt(given: Mapping[str, Any], kind: Kind, prompts: Prompts) -> str:
    """The prompt that a call means, by `prompt_name`, `prompt` and `task`.

    Raises:
        OptionError: there is none such.
    """
    name, prompt, task = given.get("prompt_name"), given.get("prompt"), given.get("task")
    for key, value in (("prompt_name", name), ("prompt", prompt), ("task", task)):
        if value is not None and not isinstance(value, str):
            raise OptionError(f"{key} must be a string, not {type(value).__name__}")
    if kind == "query":
        return query_prompt(prompts, name, prompt, task)
    if task is not None:
        raise OptionError(f"task={task!r} goes with queries only")
    return document_prompt(prompts, name, prompt) if kind == "document" else choose_prompt(prompts, name, prompt)


def check_harmless(given: Mapping[str, Any], device: str) -> None:
    """Keywords of sentence-transformers that may say what is so anyway, and nothing else."""
    asked = given.get("device")
    if asked is not None and str(asked).partition(":")[0] != device:
        raise OptionError(
            f"this model runs on {device} and cannot move to {asked!r} for a call; device= of the class makes one"
        )
    if given.get("pool") is not None:
        raise OptionError("there is no pool of processes here: one process uses every core; leave pool out")


def parse_container(given: Mapping[str, Any]) -> str:
    """What a call's result is in: "array", "tensor", or "tensors", a list of one per input.

    Raises:
        OptionError: tensors are asked for where torch was not imported.
    """
    tensor = flag("convert_to_tensor", given.get("convert_to_tensor"))
    if not tensor and flag("convert_to_numpy", given.get("convert_to_numpy", True)):
        return "array"
    if torch_if_imported() is None:
        raise OptionError(
            "embedrt gives numpy arrays, and tensors where torch is imported before the call; "
            "torch.from_numpy(embeddings) makes a tensor of an array"
        )
    return "tensor" if tensor else "tensors"


def nearest_of(name: str, known: Collection[str]) -> str:
    """What to say of an unknown name: the nearest one, or all there are."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def check_known(given: Mapping[str, Any], known: Collection[str], elsewhere: Mapping[str, str], device: str) -> None:
    """Refuse options that are not among the `known`, or that ask for what cannot be.

    Args:
        given: keyword arguments of a call.
        known: names that it takes.
        elsewhere: names of sentence-transformers that it does not take -> what to do instead.
        device: that the model runs on.

    Raises:
        OptionError: with the nearest name, or what to do.
    """
    for name in given:
        if name not in known:
            raise OptionError(f"unknown option {name!r}; {elsewhere.get(name) or nearest_of(name, known)}")
    check_harmless(given, device)


def check_choice(name: str, value: object) -> None:
    """Raise OptionError for a value that the option `name` cannot have."""
    if value not in _CHOICES[name]:
        raise OptionError(f"{name} must be one of {', '.join(map(str, _CHOICES[name]))}, not {value!r}")


def flag(name: str, value: object) -> bool:
    """`value` as a bool; None is False.

    Raises:
        OptionError: it is neither.
    """
    if value is None or isinstance(value, (bool, np.bool_, int)):
        return bool(value)
    raise OptionError(f"{name} must be True or False, not {value!r}")


_KNOWN = tuple(EncodeKwargs.__annotations__)
