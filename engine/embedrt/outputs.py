"""What a bundle gives of a text from one run of the encoder: a vector, a sparse vector, a vector for each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from embedrt.executors import Executor, TokenBatch
from embedrt.heads import Expansion, TokenSide
from embedrt.manifest import Manifest, outputs_of
from embedrt.options import EncodeOptions, Kind
from embedrt.pooling import Head, l2_normalize
from embedrt.results import Truncation
from embedrt.sparse_head import SparseRows
from embedrt.sparse_vectors import SparseVector
from embedrt.windows import WindowRunner, join_texts

Floats = NDArray[np.float32]
Output = Literal["dense", "sparse", "tokens"]
OUTPUT_NAMES: dict[Output, str] = {"dense": "pipeline", "sparse": "sparse", "tokens": "tokens"}
"""Names of outputs -> their fields of the manifest."""


def output_names(manifest: Manifest) -> tuple[Output, ...]:
    """What a bundle gives of a text."""
    there = outputs_of(manifest)
    return tuple(name for name, field in OUTPUT_NAMES.items() if field in there)


class OutputKwargs(TypedDict, total=False):
    """The options of `encode` of models with other outputs; their names are sentence-transformers' where it has one."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int | None
    show_progress_bar: bool | None
    on_overflow: Literal["truncate", "error"]
    device: str | None  # accepted where it is the model's own
    pool: None  # accepted, because one process uses every core
    chunk_size: int | None  # accepted, and nothing to us


@dataclass(frozen=True)
class OutputOptions(EncodeOptions):
    """A call's options, checked."""

    kind: Kind = "encode"
    outputs: tuple[Output, ...] = ()
    max_active_dims: int | None = None


@dataclass(frozen=True, eq=False)
class TextOutputs:
    """Of one text; None where it was not asked for."""

    dense: Floats | None = None  # (D,)
    sparse: SparseVector | None = None
    tokens: Floats | None = None  # (n, D)
    is_finite: bool = True


@dataclass(frozen=True)
class TokenRows:
    """What makes vectors of tokens, for one kind of texts."""

    head: Head
    side: TokenSide
    skip_first: bool
    skip: NDArray[np.int32]

    def __call__(self, hidden: Floats, ids: NDArray[np.int32], options: OutputOptions) -> Floats:
        """Hidden states (n, H) of one text's tokens to the vectors (m, D) that it has."""
        kept = ~np.isin(ids, self.skip) if len(self.skip) else np.ones(len(ids), bool)
        if self.skip_first:
            kept[0] = False
        rows = self.head(hidden if kept.all() else hidden[kept])
        if options.truncate_dim is not None:
            rows = rows[:, : options.truncate_dim]
            rows = l2_normalize(rows) if self.head.normalizes else rows
        return l2_normalize(rows) if options.normalize_embeddings else np.asarray(rows)


@dataclass(frozen=True)
class OutputRunner(WindowRunner):
    """What stands between texts and their outputs, for one kind of texts. Several threads may use one at once."""

    sparse: SparseRows | None
    tokens: TokenRows | None
    expansion: Expansion | None

    def run_group(self, token_ids: Sequence[NDArray[np.int32]], options: Any, executor: Executor | None = None) -> Any:
        """One run over tokenized texts: a `TextOutputs` for each."""
        batch, ids = self._batch(token_ids)
        hidden = (executor or self.executor).run(batch)
        finite = [bool(np.isfinite(hidden[a:b]).all()) for a, b in pairwise(batch.offsets)]
        for one, (a, b) in zip(finite, pairwise(batch.offsets), strict=True):
            if not one:  # a reduction would lose it, and warn of it
                hidden[a:b] = 0
        dense = self.pool(hidden, batch.offsets, options) if "dense" in options.outputs else None
        sparse = self.sparse(hidden, batch.offsets, ids) if self.sparse and "sparse" in options.outputs else None
        return [
            TextOutputs(
                None if dense is None else dense[i],
                None if sparse is None else sparse[i].strongest(options.max_active_dims),
                self._tokens(hidden[begin:end], ids[i], options),
                finite[i],
            )
            for i, (begin, end) in enumerate(pairwise(batch.offsets))
        ]

    def _tokens(self, hidden: Floats, ids: NDArray[np.int32], options: OutputOptions) -> Floats | None:
        return self.tokens(hidden, ids, options) if self.tokens and "tokens" in options.outputs else None

    def _batch(self, token_ids: Sequence[NDArray[np.int32]]) -> tuple[TokenBatch, Sequence[NDArray[np.int32]]]:
        """The texts, with the tokens that stand behind short ones."""
        expansion = self.expansion
        if expansion is None or all(len(ids) >= expansion.length for ids in token_ids):
            return join_texts(token_ids), token_ids
        filler = np.full(expansion.length, expansion.token, np.int32)
        whole = [np.concatenate([ids, filler[len(ids) :]]) for ids in token_ids]
        keys = None if expansion.seen else np.array([len(ids) for ids in token_ids], np.int32)
        return join_texts(whole, keys), whole

    def num_tokens(self, ids: NDArray[np.int32]) -> int:
        """With those that stand behind a short text."""
        return len(ids) if self.expansion is None else max(len(ids), self.expansion.length)

    def is_finite(self, row: TextOutputs) -> bool:
        """Whether the hidden states were."""
        return row.is_finite


@dataclass(frozen=True)
class Given:
    """What became of the texts of one call."""

    rows: list[TextOutputs]
    num_tokens: tuple[int, ...]  # per text, before cutting
    truncated: tuple[Truncation, ...]
