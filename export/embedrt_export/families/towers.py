"""Models of two towers, one for texts and one for pictures, whose vectors are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from embedrt.errors import UnsupportedModelError
from embedrt_export.families import clip, siglip
from embedrt_export.families.family import Family
from embedrt_export.families.settings import Config


@dataclass(frozen=True)
class Towers:
    """A kind of such models."""

    name: str
    model_types: tuple[str, ...]  # of config.json
    text: Family
    vision: Family
    text_projection: str | None  # names of the products behind the towers, in the checkpoint
    vision_projection: str | None
    end_of_text: Callable[[Config], int | None] | None  # from the text's config: the token whose state is a text's
    # vector; None: the last one, of texts that are padded to all positions, and padding is read


def clip_end_of_text(config: Config) -> int | None:
    """The id of the token at which CLIP's texts are pooled; None where the config's is not to be believed.

    Older configs say 2, which no tokenizer of CLIP's has there; transformers then takes the highest id of the text,
    which is the last of the vocabulary (`CLIPTextModel.forward`).
    """
    stated = config.get("eos_token_id", 49407)
    stated = 49407 if stated is None else stated
    if not isinstance(stated, int):
        raise UnsupportedModelError(f"'clip' with eos_token_id {stated!r} is not supported yet, only one number")
    return None if stated == 2 else stated


CLIP = Towers("CLIP", ("clip",), clip.TEXT, clip.VISION, "text_projection", "visual_projection", clip_end_of_text)

SIGLIP = Towers("SigLIP", ("siglip",), siglip.TEXT, siglip.VISION, "text_model.head", None, None)

TOWERS = (CLIP, SIGLIP)


def find_towers(config: Config) -> Towers | None:
    """The kind of the model with this config.json; None where it is not one of two towers."""
    return next((each for each in TOWERS if config.get("model_type") in each.model_types), None)


def tower_configs(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configs of texts and pictures.

    transformers lets `text_config_dict` and `vision_config_dict` of older versions come before the others.
    """
    parts = []
    for part in ("text", "vision"):
        older = config.get(f"{part}_config_dict")
        found = older if older is not None else config.get(f"{part}_config")
        found = {} if found is None else found
        if not isinstance(found, Mapping):
            raise UnsupportedModelError(f"config.json's {part}_config is not an object; download the model again")
        parts.append(dict(found))
    return parts[0], parts[1]
