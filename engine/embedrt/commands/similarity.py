"""`embedrt similarity`: every text against every other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.encoding import EncodeRequest
from embedrt.pictures.reading import names_picture

if TYPE_CHECKING:
    from embedrt.embedder import Embedder


@dataclass(frozen=True)
class SimilarityMatrix:
    """Texts and their similarities."""

    texts: tuple[str, ...]
    values: NDArray[np.float32]  # (N, N)
    function: str  # cosine | dot | euclidean | manhattan
    identity: str
    num_cut: int  # texts over the model's limit
    pictures: frozenset[int] = frozenset()  # which of the texts are paths of pictures

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "identity": self.identity,
            "similarity": self.function,
            "texts": list(self.texts),
            "matrix": [[float(f"{value:.7g}") for value in row] for row in self.values.tolist()],
        }

    def scale(self) -> tuple[float, float]:
        """Values at the two ends of the colours. It begins, or ends, at the value that means something by itself.

        A cosine is shown from 0 (unrelated) to 1 (the same), whatever the texts, so that 0.83 and 0.86 look as near as
        they are. The other functions have no greatest value: products are shown from 0 to the greatest of them, and
        distances, which are negative here, from the farthest to 0.
        """
        if self.function == "cosine":
            return 0.0, 1.0
        low, high = self.range()
        return min(low, 0.0), max(high, 0.0)

    def range(self) -> tuple[float, float]:
        """Least and greatest value outside the diagonal, which says nothing; of all values for a single text."""
        outside = self.values[~np.eye(len(self.texts), dtype=bool)]
        chosen = outside if outside.size else self.values
        return float(chosen.min()), float(chosen.max())


def compare(embedder: Embedder, texts: Sequence[str], request: EncodeRequest) -> SimilarityMatrix:
    """Embed the texts and compare them by the model's own function."""
    keywords: dict[str, Any] = request.keywords()
    result = embedder.encode_detailed(list(texts), **keywords)
    return SimilarityMatrix(
        texts=tuple(texts),
        values=embedder.similarity(result.embeddings, result.embeddings),
        function=embedder.bundle.manifest.similarity,
        identity=result.identity,
        num_cut=len(result.truncated),
        pictures=frozenset(i for i, text in enumerate(texts) if embedder.takes_pictures and names_picture(text)),
    )
