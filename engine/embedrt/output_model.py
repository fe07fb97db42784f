"""What `Model`, `SparseEncoder` and `MultiVectorEncoder` have in common: a bundle opened, texts to their outputs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

import numpy as np

from embedrt.batching import BatchLimits
from embedrt.construction import told_keywords
from embedrt.encoding import WINDOW_TEXTS
from embedrt.errors import InputError, OptionError, TokenLimitError
from embedrt.facts import Facts, ModelFacts
from embedrt.inputs import Texts, checked_texts, distinct_windows
from embedrt.loading import LoadedModel, LoadOptions, find_bundle, load_model
from embedrt.manifest import Manifest, check_gives, outputs_of
from embedrt.options import (
    Kind,
    check_choice,
    check_known,
    encoder_parts,
    flag,
    given_prompt,
    hash_of,
    short_hash,
    stage_parts,
    whole_number,
)
from embedrt.output_parts import Parts, load_parts, make_runner
from embedrt.outputs import OUTPUT_NAMES, Given, Output, OutputKwargs, OutputOptions, TextOutputs, output_names
from embedrt.progress import progress_bar
from embedrt.reopening import Recipe, recipe_for
from embedrt.results import TruncationWarning, truncation_message, truncations
from embedrt.settings import Settings, change, own_settings
from embedrt.tokenization import TextTokenizer
from embedrt.windows import Embedded, Window

Variant: TypeAlias = Literal["auto", "fp32", "fp16", "int8", "bf16"]
Device: TypeAlias = Literal["auto", "cpu", "cuda"]
ExecutorName: TypeAlias = Literal["auto", "native", "onnxruntime"]

T = TypeVar("T", bound="OutputModel")

COMMON_OPTIONS = tuple(OutputKwargs.__annotations__)
_ELSEWHERE = {
    "max_length": "the limit is set once: with_options(max_tokens=...)",
    "max_seq_length": "the limit is set once: with_options(max_tokens=...)",
}
_HELD = ("_loaded", "_settings", "_parts", "_runners")
_KINDS: tuple[Kind, ...] = ("encode", "query", "document")


class OutputModel(ModelFacts):
    """A bundle opened for outputs of several kinds. Several threads may use one at once.

    Args:
        bundle, variant, device, executor, isa, num_threads, packed_cache, verify_hashes: as `Embedder` takes them.
        max_tokens, prompts, default_prompt_name: as `with_options` takes them.

    Raises:
        BundleError, OptionError, DependencyError, ExecutorError: as `Embedder` says.
    """

    _wanted: ClassVar[Output | None] = None  # what the bundle must give

    @told_keywords
    def __init__(
        self,
        bundle: Any,
        *,
        variant: Variant = "auto",
        device: Device | None = "auto",
        executor: ExecutorName = "auto",
        isa: str = "auto",
        num_threads: int | None = None,
        packed_cache: bool | str | os.PathLike[str] = False,
        verify_hashes: bool = True,
        max_tokens: int | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
    ) -> None:
        found = find_bundle(bundle)
        if self._wanted is not None:
            check_gives(found.manifest, OUTPUT_NAMES[self._wanted])
        given = "auto" if device is None else str(device)
        asked = LoadOptions(variant, given, executor, isa, num_threads, None, packed_cache, verify_hashes)
        manifest = found.manifest
        settings = change(
            own_settings(manifest),
            manifest,
            max_tokens=max_tokens,
            prompts=prompts,
            default_prompt_name=default_prompt_name,
        )
        model = load_model(found, asked)
        self._hold(model, settings, load_parts(model))

    @classmethod
    def sharing(cls, other: Facts | OutputModel) -> Self:
        """One of the model that `other`, an `Embedder` or one of these, has loaded: no weights are there twice.

        It has the limit and the prompts of `other`; closing one closes both.

        Raises:
            OptionError: the bundle does not give what this class is for.
        """
        model = other._model
        if cls._wanted is not None:
            check_gives(model.bundle.manifest, OUTPUT_NAMES[cls._wanted])
        return _made(cls, model, replace(other._settings, truncate_dim=None), load_parts(model), {})

    def _hold(self, model: LoadedModel, settings: Settings, parts: Parts) -> None:
        self._loaded, self._settings, self._parts = model, settings, parts
        self._runners = {kind: make_runner(model, settings, parts, kind) for kind in _KINDS}

    @property
    def _model(self) -> LoadedModel:
        return self._loaded

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the bundle gives of a text: some of "dense", "sparse", "tokens"."""
        return output_names(self.bundle.manifest)

    @property
    def max_tokens(self) -> int:
        """Tokens that a text may have, prompt and special tokens included; longer ones are cut."""
        return self._settings.max_tokens

    @property
    def max_seq_length(self) -> int:
        """`max_tokens`, by sentence-transformers' name."""
        return self.max_tokens

    @property
    def prompts(self) -> Mapping[str, str]:
        """Name -> text put before an input; a copy."""
        return dict(self._settings.prompts.texts)

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt that `encode` takes where it is given none."""
        return self._settings.prompts.default_name

    @property
    def tokenizer(self) -> TextTokenizer:
        """The bundle's tokenizer."""
        return self._runners["encode"].tokenizer

    @property
    def batch_limits(self) -> BatchLimits:
        """What one run of the executor may hold."""
        return self._runners["encode"].limits

    @property
    def identity(self) -> str:
        """Of what `encode` gives without options."""
        wanted = self.outputs if self._wanted is None else (self._wanted,)
        return self._identity(self._resolve({}, "encode", wanted))

    def with_options(
        self,
        *,
        max_tokens: int | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
    ) -> Self:
        """Another one of the same loaded model, with other settings; this one stays as it is.

        Args:
            max_tokens: where texts are cut, prompt and special tokens included; up to the model's positions.
            prompts: name -> text, beside the bundle's own and over those of the same name.
            default_prompt_name: the prompt that `encode` takes where it is given none.

        Raises:
            OptionError: a value does not fit.
        """
        settings = change(
            self._settings,
            self.bundle.manifest,
            max_tokens=max_tokens,
            prompts=prompts,
            default_prompt_name=default_prompt_name,
        )
        return _made(type(self), self._loaded, settings, self._parts, self._own)

    def tokenize(self, texts: Texts) -> list[list[int]]:
        """Token ids of each text, special tokens included, not cut."""
        return self.tokenizer.ids(checked_texts(texts))

    def __copy__(self) -> Self:
        return self.with_options()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (
            type(self),
            recipe_for("model", self._loaded, self._settings, _fingerprint(self._loaded)),
            self._own,
        )

    @property
    def _own(self) -> dict[str, Any]:
        """Attributes that a subclass has added."""
        return {name: value for name, value in vars(self).items() if name not in _HELD}

    def _resolve(
        self, given: Mapping[str, Any], kind: Kind, outputs: tuple[Output, ...], also: Sequence[str] = ()
    ) -> OutputOptions:
        """What a call means, checked; `also` are names of its own that the caller reads."""
        check_known(given, (*COMMON_OPTIONS, *also), _ELSEWHERE, self.device)
        check_choice("kind", kind)
        overflow = given.get("on_overflow", "truncate")
        if overflow not in ("truncate", "error"):
            raise OptionError(f"on_overflow must be truncate or error, not {overflow!r}")
        return OutputOptions(
            prompt=given_prompt({**given, "task": None}, kind, self._settings.prompts),
            on_overflow=overflow,
            batch_size=whole_number("batch_size", given.get("batch_size")),
            show_progress_bar=flag("show_progress_bar", given.get("show_progress_bar")),
            kind=kind,
            outputs=outputs,
        )

    def _run(self, inputs: Texts, options: OutputOptions) -> Given:
        """The outputs of one text or several, each different one computed once."""
        texts = checked_texts(inputs)
        windows, order = distinct_windows(texts, WINDOW_TEXTS)
        rows: list[Any] = []
        counts: list[int] = []
        with progress_bar("Embedding", max(order, default=-1) + 1, shown=options.show_progress_bar) as advance:
            for _, done in self._windows(windows, options, advance):
                rows += done.rows
                counts += done.num_tokens
        num_tokens = tuple(counts[k] for k in order)
        limit = self._limit(options)
        return Given([rows[k] for k in order], num_tokens, truncations(range(len(texts)), num_tokens, limit))

    def _windows(
        self,
        windows: Iterator[Window],
        options: OutputOptions,
        advance: Callable[[int], None] = lambda _: None,
        *,
        skip: bool = False,
    ) -> Iterator[tuple[Window, Embedded]]:
        """Each window with its outcome; with `skip`, texts that fail are in `Embedded.failed`."""
        if not self.reads_table(options):
            yield from self._runners[options.kind].run(windows, options, advance, skip=skip)
            return
        for window in windows:
            found: list[tuple[Any, int]] = []
            failed: dict[int, str] = {}
            for k, (index, text) in enumerate(zip(window.indices, window.texts, strict=True)):
                try:
                    found.append(self._look_up(options.prompt + text, index, options))
                except InputError as exc:
                    if not skip:
                        raise
                    failed[k] = exc.reason
                    found.append((TextOutputs(), 0))
            advance(len(found))
            yield window, Embedded([row for row, _ in found], (), tuple(count for _, count in found), failed)

    def reads_table(self, options: OutputOptions) -> bool:
        """Whether a call looks its texts up in a table, and runs no encoder."""
        sparse = self.bundle.manifest.sparse
        kind = sparse.default if sparse is not None and options.kind == "encode" else options.kind
        return self._parts.table is not None and kind == "query" and options.outputs == ("sparse",)

    def _look_up(self, text: str, index: int, options: OutputOptions) -> tuple[TextOutputs, int]:
        """The sparse vector of a text by the table, and its tokens."""
        limit = self._limit(options)
        (ids,) = self.tokenizer.ids([text])
        bare = self.tokenizer.without_special(ids)
        if len(bare) > limit and options.on_overflow == "error":
            raise TokenLimitError(f"has {len(bare)} tokens, the model's queries have {limit}", index=index)
        return self._from_table(bare[:limit], index, options), len(bare)

    def _from_table(self, bare: Sequence[int], index: int | None, options: OutputOptions) -> TextOutputs:
        """Of a text's tokens without special ones."""
        table, known = self._parts.table, np.array(bare, np.int32)
        assert table is not None
        if len(known) and int(known.max()) >= len(table.weight):
            raise InputError(f"has token {int(known.max())}, which the model's table has no weight for", index=index)
        return TextOutputs(sparse=table(known).strongest(options.max_active_dims))

    def _limit(self, options: OutputOptions) -> int:
        sparse = self.bundle.manifest.sparse
        if self.reads_table(options) and sparse is not None and sparse.table_tokens is not None:
            return min(sparse.table_tokens, self.max_tokens)
        return self._runners[options.kind].tokenizer.max_tokens

    def _identity(self, options: OutputOptions) -> str:
        """16 hex digits over everything that decides the outputs of a call."""
        manifest = self.bundle.manifest
        parts = encoder_parts(manifest, self.variant, self.max_tokens)
        heads = {name: _head_parts(manifest, OUTPUT_NAMES[name]) for name in options.outputs}
        own = [
            options.kind,
            options.prompt,
            options.truncate_dim,
            options.max_active_dims,
            options.normalize_embeddings,
        ]
        whole = {**parts, "heads": heads, "own": own}
        return short_hash(whole)


def warn_of_cut(given: Given) -> None:
    """Say once per call which texts were cut."""
    if given.truncated:
        message = truncation_message(given.truncated, len(given.num_tokens))
        message = message.partition(' on_overflow="windows"')[0] + ' on_overflow="error" refuses.'
        warnings.warn(message, TruncationWarning, stacklevel=4)


def _head_parts(manifest: Manifest, field: str) -> Any:
    """A head with the hashes of its files in place of their paths."""
    hashes = {file.path: file.sha256 for file in manifest.files}
    head = getattr(manifest, field)
    parts = asdict(head)
    if hasattr(head, "stages"):
        parts["stages"] = stage_parts(manifest, head.stages)
    if field == "sparse":
        parts["table"] = hashes.get(head.table or "")
        if head.weights is not None:
            parts["weights"]["path"] = hashes[head.weights.path]
    return parts


def _fingerprint(model: LoadedModel) -> str:
    """Hash over all of the bundle that a call may depend on."""
    manifest = model.bundle.manifest
    heads = {field: _head_parts(manifest, field) for field in outputs_of(manifest)}
    parts = encoder_parts(manifest, model.variant, manifest.max_tokens)
    return hash_of([parts, heads, asdict(manifest.prompts), manifest.similarity])


def _made(kind: type[T], model: LoadedModel, settings: Settings, parts: Parts, own: Mapping[str, Any]) -> T:
    """One of class `kind`, past its `__init__`."""
    made = object.__new__(kind)
    vars(made).update(own)
    made._hold(model, settings, parts)
    return made


def _reopen(kind: type[T], recipe: Recipe, own: Mapping[str, Any]) -> T:
    """One of class `kind` as `recipe` says.

    Raises:
        BundleIntegrityError: there is another bundle in that place now.
    """
    model = load_model(find_bundle(recipe.root), recipe.asked)
    recipe.check(model, _fingerprint(model))
    return _made(kind, model, recipe.settings, load_parts(model), own)
