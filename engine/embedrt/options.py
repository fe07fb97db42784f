"""What a call of `encode` may ask for, checked once and frozen."""

from __future__ import annotations

import difflib
import hashlib
import json
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

import numpy as np

from embedrt.bundle import BF16, Manifest, Prompts, find_variant
from embedrt.errors import OptionError
from embedrt.precision import PRECISIONS
from embedrt.prompting import choose_prompt, document_prompt, query_prompt

Kind = Literal["encode", "query", "document"]

_CHOICES = {
    "output_value": ("sentence_embedding", "token_embeddings"),
    "precision": PRECISIONS,
    "on_overflow": ("truncate", "error"),
    "kind": ("encode", "query", "document"),
}


class EncodeKwargs(TypedDict, total=False):
    """The options of `Embedder.encode`; their names are sentence-transformers' where it has one."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int | None
    show_progress_bar: bool | None
    output_value: Literal["sentence_embedding", "token_embeddings"]
    precision: Literal["float32", "int8", "uint8", "binary", "ubinary"]
    normalize_embeddings: bool
    truncate_dim: int | None
    on_overflow: Literal["truncate", "error"]
    convert_to_numpy: Literal[True]  # accepted, because there is nothing else
    convert_to_tensor: Literal[False]


@dataclass(frozen=True)
class EncodeOptions:
    """A call's options, checked."""

    prompt: str
    output_value: str = "sentence_embedding"
    precision: str = "float32"
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    on_overflow: str = "truncate"
    batch_size: int | None = None
    show_progress_bar: bool = False
    unnormalized: bool = False  # stop before the L2 norm at the end of the model's own pipeline, if there is one


def parse_options(
    given: Mapping[str, Any], kind: Kind, task: str | None, prompts: Prompts, width: int
) -> EncodeOptions:
    """Check what the caller gave.

    Args:
        given: keyword arguments as in `EncodeKwargs`.
        kind: whose prompt to use.
        task: for a query prompt with `{task}`.
        prompts: the bundle's.
        width: dimension of the untruncated vector.

    Raises:
        OptionError: an option is unknown or does not fit.
    """
    _check_names(given)
    _check_choice("kind", kind)
    for name in ("output_value", "precision", "on_overflow"):
        if name in given:
            _check_choice(name, given[name])
    truncate_dim = whole_number("truncate_dim", given.get("truncate_dim"))
    if truncate_dim is not None and truncate_dim > width:
        raise OptionError(f"truncate_dim={truncate_dim} is more than the vector's {width} dimensions")
    if not given.get("convert_to_numpy", True) or given.get("convert_to_tensor", False):
        raise OptionError("embedrt gives numpy arrays; torch.from_numpy(embeddings) makes a tensor of one")
    tokens = given.get("output_value") == "token_embeddings"
    if tokens and (truncate_dim is not None or given.get("precision", "float32") != "float32"):
        raise OptionError("output_value='token_embeddings' goes with neither truncate_dim nor precision")
    return EncodeOptions(
        prompt=_prompt(given, kind, task, prompts),
        output_value=given.get("output_value", "sentence_embedding"),
        precision=given.get("precision", "float32"),
        normalize_embeddings=_flag("normalize_embeddings", given.get("normalize_embeddings")),
        truncate_dim=truncate_dim,
        on_overflow=given.get("on_overflow", "truncate"),
        batch_size=whole_number("batch_size", given.get("batch_size")),
        show_progress_bar=_flag("show_progress_bar", given.get("show_progress_bar")),
    )


def identity_of(manifest: Manifest, variant: str, pooling: tuple[str, ...], options: EncodeOptions) -> str:
    """16 hex digits over everything that decides a vector: model, tokenizer, variant, pooling, prompt, output."""
    files = find_variant(manifest, variant).files
    hashes = {f.path: f.sha256 for f in (*manifest.files, *files)}
    stages = [{**asdict(stage), "path": hashes.get(stage.path or "")} for stage in manifest.pipeline.stages]
    parts = {
        "model": manifest.source.sha256,
        "tokenizer": hashes[manifest.tokenizer],
        "max_tokens": manifest.max_tokens,
        "variant": {path: hashes[path] for path in sorted(f.path for f in files)},
        "pooling": [*pooling, manifest.pipeline.include_prompt],
        "stages": stages,
        "prompt": options.prompt,
        "output": [
            options.output_value,
            options.precision,
            options.normalize_embeddings,
            options.truncate_dim,
        ],
    }
    if variant == BF16:
        parts["products"] = BF16
    if options.unnormalized and stages and stages[-1]["kind"] == "normalize":
        parts["stages"] = stages[:-1]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _prompt(given: Mapping[str, Any], kind: Kind, task: str | None, prompts: Prompts) -> str:
    name, prompt = given.get("prompt_name"), given.get("prompt")
    for key, value in (("prompt_name", name), ("prompt", prompt), ("task", task)):
        if value is not None and not isinstance(value, str):
            raise OptionError(f"{key} must be a string, not {type(value).__name__}")
    if kind == "query":
        return query_prompt(prompts, name, prompt, task)
    if task is not None:
        raise OptionError(f"task={task!r} goes with queries only")
    return document_prompt(prompts, name, prompt) if kind == "document" else choose_prompt(prompts, name, prompt)


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


def _check_names(given: Mapping[str, Any]) -> None:
    known = EncodeKwargs.__annotations__
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise OptionError(f"unknown option {name!r}; {hint}")


def _check_choice(name: str, value: object) -> None:
    if value not in _CHOICES[name]:
        raise OptionError(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r}")


def _flag(name: str, value: object) -> bool:
    if value is None or isinstance(value, (bool, np.bool_, int)):
        return bool(value)
    raise OptionError(f"{name} must be True or False, not {value!r}")
