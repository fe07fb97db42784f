"""The sentence of scores: tokenize pairs -> plan -> execute -> pool -> head -> activation -> restore order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from embedrt.batching import BatchLimits, plan_groups
from embedrt.errors import InputError, NonFiniteError, OptionError, TokenLimitError
from embedrt.executors import WANTS, Executor, TokenBatch
from embedrt.heads import SCORE_ACTIVATIONS, ScoreHead
from embedrt.loading import LoadedModel
from embedrt.manifest import check_gives
from embedrt.options import check_known, encoder_parts, flag, parse_container, short_hash, stage_parts, whole_number
from embedrt.pairs import PairIds, PairOrText, PairTokenizer
from embedrt.pooling import ACTIVATIONS, Head, load_head, pool
from embedrt.progress import progress_bar
from embedrt.prompting import choose_prompt
from embedrt.settings import Settings
from embedrt.threads import one_ahead

Floats = NDArray[np.float32]
Activation: TypeAlias = str | Callable[[Any], Any]

WINDOW_PAIRS = 1024  # tokenized together while those before them run
_TORCH_NAMES = {"Sigmoid": "sigmoid", "Identity": "identity", "Softmax": "softmax"}


class ScoreKwargs(TypedDict, total=False):
    """The options of `Reranker.predict`; their names are sentence-transformers' where it has one."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int | None
    show_progress_bar: bool | None
    activation_fn: Activation | None
    activation_fct: Activation | None  # its older name
    apply_softmax: bool | None
    convert_to_numpy: bool
    convert_to_tensor: bool
    on_overflow: str
    device: str | None  # accepted where it is the reranker's own
    pool: None  # accepted, because one process uses every core
    chunk_size: int | None
    num_workers: int | None  # accepted, and nothing to us


_ELSEWHERE = {
    "max_length": "the limit is set once: Reranker(..., max_tokens=...)",
    "processing_kwargs": "the tokenizer is the model's own; Reranker(..., max_tokens=...) sets its limit",
}


@dataclass(frozen=True)
class ScoreOptions:
    """A call's options, checked."""

    prompt: str = ""
    activation: Activation = "identity"
    softmax: bool = False
    batch_size: int | None = None
    show_progress_bar: bool = False
    on_overflow: str = "truncate"
    container: str = "array"


@dataclass(frozen=True)
class Scored:
    """What became of the pairs of one call."""

    scores: Floats  # (N, L)
    num_tokens: tuple[int, ...]  # per pair, before cutting


def softmax(scores: Floats) -> Floats:
    """Of each row (N, L), to the sum 1."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "identity": ACTIVATIONS["identity"],
    "sigmoid": ACTIVATIONS["sigmoid"],
    "softmax": softmax,
}


@dataclass(frozen=True)
class Scoring:
    """A loaded model with settings, for pairs. Several threads may use one at once."""

    model: LoadedModel
    settings: Settings
    scores: ScoreHead
    head: Head
    tokenizer: PairTokenizer
    limits: BatchLimits

    def options(self, given: Mapping[str, Any]) -> ScoreOptions:
        """What a call means, checked."""
        check_known(given, ScoreKwargs.__annotations__, _ELSEWHERE, self.model.device)
        overflow = given.get("on_overflow", "truncate")
        if overflow not in ("truncate", "error"):
            raise OptionError(f"on_overflow must be truncate or error, not {overflow!r}")
        for name in ("prompt", "prompt_name"):
            if not isinstance(given.get(name), (str, type(None))):
                raise OptionError(f"{name} must be a string, not {given[name]!r}")
        activation = given.get("activation_fn") or given.get("activation_fct") or self.scores.activation
        return ScoreOptions(
            prompt=choose_prompt(self.settings.prompts, given.get("prompt_name"), given.get("prompt")),
            activation=_activation(activation),
            softmax=flag("apply_softmax", given.get("apply_softmax")) and len(self.scores.labels) > 1,
            batch_size=whole_number("batch_size", given.get("batch_size")),
            show_progress_bar=flag("show_progress_bar", given.get("show_progress_bar")),
            on_overflow=overflow,
            container=parse_container(given),
        )

    def score(self, pairs: Sequence[PairOrText], options: ScoreOptions) -> Scored:
        """Score checked pairs, each different one once, in bounded memory beside the pairs and their scores.

        Raises:
            TokenLimitError: a pair is over the limit and the options say that this is an error, or a query is.
            NonFiniteError: a score came out with NaN or infinity.
        """
        different = list(dict.fromkeys(pairs))
        scores = np.empty((len(different), len(self.scores.labels)), np.float32)
        counts = [0] * len(different)
        starts = iter(range(0, len(different), WINDOW_PAIRS))
        held = self.model.executor.held()  # a call that runs finishes, whoever closes meanwhile
        with progress_bar("Scoring", len(different), shown=options.show_progress_bar) as advance:
            for start, tokenized in one_ahead(
                lambda k: self._tokenize_some(pairs, different[k : k + WINDOW_PAIRS], options),
                starts,
                "embedrt-tokenize",
            ):
                counts[start : start + len(tokenized)] = [pair.num_tokens for pair in tokenized]
                for group, found in self._groups(tokenized, options, held):
                    scores[[start + k for k in group]] = found
                    advance(len(group))
        logits = self.activate(scores, options)
        if len(different) < len(pairs):
            row = {pair: k for k, pair in enumerate(different)}
            order = [row[pair] for pair in pairs]
            logits, counts = logits[order], [counts[k] for k in order]
        for index in np.flatnonzero(~np.isfinite(logits).all(axis=1))[:1]:
            raise NonFiniteError(self.not_finite, index=int(index))
        return Scored(logits, tuple(counts))

    def tokenize(self, pairs: Sequence[PairOrText], options: ScoreOptions) -> list[PairIds]:
        """Token ids of checked pairs; each is in the model's table."""
        found = self.tokenizer(pairs, options.prompt)
        for k, pair in enumerate(found):
            self.tokenizer.texts.check(pair.ids, k)
            if options.on_overflow == "error" and pair.num_tokens > (limit := self.tokenizer.max_tokens):
                raise TokenLimitError(f"has {pair.num_tokens} tokens, the model takes {limit}", index=k)
        return found

    def _tokenize_some(
        self, pairs: Sequence[PairOrText], some: Sequence[PairOrText], options: ScoreOptions
    ) -> list[PairIds]:
        """Token ids of some of the pairs; an error's index is the pair's place among all of them."""
        try:
            return self.tokenize(some, options)
        except InputError as exc:
            if exc.index is None:
                raise
            raise type(exc)(exc.reason, index=pairs.index(some[exc.index])) from exc

    def _groups(
        self, pairs: Sequence[PairIds], options: ScoreOptions, executor: Executor
    ) -> Iterator[tuple[list[int], Floats]]:
        limits = self.limits
        if options.batch_size is not None:
            limits = replace(limits, max_texts=min(limits.max_texts, options.batch_size))
        for group in plan_groups([len(pair) for pair in pairs], limits):
            yield group, self.run([pairs[k] for k in group], executor)

    def run(self, pairs: Sequence[PairIds], executor: Executor | None = None) -> Floats:
        """One run of the executor: what the head gives before the activation, (B, L)."""
        executor = executor or self.model.executor
        batch = _batch(pairs)
        want = WANTS.get(self.scores.pooling)
        if want is not None:
            return self.head(executor.run(batch, want=want))
        return self.head(pool(executor.run(batch), batch.offsets, self.scores.pooling))

    def activate(self, logits: Floats, options: ScoreOptions) -> Floats:
        """Logits (N, L) to scores of the same shape."""
        if not len(logits):
            return logits
        fn = options.activation
        found = _ACTIVATIONS[fn](logits) if isinstance(fn, str) else np.asarray(fn(logits), dtype=np.float32)
        if found.shape != logits.shape:
            raise OptionError(f"activation_fn made an array of shape {found.shape} out of one of {logits.shape}")
        return softmax(found) if options.softmax else found

    @property
    def not_finite(self) -> str:
        """What is said of a pair whose score is not finite."""
        return (
            f"its score is NaN or infinity; this variant ({self.model.variant}) does not hold this model's values, "
            "use fp32, and report the pair"
        )

    def identity(self, options: ScoreOptions) -> str:
        """16 hex digits over everything that decides a score."""
        fn = options.activation
        called = fn if isinstance(fn, str) else f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', fn)}"
        whole = {**self.parts(), "output": [called, options.softmax], "prompt": options.prompt}
        return short_hash(whole)

    def parts(self) -> dict[str, Any]:
        """What decides every score, whatever a call asks for."""
        manifest = self.model.bundle.manifest
        head = asdict(self.scores)
        head["stages"] = stage_parts(manifest, self.scores.stages)
        return {**encoder_parts(manifest, self.model.variant, self.settings.max_tokens), "scores": head}


def read_head(model_bundle: Any) -> tuple[ScoreHead, Head]:
    """The head of a bundle that gives scores, and its arrays.

    Raises:
        OptionError: it gives none; the message has the class that opens it.
    """
    check_gives(model_bundle.manifest, "scores")
    scores = model_bundle.manifest.scores
    return scores, load_head(model_bundle, scores)


def make_scoring(model: LoadedModel, head: tuple[ScoreHead, Head], settings: Settings) -> Scoring:
    """The model with these settings."""
    tokenizer = PairTokenizer(model.tokenizer.limited(settings.max_tokens), head[0])
    return Scoring(model, settings, *head, tokenizer, BatchLimits(pads=model.executor.pads))


def _batch(pairs: Sequence[PairIds]) -> TokenBatch:
    offsets = np.array([0, *accumulate(map(len, pairs))], dtype=np.int32)
    seconds = np.array([pair.second for pair in pairs], dtype=np.int32)
    typed = bool((seconds < np.diff(offsets)).any())
    return TokenBatch(np.concatenate([pair.ids for pair in pairs]), offsets, seconds=seconds if typed else None)


def _activation(given: object) -> Activation:
    """A name, or what is called with the logits (N, L); torch's own modules by their names."""
    if isinstance(given, str):
        if given not in SCORE_ACTIVATIONS:
            raise OptionError(
                f"activation_fn must be one of {', '.join(SCORE_ACTIVATIONS)}, or callable, not {given!r}"
            )
        return given
    kind = given if isinstance(given, type) else type(given)
    if kind.__module__.startswith("torch.") and kind.__name__ in _TORCH_NAMES:
        return _TORCH_NAMES[kind.__name__]
    if not callable(given):
        raise OptionError(f"activation_fn must be one of {', '.join(SCORE_ACTIVATIONS)}, or callable, not {given!r}")
    return given
