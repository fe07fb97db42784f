"""The families whose config.json and checkpoint are read as data, without transformers' classes."""

from __future__ import annotations

from collections.abc import Mapping

from embedrt_export.families import (
    albert,
    bert,
    distilbert,
    gemma,
    gte,
    jina,
    llama,
    modernbert,
    mpnet,
    nomic,
    t5,
)
from embedrt_export.families.family import Family
from embedrt_export.families.settings import Config

FAMILIES = tuple(
    module.FAMILY for module in (albert, bert, distilbert, gemma, gte, jina, llama, modernbert, mpnet, nomic, t5)
)

__all__ = ["FAMILIES", "Family", "find_family", "own_class", "own_code_of"]


def find_family(config: Config) -> Family | None:
    """The family of a config.json; None where no file of this package reads it.

    A model with code of its own is known by its class, whatever its model_type says: another class of the same
    model_type may compute something else, as gte-Qwen2's.
    """
    own, kind = own_class(config), config.get("model_type")
    fits = (own in each.classes if own else kind in each.model_types for each in FAMILIES)
    return next((family for family, fit in zip(FAMILIES, fits, strict=True) if fit), None)


def own_code_of(config: Config) -> str | None:
    """The class outside transformers that a config names as its model or its config, with module and repository.

    A model_type that transformers knows does not help: its own class would be loaded and compute something else, as
    GPT-like attention in place of gte-Qwen2's, which looks both ways.
    """
    named = config.get("auto_map")
    if not isinstance(named, Mapping):
        return None
    return next((str(named[kind]) for kind in ("AutoModel", "AutoConfig") if named.get(kind)), None)


def own_class(config: Config) -> str | None:
    """The class of the model's own code, without module and repository."""
    named = own_code_of(config)
    return None if named is None else named.rpartition(".")[2]
