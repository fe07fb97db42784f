"""The heads of a loaded model, and what runs them for queries, documents and other texts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedrt.heads import TokenHead, TokenSide
from embedrt.loading import LoadedModel
from embedrt.manifest import Manifest
from embedrt.options import Kind
from embedrt.outputs import OutputRunner, TokenRows
from embedrt.pooling import Dense, Head, load_dense, load_token_head
from embedrt.settings import Settings, most_tokens
from embedrt.sparse_head import SparseRows, TableRows, load_sparse, load_table

_NO_VECTORS = Dense(("cls",), Head((), 0, normalizes=False), include_prompt=True)


@dataclass(frozen=True)
class Parts:
    """The heads of a loaded model; None where the bundle has none."""

    dense: Dense | None
    sparse: SparseRows | None
    table: TableRows | None
    tokens: Head | None


def load_parts(model: LoadedModel) -> Parts:
    """All that the bundle has."""
    manifest = model.bundle.manifest
    return Parts(
        None if manifest.pipeline is None else load_dense(model.bundle, None),
        None if manifest.sparse is None else load_sparse(model, manifest.sparse),
        None if manifest.sparse is None else load_table(model.bundle, manifest.sparse),
        None if manifest.tokens is None else load_token_head(model.bundle, manifest.tokens),
    )


def make_runner(model: LoadedModel, settings: Settings, parts: Parts, kind: Kind) -> OutputRunner:
    """What reads texts of one kind."""
    tokens = model.bundle.manifest.tokens
    side = TokenSide(None, None, ()) if tokens is None else _side(tokens, kind)
    return OutputRunner.of(
        model,
        parts.dense or _NO_VECTORS,
        _limit_of(side, settings, model.bundle.manifest),
        sparse=parts.sparse,
        tokens=_token_rows(parts.tokens, tokens, side),
        expansion=side.expansion,
    )


def _limit_of(side: TokenSide, settings: Settings, manifest: Manifest) -> int:
    """Tokens of a text of this side; a limit that the user has set is never passed."""
    limit = settings.max_tokens
    if side.max_tokens is not None:
        limit = side.max_tokens if limit == manifest.max_tokens else min(side.max_tokens, limit)
    if side.expansion is not None:
        limit = side.expansion.length if side.expansion.cuts else max(limit, side.expansion.length)
    return min(limit, most_tokens(manifest))


def _side(tokens: TokenHead, kind: Kind) -> TokenSide:
    """Texts of no kind are read like documents, but for their limit, as sentence-transformers does."""
    if kind == "query":
        return tokens.query
    return tokens.document if kind == "document" else replace(tokens.document, max_tokens=None)


def _token_rows(head: Head | None, tokens: TokenHead | None, side: TokenSide) -> TokenRows | None:
    if head is None or tokens is None:
        return None
    skip: NDArray[np.int32] = np.array(side.skip, np.int32)
    return TokenRows(head, side, tokens.skip_first, skip)
