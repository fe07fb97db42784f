"""The sentence: tokenize -> plan -> execute -> pool -> normalize -> restore order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache, partial
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.batching import BatchLimits
from embedrt.bundle import PARITY_VECTORS, pipeline_of
from embedrt.errors import OptionError
from embedrt.inputs import Texts, checked_texts, distinct_windows
from embedrt.loading import LoadedModel
from embedrt.options import EncodeOptions, Kind, identity_of, identity_parts, parse_options
from embedrt.pooling import Dense
from embedrt.progress import progress_bar
from embedrt.results import EncodedBlock, Truncation, truncations
from embedrt.settings import Settings
from embedrt.shaping import Shaper
from embedrt.streaming import read_blocks, stream_blocks
from embedrt.windows import WindowRunner

# Texts are sorted by length a window at a time, and the next window is tokenized while this one runs.
WINDOW_TEXTS = 2048
_IDENTITIES = 64  # remembered


@dataclass(frozen=True)
class Encoded:
    """What became of the texts of one call."""

    embeddings: Any
    num_tokens: tuple[int, ...]  # per text, before cutting
    truncated: tuple[Truncation, ...]


@dataclass(frozen=True)
class Encoding:
    """A loaded model with settings. Several threads may use one at once."""

    model: LoadedModel
    dense: Dense
    settings: Settings
    runner: WindowRunner
    shape: Shaper
    _plain: dict[str, EncodeOptions] = field(default_factory=dict)  # of calls without options, by kind

    @property
    def dimension(self) -> int:
        """Of the vectors of calls without options."""
        return self.settings.truncate_dim or self.dense.head.dimension

    def options(self, given: Mapping[str, Any], kind: Kind) -> EncodeOptions:
        """What a call means, checked."""
        if not given and kind in self._plain:
            return self._plain[kind]
        options = parse_options(
            given,
            kind,
            self.settings.prompts,
            self.dense.head.dimension,
            truncate_dim=self.settings.truncate_dim,
            device=self.model.device,
        )
        if not given:
            self._plain[kind] = options
        return options

    def encode(self, inputs: Texts, options: EncodeOptions) -> Encoded:
        """Embed one text or several, each different one once."""
        texts = checked_texts(inputs)
        windows, order = distinct_windows(texts, WINDOW_TEXTS)
        rows: list[Any] = []
        counts: list[int] = []
        features = options.output_value is None
        with progress_bar("Embedding", max(order, default=-1) + 1, shown=options.show_progress_bar) as advance:
            for _, done in self.runner.run(windows, options, advance):
                rows += map(self._features, done.token_ids, done.rows, repeat(options)) if features else done.rows
                counts += done.num_tokens
        num_tokens = tuple(counts[k] for k in order)
        return Encoded(
            self.shape([rows[k] for k in order], options, single=isinstance(inputs, str)),
            num_tokens,
            truncations(range(len(texts)), num_tokens, self._cut_at(options)),
        )

    def _cut_at(self, options: EncodeOptions) -> int | None:
        """Tokens behind which a text is lost; None where nothing is."""
        return None if options.on_overflow == "windows" else self.settings.max_tokens

    def _features(
        self, token_ids: NDArray[np.int32], hidden: NDArray[np.float32], options: EncodeOptions
    ) -> dict[str, NDArray[Any]]:
        """All that sentence-transformers gives with output_value=None, for one text of n tokens."""
        ids = token_ids.astype(np.int64)
        found = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        if "token_type_ids" in self.model.bundle.variant(self.model.variant).inputs:
            found["token_type_ids"] = np.zeros_like(ids)
        (vector,) = self.runner.pool(hidden, np.array([0, len(ids)], np.int32), options)
        return {**found, "token_embeddings": hidden, "sentence_embedding": self.shape.cut(vector[None], options)[0]}

    def stream(
        self, texts: Iterable[object], options: EncodeOptions, *, block_size: int, skip: bool
    ) -> Iterator[EncodedBlock]:
        """Embed block by block; with `skip`, without the texts that cannot be embedded."""
        return stream_blocks(
            read_blocks(texts, block_size, skip),
            lambda windows: self.runner.run(windows, options, skip=skip),
            lambda rows: self.shape(rows, options, single=False),
            self._cut_at(options),
        )

    def identity(self, options: EncodeOptions) -> str:
        """Of vectors made with `options`."""
        return self._identity(options)

    @cached_property
    def _identity(self) -> Callable[[EncodeOptions], str]:
        """Remembers those of the options that were last used: a hash over as much as this takes 50 microseconds."""
        return lru_cache(_IDENTITIES)(partial(identity_of, self._identity_parts))

    @cached_property
    def _identity_parts(self) -> Mapping[str, Any]:
        model = self.model
        return identity_parts(model.bundle.manifest, model.variant, self.dense.pooling, self.settings.max_tokens)


def make_encoding(model: LoadedModel, dense: Dense, settings: Settings) -> Encoding:
    """The model with these settings; cheap, and shares the model."""
    runner = WindowRunner(
        tokenizer=model.tokenizer.limited(settings.max_tokens),
        executor=model.executor,
        head=dense.head,
        pooling=dense.pooling,
        include_prompt=dense.include_prompt,
        variant=model.variant,
        limits=BatchLimits(pads=model.executor.pads),
    )
    reference = cache(partial(_read_reference, model, dense))
    return Encoding(model, dense, settings, runner, Shaper(dense.head.dimension, dense.head.normalizes, reference))


def _read_reference(model: LoadedModel, dense: Dense) -> NDArray[np.float32]:
    """The bundle's reference vectors (R, D)."""
    vectors: NDArray[np.float32] = np.load(model.bundle.path(PARITY_VECTORS), allow_pickle=False)
    if vectors.shape[1] != dense.head.dimension or dense.pooling != pipeline_of(model.bundle.manifest).pooling:
        raise OptionError("integer precisions need ranges, and the bundle has them for its own pooling only")
    return vectors
