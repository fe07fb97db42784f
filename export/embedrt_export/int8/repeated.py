"""Texts of one word over and over: their tokens are off alike, so that no mean hides it, and some models amplify it.

In all-mpnet-base-v2 the FFNs of the first three layers make what the others only carry on, and with them in 8 bits one
such text of ten had a cosine of 0.36, where no other text was under 0.997 (design.md has the figures).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from embedrt.encoder import EncoderSpec
from embedrt.parity.metrics import cosine_distances, normalized
from embedrt_export.int8.calibration import Session, pooled
from embedrt_export.int8.repetitions import repeated_texts


class Repeats:
    """How far off such texts are; vectors are pooled as `to_int8` says."""

    def __init__(
        self, spec: EncoderSpec, exact: onnx.ModelProto, texts: Sequence[Sequence[int]], token: int | None
    ) -> None:
        self.spec, self._token = spec, token
        self._texts = repeated_texts(texts)
        self._reference = self._pooled(exact)

    def cosine(self, model: onnx.ModelProto) -> float:
        """The smallest to the exact model's; 1 where there are no such texts."""
        return 1 - float(cosine_distances(self._reference, self._pooled(model)).max(initial=0))

    def _pooled(self, model: onnx.ModelProto) -> NDArray[np.float64]:
        if not self._texts:
            return np.ones((0, 1))
        return normalized(pooled(Session(model), self._texts, token=self._token))


def first_ffns(spec: EncoderSpec, most: int) -> Iterator[tuple[str, ...]]:
    """Products of the FFN of the first layer, of the first two, and so on, to `most`; shared weights count once."""
    weights = list(dict.fromkeys(block.weights for block in spec.blocks))
    for count in range(1, min(most, len(weights)) + 1):
        yield tuple(f"layers.{i}.{product}" for i in weights[:count] for product in ("ffn_up", "ffn_down"))
