"""Sparse vectors and vectors of tokens at work, beside dense ones where a bundle has them: one model, one queue."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import ExecutorError, InputError
from embedrt.model import Model
from embedrt.options import EncodeOptions, Kind
from embedrt.outputs import OutputOptions, TextOutputs
from embedrt.parity.files import read_parity_texts
from embedrt.parity.outputs import largest_difference, read_sparse, read_tokens, row_cosines, token_texts
from embedrt.server.cache import RowCache
from embedrt.server.engine import ModelEngine
from embedrt.server.errors import translate
from embedrt.server.prepare import Prepared, Work
from embedrt.server.sizes import WEIGHT_BYTES, Size, size_of_tokens, size_of_weights
from embedrt.tokenization import TextTokenizer

_WARM_UP_TEXTS = 4
_WEIGHT_SLACK = 1e-3  # of a weight, beyond what the variant differed by when the bundle was made
_COSINE_SLACK = 5e-3  # of the mean over a few tokens


class ServedOutputs(Model):
    """A bundle's outputs, under the names by which an engine knows an embedder."""

    pooling = ()

    @property
    def dimension(self) -> int:
        """Of its vectors: words of a sparse one, else numbers of a token's."""
        manifest = self.bundle.manifest
        head = manifest.pipeline or manifest.sparse or manifest.tokens
        assert head is not None
        return head.dimension

    def identify(self, *, kind: Kind = "encode", on_overflow: str = "truncate") -> str:
        """Of what a request without options gets; texts are cut, or refused, and never read in windows."""
        del on_overflow
        return self.identity_for(self.resolve(kind=kind))


class OutputEngine(ModelEngine):
    """Serves one bundle for all outputs that it gives.

    Args:
        name: what clients call the model.
        embedder: its dense vectors; `outputs` where it has none.
        outputs: the others, of the same loaded model.
        given: what `ModelEngine` takes besides.
    """

    embedder: Any

    def __init__(self, name: str, embedder: Any, outputs: ServedOutputs, *given: Any, **named: Any) -> None:
        self.outputs = outputs  # before the thread that runs batches begins
        super().__init__(name, embedder, *given, **named)

    async def prepare(self, work: Work) -> Prepared:
        """As `ModelEngine`'s, with what a table of queries has no weight for refused (422)."""
        prepared = await super().prepare(work)
        if isinstance(work.options, OutputOptions) and self.outputs.reads_table(work.options):
            try:
                for k, ids in enumerate(prepared.token_ids):
                    self.outputs.check_table(ids, prepared.row_of.index(k))
            except InputError as exc:
                raise translate(exc) from exc
        return prepared

    def size(self, prepared: Prepared, work: Work, number_bytes: float) -> Size:
        """What the request becomes when it is run and answered."""
        options = work.options
        if not isinstance(options, OutputOptions):
            return super().size(prepared, work, number_bytes)
        lengths = [self._num_tokens(ids, options) for ids in prepared.token_ids]
        manifest = self.outputs.bundle.manifest
        if options.outputs == ("tokens",):
            assert manifest.tokens is not None
            return size_of_tokens(lengths, prepared.row_of, manifest.tokens.dimension)
        most, known = self._most_weights(lengths, options)
        return size_of_weights(lengths, prepared.row_of, most, None if known else work.most_answer)

    def _most_weights(self, lengths: list[int], options: OutputOptions) -> tuple[list[int], bool]:
        """Weights that texts of these lengths may have, and whether that is near what they do have."""
        head = self.outputs.bundle.manifest.sparse
        assert head is not None
        limit = min(options.max_active_dims or head.dimension, head.dimension)
        if head.words is None or self.outputs.reads_table(options):  # a weight per token
            return [min(limit, length) for length in lengths], True
        return [limit] * len(lengths), options.max_active_dims is not None

    def _room(self, work: Work) -> float:
        return work.most_answer

    def _written(self, row: Any) -> int:
        if isinstance(row, TextOutputs) and row.sparse is not None:
            return round(len(row.sparse) * WEIGHT_BYTES)
        return 0

    def _tokenizer(self, options: EncodeOptions) -> TextTokenizer:
        return (
            self.outputs.tokenizer_for(options) if isinstance(options, OutputOptions) else super()._tokenizer(options)
        )

    def _identity(self, options: EncodeOptions) -> str:
        return self.outputs.identity_for(options) if isinstance(options, OutputOptions) else super()._identity(options)

    def _num_tokens(self, ids: NDArray[Any], options: EncodeOptions) -> int:
        return self.outputs.num_tokens(ids, options) if isinstance(options, OutputOptions) else len(ids)

    def _cache_for(self, work: Work) -> RowCache | None:
        return None if isinstance(work.options, OutputOptions) else super()._cache_for(work)

    def _lane(self, options: EncodeOptions) -> Hashable:
        if isinstance(options, OutputOptions):
            return options.outputs, options.kind, options.max_active_dims
        return super()._lane(options)

    def _embed(self, token_ids: list[Any], options: EncodeOptions) -> list[Any]:
        if isinstance(options, OutputOptions):
            return self.outputs.embed_tokens(token_ids, options)
        return super()._embed(token_ids, options)

    def _is_finite(self, row: Any) -> bool:
        return row.is_finite if isinstance(row, TextOutputs) else super()._is_finite(row)


def warm_up_outputs(model: Model, batch_tokens: int) -> None:
    """Compare the outputs of a few of the bundle's parity texts with those it keeps; then run one full batch of each.

    Raises:
        ExecutorError: one is not what it was when the bundle was made.
    """
    texts = read_parity_texts(model.bundle)
    if "sparse" in model.outputs:
        found = model.encode_detailed(texts[:_WARM_UP_TEXTS], outputs=("sparse",), kind="document").sparse
        assert found is not None
        worst = max(map(largest_difference, read_sparse(model.bundle), found), default=0.0)
        most = 2 * _figure(model, "sparse", "max_abs_diff", 1.0) + _WEIGHT_SLACK
        if not worst <= most:
            raise _another(model, f"weights of words that differ by {worst:.6f}", f"at most {most:.6f}")
    if "tokens" in model.outputs:
        some = [texts[i] for i in token_texts(texts)[:_WARM_UP_TEXTS]]
        rows = model.encode_detailed(some, outputs=("tokens",), kind="document").tokens or []
        kept = read_tokens(model.bundle)["document"]
        cosines = np.concatenate([row_cosines(a, b) for a, b in zip(kept, rows, strict=False)] or [np.ones(1)])
        least = _figure(model, "tokens", "cosine_mean", 0.99) - _COSINE_SLACK
        if not cosines.mean() >= least:
            raise _another(model, f"vectors of tokens with a mean cosine of {cosines.mean():.6f}", f"{least:.6f}")
    width = min(model.max_tokens, batch_tokens)
    full = [np.zeros(width, np.int32)] * max(1, batch_tokens // width)
    for name in ("sparse", "tokens"):
        if name in model.outputs:
            model.embed_tokens(full, model.resolve((name,), kind="document", prompt=""))


def _figure(model: Model, output: str, name: str, unknown: float) -> float:
    parity = model.bundle.variant(model.variant).outputs.get(output)
    return unknown if parity is None else parity.figures[name]


def _another(model: Model, what: str, wanted: str) -> ExecutorError:
    return ExecutorError(
        f"{model.bundle.manifest.name} {model.variant}: warm-up texts have {what} from those that the bundle keeps, "
        f"{wanted} is wanted; run 'embedrt verify {model.bundle.root}'"
    )
