"""What a model does with one sort of work: from a request's inputs to rows. The engine queues, and knows no sort."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.embedder import Embedder
from embedrt.options import EncodeOptions
from embedrt.server.pool import Pool
from embedrt.server.prepare import Prepared, Work, prepare, prepare_pictures
from embedrt.server.sizes import Size, size_of_rows, size_of_tokens


class Inference(ABC):
    """How one sort of work is run. The engine's thread calls `embed`, `is_finite`, `written`, its loop the others."""

    @abstractmethod
    async def prepare(self, pool: Pool, work: Work) -> Prepared:
        """What is run for the inputs, made in the pool where it takes long.

        Raises:
            EmbedrtError, ServeError: an input does not fit.
        """

    @abstractmethod
    def size(self, prepared: Prepared, work: Work, number_bytes: float) -> Size:
        """What the request becomes when it is run and answered with so many bytes per number."""

    @abstractmethod
    def limit(self, options: EncodeOptions) -> int:
        """Tokens that the model takes of an input; what is over it is cut."""

    @abstractmethod
    def identity(self, options: EncodeOptions) -> str:
        """Of what is answered."""

    @abstractmethod
    def lane(self, options: EncodeOptions) -> Hashable:
        """What must be equal for inputs to share a run."""

    @abstractmethod
    def embed(self, token_ids: Sequence[Any], options: EncodeOptions) -> list[Any]:
        """One run of the executor: a row per input.

        Raises:
            ExecutorError: it failed.
        """

    def num_tokens(self, ids: NDArray[Any], options: EncodeOptions) -> int:
        """Tokens that the executor reads of an input."""
        del options
        return len(ids)

    async def finish(self, pool: Pool, rows: list[Any], prepared: Prepared, work: Work) -> list[Any]:
        """A row per different input out of those of what was run."""
        del pool, prepared, work
        return rows

    def is_kept(self, options: EncodeOptions) -> bool:
        """Whether its rows may be remembered for the next one who asks."""
        del options
        return False

    def room(self, work: Work) -> float:
        """Bytes that the rows may take in the answer, where `size` could not know it."""
        del work
        return math.inf

    def written(self, row: Any) -> int:
        """Bytes that a row takes of that room."""
        del row
        return 0

    def is_finite(self, row: Any) -> bool:
        """Whether there is neither NaN nor infinity in a row."""
        return bool(np.isfinite(row).all())


Choose = Callable[[Work], Inference]


class Texts(Inference):
    """Vectors of texts, or of their tokens.

    Args:
        embedder: what gives them.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        pipeline = embedder.bundle.manifest.pipeline
        self._include_prompt = pipeline is None or pipeline.include_prompt

    async def prepare(self, pool: Pool, work: Work) -> Prepared:
        """Token ids, of texts over the limit those of their windows where the options say so."""
        return await prepare(self.embedder.tokenizer, pool, work)

    def size(self, prepared: Prepared, work: Work, number_bytes: float) -> Size:
        """Of a vector per input, or per token."""
        options, lengths = work.options, [len(ids) for ids in prepared.token_ids]
        if options.output_value == "token_embeddings":
            return size_of_tokens(lengths, prepared.row_of, self.embedder.bundle.manifest.architecture.hidden_size)
        width = self.embedder.dimension
        written = options.truncate_dim or width
        return size_of_rows(lengths, prepared.row_of, width, written=written, each=number_bytes)

    def limit(self, options: EncodeOptions) -> int:
        """The model's."""
        del options
        return self.embedder.tokenizer.max_tokens

    def identity(self, options: EncodeOptions) -> str:
        """Of the vectors."""
        return self.embedder.identity_for(options)

    def lane(self, options: EncodeOptions) -> Hashable:
        """Sort of output, last norm, prompt rows that are skipped."""
        return options.output_value, options.unnormalized, "" if self._include_prompt else options.prompt

    def embed(self, token_ids: Sequence[Any], options: EncodeOptions) -> list[Any]:
        """Vectors (D,) of texts, or (T, H) of their tokens."""
        return self.embedder.embed_tokens(token_ids, options)

    async def finish(self, pool: Pool, rows: list[Any], prepared: Prepared, work: Work) -> list[Any]:
        """A vector per text out of those of its windows, which lie one behind the other."""
        if prepared.weights is None or len(rows) == len(prepared.weights):
            return rows
        return await pool.run(work.client, self._join, rows, prepared.weights, work.options)

    def _join(
        self, rows: list[NDArray[np.float32]], weights: list[list[int]], options: EncodeOptions
    ) -> list[NDArray[np.float32]]:
        rest = iter(rows)
        return [self.embedder.join_windows(list(islice(rest, len(those))), those, options) for those in weights]

    def is_kept(self, options: EncodeOptions) -> bool:
        """Vectors of texts are."""
        return options.output_value == "sentence_embedding"


class Pictures(Texts):
    """Vectors of pictures, of a model that has both; `Prepared.token_ids` are patches (P, C)."""

    async def prepare(self, pool: Pool, work: Work) -> Prepared:
        """Decoded, resized and cut into patches."""
        return await prepare_pictures(self.embedder, pool, work)

    def limit(self, options: EncodeOptions) -> int:
        """Every picture has as many patches."""
        del options
        return self.embedder.picture_rows

    def embed(self, token_ids: Sequence[Any], options: EncodeOptions) -> list[Any]:
        """Vectors (D,)."""
        return self.embedder.embed_patches(token_ids, options)

    def is_kept(self, options: EncodeOptions) -> bool:
        """Patches are too large to look them up by."""
        del options
        return False


def of_embedder(embedder: Embedder) -> Choose:
    """What an embedder does with a work: texts, or pictures."""
    texts = Texts(embedder)
    pictures = Pictures(embedder) if embedder.takes_pictures else texts
    return lambda work: pictures if work.max_pixels else texts
