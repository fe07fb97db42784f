"""Rotary frequencies, of a base and what stretches it to longer texts; computed in float32 as transformers does, for at
position 8,192 the last bit is an angle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt_export.families.settings import Settings

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Rotary:
    """What rotates the queries and keys of a head."""

    frequencies: NDArray[np.float32]  # (F,)
    score_scale: float  # YaRN's attention factor, squared: it multiplies queries and keys


def parameters(settings: Settings, base: float) -> dict[str, Any]:
    """The rotary settings of a config: version 5's rope_parameters, or version 4's rope_theta, rope_scaling and
    partial_rotary_factor; `base` where the config has none."""
    found = {**settings.get("rope_parameters", {}), **settings.get("rope_scaling", {})}
    found.setdefault("rope_theta", settings.get("rope_theta", base))
    found.setdefault("partial_rotary_factor", settings.get("partial_rotary_factor", 1.0))
    return found


def parameters_of(settings: Settings, layer_type: str, base: float, *, scaled: bool = True) -> dict[str, Any]:
    """The rotary settings of a type of layers: version 5's rope_parameters, or `base`, version 4's for it, with
    rope_scaling where this type is `scaled`."""
    old = settings.get("rope_scaling", {})
    found = {**(settings.get("rope_parameters", {}).get(layer_type) or {}), **(old if scaled else {})}
    return {"rope_theta": base, "partial_rotary_factor": 1.0, **found}


def rotary(settings: Settings, found: Mapping[str, Any], head_size: int) -> Rotary:
    """Frequencies for `parameters`.

    Raises:
        UnsupportedModelError: they are stretched in a way that depends on the text's length, or is not known.
    """
    kind = str(found.get("rope_type", found.get("type", "default")))
    if kind not in _SCALED:
        raise settings.unsupported("rope type", kind, ", ".join(_SCALED))
    size = int(head_size * found["partial_rotary_factor"])
    plain = base_frequencies(found["rope_theta"], size)
    most = settings.get("max_position_embeddings", 0)
    frequencies, factor = _SCALED[kind](plain, {"original_max_position_embeddings": most, **found})
    if factor != 1 and size != head_size:
        raise settings.unsupported("partial_rotary_factor", found["partial_rotary_factor"], f"1 with {kind}")
    return Rotary(np.asarray(frequencies, np.float32), float(factor) ** 2)


def base_frequencies(base: float, size: int) -> NDArray[np.float32]:
    """base ** (-2 j / size) for j below size / 2."""
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    return np.float32(1) / (float(base) ** exponents.astype(np.float64)).astype(np.float32)


def _default(plain: Floats, _found: Mapping[str, Any]) -> tuple[Floats, float]:
    return plain, 1.0


def _linear(plain: Floats, found: Mapping[str, Any]) -> tuple[Floats, float]:
    return plain / np.float32(found["factor"]), 1.0


def _ntk(plain: Floats, found: Mapping[str, Any]) -> tuple[Floats, float]:
    """GTE's: a larger base, and all stretched as the last would be (https://kexue.fm/archives/9706); `mixed_b` spreads
    the stretching over the frequencies."""
    factor, size, mixed = float(found["factor"]), 2 * len(plain), found.get("mixed_b")
    if mixed is None:
        return base_frequencies(found["rope_theta"] * factor, size) / np.float32(factor ** (2 / size)), 1.0
    stretch = np.exp(math.log(factor) / len(plain) ** mixed * np.arange(1, len(plain) + 1) ** mixed)
    return plain / stretch, 1.0


def _llama3(plain: Floats, found: Mapping[str, Any]) -> tuple[Floats, float]:
    """Llama 3.1's: long waves are stretched, short ones are not, those between in part."""
    factor, low, high = found["factor"], found["low_freq_factor"], found["high_freq_factor"]
    waves = found["original_max_position_embeddings"] / (2 * np.pi / plain)  # how often each turns within the length
    share = np.clip((waves - low) / (high - low), 0, 1)
    return (1 - share) * plain / factor + share * plain, 1.0


def _yarn(plain: Floats, found: Mapping[str, Any]) -> tuple[Floats, float]:
    """YaRN (Peng et al., 2023, arXiv:2309.00071), as transformers computes it."""
    factor, length = found["factor"], found["original_max_position_embeddings"]
    size, base = 2 * len(plain), found["rope_theta"]

    def dimension(rotations: float) -> float:
        return size * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(found.get("beta_fast") or 32), dimension(found.get("beta_slow") or 1)
    if found.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    stretched = np.clip((np.arange(len(plain)) - low) / ((high - low) or 0.001), 0, 1)
    return stretched * plain / factor + (1 - stretched) * plain, _yarn_attention(found)


def _yarn_attention(found: Mapping[str, Any]) -> float:
    """What queries and keys are multiplied with."""

    def by(scale: float) -> float:
        return 1.0 if found["factor"] <= 1 else 0.1 * scale * math.log(found["factor"]) + 1

    if found.get("attention_factor") is not None:
        return float(found["attention_factor"])
    if found.get("mscale") and found.get("mscale_all_dim"):
        return by(found["mscale"]) / by(found["mscale_all_dim"])
    return by(1)


_SCALED: dict[str, Callable[[Floats, Mapping[str, Any]], tuple[Floats, float]]] = {
    "default": _default,
    "linear": _linear,
    "ntk": _ntk,
    "llama3": _llama3,
    "yarn": _yarn,
}
"""rope_type -> the stretched frequencies and the attention factor."""
