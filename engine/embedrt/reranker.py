"""The door to rerankers and classifiers of pairs: a bundle opened, and the scores that it gives."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, Unpack

import numpy as np

from embedrt.batching import BatchLimits
from embedrt.bundle import Bundle
from embedrt.construction import told_keywords
from embedrt.errors import InputError, OptionError
from embedrt.facts import ModelFacts
from embedrt.inputs import several_texts
from embedrt.loading import LoadedModel, LoadOptions, find_bundle, load_model
from embedrt.options import hash_of, whole_number
from embedrt.pairs import PairIds, PairOrText, PairTokenizer
from embedrt.reopening import Recipe, recipe_for
from embedrt.results import TruncationWarning
from embedrt.scoring import Floats, ScoreKwargs, ScoreOptions, Scoring, make_scoring, read_head
from embedrt.settings import change, own_settings
from embedrt.tensors import as_tensor
from embedrt.text_checks import check_text


@dataclass(frozen=True)
class ScoreResult:
    """The outcome of one call."""

    scores: Floats  # (N,) where the model has one label, else (N, L)
    num_tokens: tuple[int, ...]  # per pair, before cutting; of very long texts at least so many
    num_truncated: int
    identity: str


class Reranker(ModelFacts):
    """Scores pairs of texts with one variant of a bundle. Several threads may use one at once.

    Named as sentence-transformers' CrossEncoder, with its arguments and results. It does not change after it is made;
    pickled or copied deeply, it opens its bundle again.

    Args:
        bundle: directory that `embedrt export` made, or a name such as "BAAI/bge-reranker-v2-m3"; see
            `embedrt.open_bundle`.
        variant, device, executor, isa, num_threads, packed_cache, verify_hashes: as `Embedder` takes them.
        max_tokens: where pairs are cut, special tokens included; up to the model's positions.
        prompts: name -> text, beside the bundle's own; a prompt goes before the first text of each pair, or is the
            instruction of a model that takes one.
        default_prompt_name: the prompt that calls take that give none.

    Raises:
        BundleError: the bundle cannot be used; the message says why.
        OptionError: an argument does not fit, or the bundle gives no scores.
        DependencyError: the device needs another build of onnxruntime, or the executor asked for is not installed.
        ExecutorError: the executor cannot load the variant.
    """

    @told_keywords
    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        variant: str = "auto",
        device: str | None = "auto",
        executor: str = "auto",
        isa: str = "auto",
        num_threads: int | None = None,
        packed_cache: bool | str | os.PathLike[str] = False,
        verify_hashes: bool = True,
        max_tokens: int | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
    ) -> None:
        where = "auto" if device is None else str(device)
        asked = LoadOptions(variant, where, executor, isa, num_threads, None, packed_cache, verify_hashes)
        found = find_bundle(bundle)
        head, manifest = read_head(found), found.manifest
        settings = change(
            own_settings(manifest),
            manifest,
            max_tokens=max_tokens,
            prompts=prompts,
            default_prompt_name=default_prompt_name,
        )
        self._scoring = make_scoring(load_model(found, asked), head, settings)

    def predict(
        self,
        inputs: Iterable[Sequence[str]] | Sequence[str] | None = None,
        *,
        sentences: Iterable[Sequence[str]] | Sequence[str] | None = None,
        **options: Unpack[ScoreKwargs],
    ) -> Any:
        """Score one pair of texts or several.

        Args:
            inputs: a pair of strings, or several pairs; a list of one string where a classifier reads it alone.
            sentences: the same, by sentence-transformers' older name.
            prompt_name: which of the bundle's prompts to put before each first text.
            prompt: a text to put there; wins over `prompt_name`.
            batch_size: at most so many pairs in one run (a token budget decides as well).
            show_progress_bar: a bar on stderr.
            activation_fn: "identity" for the model's own logits, "sigmoid", "softmax", torch.nn's modules of these
                names, or a function of the logits, float32 (N, L); default what the model comes with.
            apply_softmax: softmax over the labels, behind the activation; of a model with one label nothing.
            on_overflow: "truncate" cuts pairs over `max_tokens`, the longer text first, and warns once per call;
                "error" refuses them.
            convert_to_tensor: a torch tensor instead of an array, where torch is imported already.
            convert_to_numpy: False is a list of tensors, one per pair.
            device, pool, chunk_size, num_workers: sentence-transformers'; taken where they say what is so anyway.

        Returns:
            float32 (N,) for several pairs, or (N, L) where the model has L > 1 labels; for one pair without the first
            axis.

        Raises:
            InputError: a pair cannot be scored; `.index` says which.
            OptionError: an option is unknown or does not fit.
            NonFiniteError: a score came out with NaN or infinity.
        """
        if (inputs is None) == (sentences is None):
            raise InputError("give a pair of strings or several pairs, once: as inputs, or as sentences")
        chosen = self.resolve(**options)
        pairs, single = checked_pairs(inputs if inputs is not None else sentences)
        done = self._scored(pairs, chosen)
        return self._shaped(done.scores, chosen, single=single)

    def predict_detailed(self, inputs: Iterable[Sequence[str]], **options: Unpack[ScoreKwargs]) -> ScoreResult:
        """As `predict` of several pairs, with tokens per pair and the identity; no warning."""
        chosen = self.resolve(**options)
        pairs, _ = checked_pairs(list(inputs))
        done = self._scoring.score(pairs, chosen)
        cut = sum(count > self.max_tokens for count in done.num_tokens)
        return ScoreResult(self._flat(done.scores), done.num_tokens, cut, self._scoring.identity(chosen))

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[ScoreKwargs],
    ) -> list[dict[str, Any]]:
        """Documents by their score with the query, best first; of equal ones the earlier first.

        Args:
            query: one text.
            documents: strings, at least one.
            top_k: so many of the best; default all.
            return_documents: whether each result has its document as "text".
            options: as `predict` takes them.

        Returns:
            A dict per document: "corpus_id", its position in `documents`, "score", a float, and "text" if wanted.

        Raises:
            InputError: the query or a document cannot be scored (`.index` of a document), or there is none.
            TokenLimitError: the query alone fills `max_tokens`, whatever `on_overflow` says.
            OptionError: an option does not fit, or the model has several labels.
        """
        if self.num_labels != 1:
            raise OptionError(
                f"rank needs a model of one label, this one has {self.num_labels} ({', '.join(self.labels)}); predict "
                "gives a score for each"
            )
        count, chosen = whole_number("top_k", top_k), self.resolve(**options)
        texts = [check_text(text, i) for i, text in enumerate(several_texts(documents))]
        if not texts:
            raise InputError("there are no documents to rank; give at least one")
        try:
            query = check_text(query, None)
        except InputError as exc:
            raise type(exc)(f"the query {exc.reason}") from exc
        self.tokenizer.check_query(query, chosen.prompt)
        scores = self._scored([(query, text) for text in texts], chosen).scores[:, 0]
        best = np.argsort(-scores, kind="stable")[:count]
        return [
            {"corpus_id": int(i), "score": float(scores[i]), **({"text": texts[i]} if return_documents else {})}
            for i in best
        ]

    @property
    def num_labels(self) -> int:
        """Scores per pair: 1 of a reranker."""
        return len(self.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the scores, in order."""
        return self._scoring.scores.labels

    @property
    def activation(self) -> str:
        """What `predict` applies to the logits where it is given nothing else."""
        return self._scoring.scores.activation

    @property
    def max_tokens(self) -> int:
        """Tokens that a pair may have, special tokens included; longer ones are cut."""
        return self._scoring.settings.max_tokens

    @property
    def max_seq_length(self) -> int:
        """`max_tokens`."""
        return self.max_tokens

    @property
    def prompts(self) -> dict[str, str]:
        """Name -> text put before the first text of each pair; a copy."""
        return dict(self._scoring.settings.prompts.texts)

    @property
    def identity(self) -> str:
        """Identity of what `predict` gives without options; see `identify`."""
        return self.identify()

    def identify(self, **options: Unpack[ScoreKwargs]) -> str:
        """Short hash over everything that decides a score: model, tokenizer, variant, head, activation, prompt."""
        return self._scoring.identity(self.resolve(**options))

    def resolve(self, **options: Unpack[ScoreKwargs]) -> ScoreOptions:
        """What a call with these options would do, checked once; for `score_tokens` and `finish`."""
        return self._scoring.options(options)

    @property
    def batch_limits(self) -> BatchLimits:
        """What one run of the executor may hold."""
        return self._scoring.limits

    @property
    def tokenizer(self) -> PairTokenizer:
        """Of pairs."""
        return self._scoring.tokenizer

    def score_tokens(self, pairs: Sequence[PairIds]) -> Floats:
        """One run of the executor over pairs that are tokenized already: logits (B, L), not checked for NaN."""
        return self._scoring.run(pairs)

    def finish(self, logits: Floats, options: ScoreOptions) -> Floats:
        """Logits (N, L) of `score_tokens` to scores of the same shape."""
        return self._scoring.activate(logits, options)

    def identity_for(self, options: ScoreOptions) -> str:
        """The identity of scores made with `options`."""
        return self._scoring.identity(options)

    def __copy__(self) -> Self:
        made: Self = _made(type(self), self._scoring, vars(self))
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        own = {name: value for name, value in vars(self).items() if name != "_scoring"}
        recipe = recipe_for("reranker", self._model, self._scoring.settings, hash_of(self._scoring.parts()))
        return _reopen, (type(self), recipe, own)

    @property
    def _model(self) -> LoadedModel:
        return self._scoring.model

    def _scored(self, pairs: list[PairOrText], options: ScoreOptions) -> Any:
        done = self._scoring.score(pairs, options)
        worst = max(done.num_tokens, default=0)
        if worst > self.max_tokens:
            cut = sum(count > self.max_tokens for count in done.num_tokens)
            warnings.warn(
                f"{cut} of {len(pairs)} pairs were cut at {self.max_tokens} tokens, the longer text first; the longest "
                f'has {worst}. on_overflow="error" refuses them.',
                TruncationWarning,
                stacklevel=3,
            )
        return done

    def _flat(self, scores: Floats) -> Floats:
        return scores[:, 0] if self.num_labels == 1 else scores

    def _shaped(self, scores: Floats, options: ScoreOptions, *, single: bool) -> Any:
        flat = self._flat(scores)
        found: Any = flat if options.container == "array" else as_tensor(flat)
        if single:
            return found[0]
        return list(found) if options.container == "tensors" else found


def checked_pairs(inputs: Any) -> tuple[list[PairOrText], bool]:
    """The pairs, and whether one alone was given, not in a list.

    Raises:
        InputError: what was given is neither a pair of strings nor several; `.index` says which is none.
    """
    given = list(several_texts(inputs)) if not _is_table(inputs) else inputs.tolist()
    if given and isinstance(given[0], str):
        return [_pair(given, None)], True
    return [_pair(pair, i) for i, pair in enumerate(given)], False


def _is_table(inputs: object) -> bool:
    """A numpy array of pairs, which has two dimensions."""
    return isinstance(inputs, np.ndarray) and inputs.ndim == 2


def _pair(value: Any, index: int | None) -> PairOrText:
    if isinstance(value, (list, tuple)) and len(value) == 1:
        return check_text(value[0], index), None
    if isinstance(value, (str, bytes)) or not hasattr(type(value), "__len__") or len(value) != 2:
        what = f"{len(value)} of them" if isinstance(value, (list, tuple)) else type(value).__name__
        raise InputError(f"must be a pair of texts, not {what}", index=index)
    one, two = value
    return check_text(one, index), check_text(two, index)


def _made(kind: type[Reranker], scoring: Scoring, own: dict[str, Any]) -> Any:
    reranker = object.__new__(kind)
    vars(reranker).update(own, _scoring=scoring)
    return reranker


def _reopen(kind: type[Reranker], recipe: Recipe, own: dict[str, Any]) -> Reranker:
    """A reranker of class `kind` as `recipe` says.

    Raises:
        BundleIntegrityError: there is another bundle in that place now.
    """
    bundle = find_bundle(recipe.root)
    scoring = make_scoring(load_model(bundle, recipe.asked), read_head(bundle), recipe.settings)
    recipe.check(scoring.model, hash_of(scoring.parts()))
    reranker: Reranker = _made(kind, scoring, own)
    return reranker
