"""A family: how its config.json becomes an `EncoderSpec`, and its checkpoint the spec's tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedrt.encoder import EncoderSpec
from embedrt.errors import SourceError
from embedrt.tensors import as_array
from embedrt_export.checkpoint import Difference, check_difference, compare_names, modern_name
from embedrt_export.families.settings import Config
from embedrt_export.families.shapes import check_shapes
from embedrt_export.families.sources import Array, Source, Sources


@dataclass(frozen=True)
class Family:
    """Encoders that one file of this package reads."""

    name: str
    model_types: tuple[str, ...]  # of config.json
    classes: tuple[str, ...]  # of models with code of their own: the class in auto_map or architectures
    spec_of: Callable[[Config], EncoderSpec]
    """What the config says; UnsupportedModelError for a setting that would change the numbers and is not known."""
    sources_of: Callable[[Config], Sources]
    """Where each of the spec's tensors comes from."""
    ignored: tuple[str, ...] = ()  # patterns of names in a checkpoint that are no part of the encoder
    other_sources_of: Callable[[Config], Sources] | None = None
    """The same under other names, for checkpoints that have these."""

    def tensors_of(self, config: Config, state: Mapping[str, Any], model: str = "the model") -> dict[str, Array]:
        """The spec's tensors in float32 by canonical name, from a checkpoint's by its own; torch's or numpy's, which
        are read one after the other.

        Raises:
            SourceError: the checkpoint lacks one, or has others that nothing takes, or one of another shape.
        """
        sources = self.sources_of(config)
        first = sources.get("embeddings.word") or sources["embeddings.patch.weight"]
        prefix = prefix_of(state, first.names)
        found = self._compare(state, sources, prefix)
        if found.missing and self.other_sources_of is not None:
            others = self.other_sources_of(config)
            again = self._compare(state, others, prefix)
            sources, found = (others, again) if len(again.missing) < len(found.missing) else (sources, found)
        check_difference(model, found, sum(bool(source.names) for source in sources.values()))
        stored = {modern_name(name.removeprefix(f"{prefix}.") if prefix else name): name for name in state}
        tensors = {to: _read(model, source, stored, state) for to, source in sources.items()}
        check_shapes(model, self.spec_of(config), tensors)
        return tensors

    def _compare(self, state: Mapping[str, Any], sources: Sources, prefix: str) -> Difference:
        groups = [set(source.names) for source in sources.values() if source.names]
        groups += [{name} for source in sources.values() for name in source.beside]
        return compare_names(set(state), groups, prefix, self.ignored)


def prefix_of(stored: Iterable[str], word: tuple[str, ...]) -> str:
    """What stands before the encoder's names: "bert" in the checkpoint of a BertForMaskedLM."""
    prefixes = [name[: -len(end) - 1] for name in stored for end in word if name.endswith(f".{end}")]
    return min(prefixes, key=len, default="")


def _read(model: str, source: Source, stored: Mapping[str, str], state: Mapping[str, Any]) -> Array:
    if source.constant is not None:
        return source.constant
    name = next(name for name in source.names if name in stored)
    read = [_as_float32(model, one, state[stored[one]]) for one in (name, *source.beside)]
    return np.ascontiguousarray(source.read(*read), np.float32)


def _as_float32(model: str, name: str, stored: Any) -> Array:
    tensor = np.asarray(as_array(stored))
    if tensor.dtype.kind in "iub":
        raise SourceError(f"{model}: {name} holds {tensor.dtype}, quantized weights; give the model with float weights")
    return tensor.astype(np.float32, copy=False)
