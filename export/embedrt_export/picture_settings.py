"""What a model's preprocessor_config.json says of pixels, as the bundle says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt.pictures.preprocessing import Preprocessing

_FILES = (("preprocessor_config.json", None), ("processor_config.json", "image_processor"))
"""Where the settings are, and under which key; transformers 5 writes the second with a processor."""

_RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers

# transformers' classes, without "Pil" or "Fast" -> their defaults
_CLIP = {
    "size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip
_SIGLIP = {
    "size": {"height": 224, "width": 224}, "crop_size": None, "do_center_crop": False, "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}  # fmt: skip
_CLASSES: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": _CLIP, "CLIPFeatureExtractor": _CLIP, "SiglipImageProcessor": _SIGLIP,
}  # fmt: skip
_COMMON = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "resample": 3}
_NO_EFFECT = {
    "image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb", "default_to_square",
    "data_format", "input_data_format", "return_tensors", "device", "disable_grouping", "auto_map", "_processor_class",
    "do_pad", "pad_size", "image_seq_length",
}  # fmt: skip
"""Settings that change no pixel here; do_pad is looked at first."""


def find_settings(folder: Path) -> dict[str, Any]:
    """The image processor's settings in a model's folder.

    Raises:
        SourceError: there are none.
    """
    for name, key in _FILES:
        file = folder / name
        if not file.is_file():
            continue
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            found = data if key is None else data[key]
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise SourceError(f"{file} cannot be read: {exc}; download the model again") from exc
        if isinstance(found, dict):
            return found
    raise SourceError(f"{folder} has no preprocessor_config.json, which says how pictures are resized; download it too")


def preprocessing_of(settings: Mapping[str, Any], image_size: int) -> Preprocessing:
    """The settings as the bundle says them.

    Raises:
        UnsupportedModelError: a setting that the bundle cannot say, or pictures of another size than the encoder reads.
    """
    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "CLIPImageProcessor")
    kind = kind.removesuffix("Fast").removesuffix("Pil")
    if kind not in _CLASSES:
        raise UnsupportedModelError(
            f"pictures are prepared by a {kind}, which is not supported yet; only {', '.join(_CLASSES)}"
        )
    given = {key: value for key, value in settings.items() if value is not None}
    every: dict[str, Any] = {**_COMMON, **_CLASSES[kind], **given}
    unknown = sorted(set(given) - _NO_EFFECT - set(_COMMON) - set(_CLIP))
    if unknown or every.get("do_pad"):
        raise UnsupportedModelError(
            f"preprocessor_config.json has {unknown[0] if unknown else 'do_pad'!r}, whose effect is not known here"
        )
    resize = _sizes(every["size"]) if every["do_resize"] else {}
    crop = _sizes(every["crop_size"]) if every["do_center_crop"] else {}
    if set(crop) == {"shortest_edge"}:
        crop = {"height": crop["shortest_edge"], "width": crop["shortest_edge"]}
    final = crop or resize
    if (final.get("height"), final.get("width")) != (image_size, image_size):
        raise UnsupportedModelError(
            f"pictures come out of preprocessor_config.json as {dict(final)}, and the encoder reads {image_size} x "
            f"{image_size} pixels"
        )
    if not isinstance(every["resample"], int) or not 0 <= every["resample"] < len(_RESAMPLE):
        raise UnsupportedModelError(
            f"preprocessor_config.json has resample {every['resample']!r}, no filter of Pillow's"
        )
    normalizes = every["do_normalize"]
    return Preprocessing(
        shortest_edge=resize.get("shortest_edge"),
        resized=(resize["height"], resize["width"]) if "height" in resize else None,
        resample=_RESAMPLE[every["resample"]],  # type: ignore[arg-type]  # one of them
        height=image_size,
        width=image_size,
        scale=float(every["rescale_factor"]) if every["do_rescale"] else 1.0,
        mean=_three(every["image_mean"]) if normalizes else (0.0,) * 3,
        std=_three(every["image_std"]) if normalizes else (1.0,) * 3,
    )


def _sizes(size: Any) -> dict[str, int]:
    """A number is of the shorter edge, as in transformers with default_to_square=False."""
    if isinstance(size, int):
        return {"shortest_edge": size}
    if isinstance(size, dict) and set(size) in ({"shortest_edge"}, {"height", "width"}):
        return {key: int(value) for key, value in size.items()}
    raise UnsupportedModelError(f"preprocessor_config.json has size {size!r}; only shortest_edge, or height and width")


def _three(numbers: Any) -> tuple[float, ...]:
    every = numbers if isinstance(numbers, list) else [numbers] * 3
    return tuple(float(number) for number in every)
