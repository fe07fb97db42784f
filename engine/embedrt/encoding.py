"""The sentence: tokenize -> plan -> execute -> pool -> normalize -> restore order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import PARITY_VECTORS
from embedrt.errors import OptionError, PictureError
from embedrt.executors.text_call import TextCall
from embedrt.inputs import (
    Inputs,
    Mixed,
    as_picture,
    checked_texts,
    distinct_windows,
    mixed_inputs,
    pictures_alone,
)
from embedrt.loading import LoadedModel
from embedrt.manifest import pipeline_of
from embedrt.options import EncodeOptions, Kind, identity_of, identity_parts, parse_options
from embedrt.pictures.runner import TEXTS_ONLY, Item, PictureRunner
from embedrt.pooling import Dense
from embedrt.progress import progress_bar
from embedrt.results import EncodedBlock, Truncation, truncations
from embedrt.settings import Settings
from embedrt.shaping import Shaper
from embedrt.streaming import read_blocks, stream_blocks
from embedrt.text_calls import find_text_call
from embedrt.text_checks import check_text
from embedrt.windows import WindowRunner

# Texts are sorted by length a window at a time, and the next window is tokenized while this one runs.
WINDOW_TEXTS = 2048
_IDENTITIES = 64  # remembered
_CALLS = 64


@dataclass(frozen=True)
class Encoded:
    """What became of the texts of one call."""

    embeddings: Any
    num_tokens: tuple[int, ...]  # per text, before cutting
    truncated: tuple[Truncation, ...]


@dataclass(frozen=True)
class Call:
    """A call's options, and the way of one short text through the native module, where they leave it one."""

    options: EncodeOptions
    one: TextCall | None


@dataclass(frozen=True)
class Encoding:
    """A loaded model with settings. Several threads may use one at once."""

    model: LoadedModel
    dense: Dense
    settings: Settings
    runner: WindowRunner
    shape: Shaper
    resolve: Callable[..., Call]  # (kind, **options): what a call means, checked once and remembered; options hashable
    pictures: PictureRunner | None = None

    @property
    def dimension(self) -> int:
        """Of the vectors of calls without options."""
        return self.settings.truncate_dim or self.dense.head.dimension

    def call(self, given: Mapping[str, Any], kind: Kind) -> Call:
        """What a call means, checked.

        Raises:
            OptionError: an option is unknown or does not fit.
        """
        try:
            return self.resolve(kind, **given)
        except TypeError:  # a value that cannot be remembered
            return _resolve(self.model, self.dense, self.settings, self.runner, self.shape, kind, **given)

    def options(self, given: Mapping[str, Any], kind: Kind) -> EncodeOptions:
        """The options of a call, checked."""
        return self.call(given, kind).options

    def encode(self, inputs: Inputs, options: EncodeOptions, *, pictures: bool = False) -> Encoded:
        """Embed one text or several, each different one once; and pictures, where the bundle has a tower for them.

        `pictures`: nothing else is there.
        """
        if isinstance(inputs, str) and (one := self._one(inputs, options, pictures)) is not None:
            return one
        mixed = self._mixed(inputs, pictures)
        windows, order = distinct_windows(mixed.texts, WINDOW_TEXTS, mixed.text_places if mixed.pictures else None)
        rows: list[Any] = []
        counts: list[int] = []
        features = options.output_value is None
        total = max(order, default=-1) + 1 + len(mixed.pictures)
        with progress_bar("Embedding", total, shown=options.show_progress_bar) as advance:
            for _, done in self.runner.run(windows, options, advance):
                rows += map(self._features, done.token_ids, done.rows, repeat(options)) if features else done.rows
                counts += done.num_tokens
            rows, num_tokens = [rows[k] for k in order], [counts[k] for k in order]
            if mixed.pictures and self.pictures is not None:
                found = dict(self._run_pictures(mixed, options, advance))
                texts = dict(zip(mixed.text_places, zip(rows, num_tokens, strict=True), strict=True))
                pairs = [texts.get(i) or (found[i], self.pictures.num_rows) for i in range(mixed.count)]
                rows, num_tokens = [row for row, _ in pairs], [count for _, count in pairs]
        cut = truncations(mixed.text_places, [num_tokens[i] for i in mixed.text_places], self._cut_at(options))
        return Encoded(self.shape(rows, options, single=mixed.single), tuple(num_tokens), cut)

    def _one(self, text: str, options: EncodeOptions, pictures: bool) -> Encoded | None:
        """What `encode` makes of one text, without what several need: half of a short text's cost beside the executor.

        None where there is more to do or to say than that: pictures, a bar, windows, an error.
        """
        plain = options.output_value == "sentence_embedding" and options.on_overflow == "truncate"
        if pictures or self.pictures is not None or options.show_progress_bar or not plain:
            return None
        found = self.runner.run_one(check_text(text, None), options)
        if found is None:
            return None
        row, count = found
        cut = truncations((0,), (count,), self.settings.max_tokens) if count > self.settings.max_tokens else ()
        return Encoded(self.shape([row], options, single=True), (count,), cut)

    def _run_pictures(self, mixed: Mixed, options: EncodeOptions, advance: Any) -> Iterator[tuple[int, Any]]:
        assert self.pictures is not None
        try:
            yield from self.pictures.run(mixed.pictures, options, advance)
        except PictureError as exc:
            if mixed.single:  # of one input alone, nobody asks which
                raise PictureError(exc.reason) from exc
            raise

    def _mixed(self, inputs: Inputs, pictures: bool) -> Mixed:
        if pictures:
            if self.pictures is None:
                raise OptionError(TEXTS_ONLY.format(name=self.model.bundle.manifest.name))
            return pictures_alone(inputs)
        if self.pictures is not None:
            return mixed_inputs(inputs)
        texts = checked_texts(inputs)
        return Mixed(texts, list(range(len(texts))), [], isinstance(inputs, str))

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
            read_blocks(texts, block_size, skip, as_picture if self.pictures else None),
            lambda windows: self.runner.run(windows, options, skip=skip),
            partial(self._stream_pictures, options=options, skip=skip),
            lambda rows: self.shape(rows, options, single=False),
            self._cut_at(options),
        )

    def _stream_pictures(self, items: list[Item], *, options: EncodeOptions, skip: bool) -> dict[int, tuple[Any, int]]:
        """Row, or what is wrong, and number of rows that were read, by the picture's index."""
        if self.pictures is None or not items:
            return {}
        count = self.pictures.num_rows
        return {i: (found, count) for i, found in self.pictures.run(items, options, skip=skip)}

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
    runner = WindowRunner.of(model, dense, settings.max_tokens)
    reference = cache(partial(_read_reference, model, dense))
    shape = Shaper(dense.head.dimension, dense.head.normalizes, reference, model.bundle.manifest.code_width)
    # Not of the encoding itself, which would then be freed late.
    resolve = lru_cache(_CALLS, typed=True)(partial(_resolve, model, dense, settings, runner, shape))
    return Encoding(model, dense, settings, runner, shape, resolve, _picture_runner(model))


def _resolve(
    model: LoadedModel,
    dense: Dense,
    settings: Settings,
    runner: WindowRunner,
    shape: Shaper,
    kind: Kind,
    /,
    **given: Any,
) -> Call:
    options = parse_options(
        given,
        kind,
        settings.prompts,
        dense.head.dimension,
        truncate_dim=settings.truncate_dim,
        device=model.device,
    )
    return Call(options, None if model.pictures is not None else find_text_call(runner, shape, options))


def _picture_runner(model: LoadedModel) -> PictureRunner | None:
    tower, pictures = model.pictures, model.bundle.manifest.pictures
    if tower is None or pictures is None or pictures.encoder.patches is None:
        return None
    return PictureRunner(
        executor=tower.executor,
        dense=tower.dense,
        attention=tower.attention,
        settings=pictures.preprocessing,
        patches=pictures.encoder.patches,
        variant=model.variant,
        num_threads=model.num_threads,
    )


def _read_reference(model: LoadedModel, dense: Dense) -> NDArray[np.float32]:
    """The bundle's reference vectors (R, D)."""
    vectors: NDArray[np.float32] = np.load(model.bundle.path(PARITY_VECTORS), allow_pickle=False)
    if vectors.shape[1] != dense.head.dimension or dense.pooling != pipeline_of(model.bundle.manifest).pooling:
        raise OptionError("integer precisions need ranges, and the bundle has them for its own pooling only")
    return vectors
