"""Windows of texts: the next one is tokenized while this one is planned, run and pooled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.batching import BatchLimits, plan_groups
from embedrt.errors import InputError, NonFiniteError, TokenLimitError
from embedrt.executors import Executor, TokenBatch
from embedrt.options import EncodeOptions
from embedrt.pooling import Head, pool
from embedrt.threads import one_ahead
from embedrt.tokenization import TextTokenizer, TokenizedTexts

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
    token_ids: tuple[NDArray[np.int32], ...]  # cut
    num_tokens: tuple[int, ...]  # before cutting
    failed: Mapping[int, str]  # position in the window -> reason; only where the caller skips


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
            return self.tokenizer([options.prompt + text for text in window.texts])

        held = self.executor.held()  # a call that runs finishes, whoever closes meanwhile
        for window, tokenized in one_ahead(tokenize, windows, "embedrt-tokenize"):
            yield window, self._run_window(held, window, tokenized, options, advance, skip)

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
                    fail(TokenLimitError, position, f"has {count} tokens, the model takes {limit}")
        for position, ids in enumerate(tokenized.token_ids):
            try:
                self.tokenizer.check(ids)
            except InputError as exc:
                fail(type(exc), position, exc.reason)
        rows: list[NDArray[Any]] = [np.empty(0)] * len(window.texts)
        for group in self._plan(tokenized, options, failed):
            for i, row in zip(
                group, self.run_group([tokenized.token_ids[i] for i in group], options, executor), strict=True
            ):
                if np.isfinite(row).all():
                    rows[i] = row
                else:
                    fail(NonFiniteError, i, _NOT_FINITE.format(variant=self.variant))
            advance(len(group))
        return Embedded(rows, tokenized.token_ids, tokenized.num_tokens, failed)

    def _plan(self, tokenized: TokenizedTexts, options: EncodeOptions, failed: Mapping[int, str]) -> list[list[int]]:
        """Groups of positions that run together; those that failed already take no part."""
        limits = self.limits
        if options.batch_size is not None:
            limits = replace(limits, max_texts=min(limits.max_texts, options.batch_size))
        lengths = [len(ids) for ids in tokenized.token_ids]
        if not failed:
            return plan_groups(lengths, limits)
        alive = [i for i in range(len(lengths)) if i not in failed]
        return [[alive[k] for k in group] for group in plan_groups([lengths[i] for i in alive], limits)]

    def run_group(
        self, token_ids: Sequence[NDArray[np.int32]], options: EncodeOptions, executor: Executor | None = None
    ) -> list[NDArray[np.float32]]:
        """One run over tokenized texts: a row (D,) per text, or hidden states (n, H). `executor` may be one held."""
        executor = executor or self.executor
        offsets = np.array([0, *accumulate(map(len, token_ids))], dtype=np.int32)
        batch = TokenBatch(np.concatenate(token_ids), offsets)
        if options.output_value != "sentence_embedding":
            hidden = executor.run(batch)
            return [hidden[offsets[i] : offsets[i + 1]].copy() for i in range(len(token_ids))]
        if self.pooling == ("cls",) and self._prompt_rows(options) == 0:
            first = executor.run(batch, first_token_only=True)
            return list(self.head(first, unnormalized=options.unnormalized))
        return list(self.pool(executor.run(batch), offsets, options))

    def pool(
        self, hidden: NDArray[np.float32], offsets: NDArray[np.int32], options: EncodeOptions
    ) -> NDArray[np.float32]:
        """Hidden states (T, H) of texts that lie at `offsets` to their vectors (B, D)."""
        pooled = pool(hidden, offsets, self.pooling, self._prompt_rows(options))
        return self.head(pooled, unnormalized=options.unnormalized)

    def _prompt_rows(self, options: EncodeOptions) -> int:
        """Rows of a prompt in front of each text, where pooling leaves them out."""
        return 0 if self.include_prompt or not options.prompt else self.tokenizer.prompt_tokens(options.prompt)
