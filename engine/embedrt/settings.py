"""What of a model its user may set without loading it again: the limit on tokens, the dimension, the prompts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from embedrt._manifest_checks import known_positions
from embedrt.errors import OptionError
from embedrt.manifest import Manifest, Prompts, pipeline_of
from embedrt.options import whole_number


@dataclass(frozen=True)
class Settings:
    """What holds for every call of one embedder."""

    max_tokens: int
    truncate_dim: int | None
    prompts: Prompts


def own_settings(manifest: Manifest) -> Settings:
    """Those that the bundle comes with."""
    return Settings(manifest.max_tokens, None, manifest.prompts)


def most_tokens(manifest: Manifest) -> int:
    """The most that `max_tokens` may be: the model's positions where they are known, else the bundle's own limit."""
    positions = known_positions(manifest) or 0
    return max(positions, manifest.max_tokens)


def change(
    settings: Settings,
    manifest: Manifest,
    *,
    max_tokens: int | None = None,
    truncate_dim: int | None = None,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
) -> Settings:
    """`settings` with what is given; None keeps what is there.

    Args:
        settings: to start from.
        manifest: of the bundle.
        max_tokens: special tokens and prompt included.
        truncate_dim: what calls take that give none.
        prompts: name -> text; over those of the same name, beside the others, as sentence-transformers has it.
        default_prompt_name: which of them `encode` takes where it is given none.

    Raises:
        OptionError: a value does not fit.
    """
    limit = whole_number("max_tokens", max_tokens)
    if limit is not None and not 3 <= limit <= most_tokens(manifest):  # two special tokens and one of the text
        raise OptionError(f"max_tokens must be between 3 and {most_tokens(manifest)} for this model, not {limit}")
    dimension = whole_number("truncate_dim", truncate_dim)
    if dimension is not None and dimension > (width := pipeline_of(manifest).dimension):
        raise OptionError(f"truncate_dim={dimension} is more than the vector's {width} dimensions")
    return Settings(
        settings.max_tokens if limit is None else limit,
        settings.truncate_dim if dimension is None else dimension,
        _with_prompts(settings.prompts, prompts, default_prompt_name),
    )


def _with_prompts(own: Prompts, given: Mapping[str, str] | None, default_name: str | None) -> Prompts:
    if given is None and default_name is None:
        return own
    texts = dict(own.texts)
    for name, text in _checked(given or {}).items():
        texts[name] = text
    if default_name is not None and default_name not in texts:
        raise OptionError(f"there is no prompt {default_name!r}; there are: {', '.join(texts) or 'none'}")
    return replace(
        own, texts=texts, default_name=own.default_name if default_name is None else default_name, source="prompts="
    )


def _checked(prompts: Mapping[str, str]) -> Mapping[str, str]:
    pairs = prompts.items() if isinstance(prompts, Mapping) else None
    if pairs is None or not all(isinstance(name, str) and isinstance(text, str) for name, text in pairs):
        raise OptionError(f"prompts must be a dict of names and texts, not {prompts!r}")
    return prompts
