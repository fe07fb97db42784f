"""Windows of texts: the next one is tokenized while this one is planned, run and pooled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from embedrt.batching import BatchLimits, plan_groups
from embedrt.errors import InputError, NonFiniteError, TokenLimitError
from embedrt.executors import WANTS, Executor, TokenBatch, Want
from embedrt.options import EncodeOptions
from embedrt.overflow import joined, parts_of
from embedrt.pooling import Dense, Head, pool
from embedrt.threads import one_ahead
from embedrt.token_ids import Ids
from embedrt.tokenization import TextTokenizer, TokenizedTexts

if TYPE_CHECKING:
    from embedrt.loading import LoadedModel

_NOT_FINITE = (
    "its vector holds NaN or infinity; this variant ({variant}) does not hold this model's values, use fp32, "
    "and report the text"
)


@dataclass(frozen=True)
class Window:
    """Texts that are tokenized and planned together."""

    texts: tuple[str, ...]  # without the prompt, no two alike
    indices: Sequence[int]  # a position of each text in the caller's input, for messages


@dataclass(frozen=True)
class Embedded:
    """A window's outcome, row by row."""

    rows: list[NDArray[Any]]  # sentence embeddings (D,), or hidden states (n, H); empty where a text failed
    token_ids: tuple[NDArray[np.int32], ...]  # cut, but where the options say windows
    num_tokens: tuple[int, ...]  # before cutting
    failed: Mapping[int, str]  # position in the window -> reason; only where the caller skips


class _Part(NamedTuple):
    """A text, or a stretch of a long one."""

    text: int  # position in the window
    ids: NDArray[np.int32]
    weight: int  # of its row in the text's


@dataclass(frozen=True)
class WindowRunner:
    """What stands between texts and their rows. Several threads may use one at once."""

    tokenizer: TextTokenizer
    executor: Executor
    head: Head
    pooling: tuple[str, ...]
    include_prompt: bool  # whether a prompt's tokens are pooled too
    variant: str  # for messages
    limits: BatchLimits

    @classmethod
    def of(cls, model: LoadedModel, dense: Dense, max_tokens: int, **more: Any) -> Self:
        """That of a loaded model, for texts of so many tokens; `more` is what other classes have besides."""
        return cls(
            tokenizer=model.tokenizer.limited(max_tokens),
            executor=model.executor,
            head=dense.head,
            pooling=dense.pooling,
            include_prompt=dense.include_prompt,
            variant=model.variant,
            limits=BatchLimits(pads=model.executor.pads),
            **more,
        )

    def run(
        self,
        windows: Iterator[Window],
        options: EncodeOptions,
        advance: Callable[[int], None] = lambda _: None,
        *,
        skip: bool = False,
    ) -> Iterator[tuple[Window, Embedded]]:
        """Each window with its outcome.

        Args:
            windows: read one ahead of what is run.
            options: of the call.
            advance: told how many texts each run of the executor did.
            skip: report texts that fail in `Embedded.failed` instead of raising.

        Raises:
            TokenLimitError: a text is over the limit, and the options say that this is an error.
            NoTokensError: a text has no tokens.
            TokenIdError: a text has a token that the model has no row for.
            NonFiniteError: a vector came out with NaN or infinity.
        """

        def tokenize(window: Window) -> TokenizedTexts:
            texts = [options.prompt + text for text in window.texts]
            return self.tokenizer(texts, cut=options.on_overflow != "windows")

        held = self.executor.held()  # a call that runs finishes, whoever closes meanwhile
        for window, tokenized in one_ahead(tokenize, windows, "embedrt-tokenize"):
            yield window, self._run_window(held, window, tokenized, options, advance, skip)

    def run_one(self, text: str, options: EncodeOptions) -> tuple[NDArray[np.float32], int] | None:
        """The row of one text, with the same bits as by `run`, and its tokens before cutting.

        None of a long text, and where something is wrong with it, which `run` finds again and says.
        """
        ids = self.tokenizer.short_ids(options.prompt + text)
        if ids is None:
            return None
        (row,) = self.run_group([self.tokenizer.shaped(self.tokenizer.cut(ids))], options)
        return (row, len(ids)) if self.is_finite(row) else None

    def _run_window(
        self,
        executor: Executor,
        window: Window,
        tokenized: TokenizedTexts,
        options: EncodeOptions,
        advance: Callable[[int], None],
        skip: bool,
    ) -> Embedded:
        failed: dict[int, str] = {}

        def fail(kind: type[InputError | NonFiniteError], position: int, reason: str) -> None:
            if not skip:
                raise kind(reason, index=window.indices[position])
            failed[position] = reason

        if options.on_overflow == "error":
            for position, count in enumerate(tokenized.num_tokens):
                if count > self.tokenizer.max_tokens:
                    limit = self.tokenizer.max_tokens
                    fail(TokenLimitError, position, f"has {tokenized.count(position)} tokens, the model takes {limit}")
        for position, ids in enumerate(tokenized.token_ids):
            try:
                self.tokenizer.check(ids)
            except InputError as exc:
                fail(type(exc), position, exc.reason)
        token_ids = tokenized.token_ids
        if options.on_overflow != "windows":
            token_ids = tuple(map(self.tokenizer.shaped, token_ids))
        parts = self._parts(window, token_ids, options, failed)
        rows: list[NDArray[Any]] = [np.empty(0)] * len(parts)
        for group, found in self.groups([part.ids for part in parts], options, executor):
            for k, row in zip(group, found, strict=True):
                if self.is_finite(row):
                    rows[k] = row
                else:
                    fail(NonFiniteError, parts[k].text, self.not_finite)
            advance(sum(k == 0 or parts[k - 1].text != parts[k].text for k in group))  # each text once
        whole: list[NDArray[Any]] = [np.empty(0)] * len(window.texts)
        for text, those in groupby(zip(parts, rows, strict=True), key=lambda pair: pair[0].text):
            if text not in failed:
                mine = list(those)
                whole[text] = self.join([row for _, row in mine], [part.weight for part, _ in mine], options)
        return Embedded(whole, token_ids, tokenized.num_tokens, failed)

    def _parts(
        self, window: Window, token_ids: Sequence[Ids], options: EncodeOptions, failed: Mapping[int, str]
    ) -> list[_Part]:
        """What is run, text by text; those that failed already take no part."""
        parts: list[_Part] = []
        for i, ids in enumerate(token_ids):
            if i in failed:
                continue
            if options.on_overflow == "windows":
                found = parts_of(self.tokenizer, ids, window.texts[i], options.prompt)
                shaped = map(self.tokenizer.shaped, found.ids)
                parts += [_Part(i, part, weight) for part, weight in zip(shaped, found.weights, strict=True)]
            else:
                parts.append(_Part(i, ids, len(ids)))
        return parts

    def join(self, rows: Sequence[NDArray[Any]], weights: Sequence[int], options: EncodeOptions) -> NDArray[Any]:
        """A text's row out of those of its parts (see `overflow`), normalized if they are."""
        return joined(rows, weights, normalize=self.head.normalizes and not options.unnormalized)

    def groups(
        self,
        token_ids: Sequence[NDArray[np.int32]],
        options: EncodeOptions,
        executor: Executor,
        *,
        hidden: bool = False,
    ) -> Iterator[tuple[list[int], list[NDArray[np.float32]]]]:
        """Runs over all of them, shaped: positions, and for those what `run_group` gives, or hidden states (n, H)."""
        limits = self.limits
        if options.batch_size is not None:
            limits = replace(limits, max_texts=min(limits.max_texts, options.batch_size))
        for group in plan_groups([self.num_tokens(ids) for ids in token_ids], limits):
            chosen = [token_ids[k] for k in group]
            yield group, self._hidden(chosen, executor) if hidden else self.run_group(chosen, options, executor)

    def num_tokens(self, ids: NDArray[np.int32]) -> int:
        """Tokens that the executor reads of a text."""
        return len(ids)

    def is_finite(self, row: Any) -> bool:
        """Whether what `run_group` gave for a text has neither NaN nor infinity."""
        return bool(np.isfinite(row).all())

    @property
    def not_finite(self) -> str:
        """What is said of a text whose vector is not finite."""
        return _NOT_FINITE.format(variant=self.variant)

    def run_group(
        self, token_ids: Sequence[NDArray[np.int32]], options: EncodeOptions, executor: Executor | None = None
    ) -> list[NDArray[np.float32]]:
        """One run over shaped ids: a row (D,) per text, or hidden states (n, H). `executor` may be one held."""
        executor = executor or self.executor
        if options.output_value != "sentence_embedding":
            return self._hidden(token_ids, executor)
        batch = join_texts(token_ids)
        if (want := self.want(options)) is not None:
            return list(self.head(executor.run(batch, want=want), unnormalized=options.unnormalized))
        return list(self.pool(executor.run(batch), batch.offsets, options))

    def want(self, options: EncodeOptions) -> Want | None:
        """The row of a text that the executor gives instead of all that are pooled; None where it cannot."""
        want = WANTS.get(self.pooling)
        return want if want == "last" or (want is not None and self._prompt_rows(options) == 0) else None

    def _hidden(self, token_ids: Sequence[NDArray[np.int32]], executor: Executor) -> list[NDArray[np.float32]]:
        """Hidden states (n, H) of each text, out of one run."""
        batch = join_texts(token_ids)
        found = executor.run(batch)
        return [found[a:b].copy() for a, b in pairwise(batch.offsets)]

    def pool(
        self, hidden: NDArray[np.float32], offsets: NDArray[np.int32], options: EncodeOptions, *, whole: bool = True
    ) -> NDArray[np.float32]:
        """Hidden states (T, H) of texts that lie at `offsets` to their vectors (B, D).

        Not `whole`: of stretches of texts, which have no prompt of their own.
        """
        pooled = pool(hidden, offsets, self.pooling, self._prompt_rows(options) if whole else 0)
        return self.head(pooled, unnormalized=options.unnormalized)

    def _prompt_rows(self, options: EncodeOptions) -> int:
        """Rows of a prompt in front of each text, where pooling leaves them out."""
        return 0 if self.include_prompt or not options.prompt else self.tokenizer.prompt_tokens(options.prompt)


def join_texts(token_ids: Sequence[NDArray[np.int32]], keys: NDArray[np.int32] | None = None) -> TokenBatch:
    """Texts end to end."""
    if len(token_ids) == 1:
        return TokenBatch(token_ids[0], np.array([0, len(token_ids[0])], dtype=np.int32), keys)
    offsets = np.array([0, *accumulate(map(len, token_ids))], dtype=np.int32)
    return TokenBatch(np.concatenate(token_ids), offsets, keys)
