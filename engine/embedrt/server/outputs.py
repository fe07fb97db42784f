"""Sparse vectors and vectors of tokens at work, beside dense ones where a bundle has them: one model, one queue."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import ExecutorError
from embedrt.model import Model
from embedrt.options import EncodeOptions, Kind
from embedrt.outputs import OutputOptions, TextOutputs
from embedrt.parity.files import read_parity_texts
from embedrt.parity.outputs import largest_difference, read_sparse, read_tokens, row_cosines, token_texts
from embedrt.server.inference import Choose, Inference
from embedrt.server.pool import Pool
from embedrt.server.prepare import Prepared, Work, prepare
from embedrt.server.sizes import WEIGHT_BYTES, Size, size_of_tokens, size_of_weights

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


class Outputs(Inference):
    """Sparse vectors of texts, or vectors of their tokens.

    Args:
        model: what gives them.
    """

    def __init__(self, model: ServedOutputs) -> None:
        self.model = model

    async def prepare(self, pool: Pool, work: Work) -> Prepared:
        """Token ids; what a table of queries has no weight for is an InputError."""
        prepared = await prepare(self.model.tokenizer_for(_asked(work.options)), pool, work)
        if self.model.reads_table(_asked(work.options)):
            for k, ids in enumerate(prepared.token_ids):
                self.model.check_table(ids, prepared.row_of.index(k))
        return prepared

    def size(self, prepared: Prepared, work: Work, number_bytes: float) -> Size:
        """Of a vector per token, or of weights of words."""
        del number_bytes
        options = _asked(work.options)
        lengths = [self.num_tokens(ids, options) for ids in prepared.token_ids]
        tokens = self.model.bundle.manifest.tokens
        if options.outputs == ("tokens",):
            assert tokens is not None
            return size_of_tokens(lengths, prepared.row_of, tokens.dimension)
        most, known = self._most_weights(lengths, options)
        return size_of_weights(lengths, prepared.row_of, most, None if known else work.most_answer)

    def _most_weights(self, lengths: list[int], options: OutputOptions) -> tuple[list[int], bool]:
        """Weights that texts of these lengths may have, and whether that is near what they do have."""
        head = self.model.bundle.manifest.sparse
        assert head is not None
        limit = min(options.max_active_dims or head.dimension, head.dimension)
        if head.words is None or self.model.reads_table(options):  # a weight per token
            return [min(limit, length) for length in lengths], True
        return [limit] * len(lengths), options.max_active_dims is not None

    def limit(self, options: EncodeOptions) -> int:
        """Queries may have another than documents."""
        return self.model.tokenizer_for(_asked(options)).max_tokens

    def identity(self, options: EncodeOptions) -> str:
        """Of the outputs."""
        return self.model.identity_for(_asked(options))

    def lane(self, options: EncodeOptions) -> Hashable:
        """Outputs, queries or documents, and weights that are kept."""
        asked = _asked(options)
        return asked.outputs, asked.kind, asked.max_active_dims

    def embed(self, token_ids: Sequence[Any], options: EncodeOptions) -> list[Any]:
        """`TextOutputs` of each text."""
        return self.model.embed_tokens(token_ids, _asked(options))

    def num_tokens(self, ids: NDArray[Any], options: EncodeOptions) -> int:
        """None of a text of which a table is read."""
        return self.model.num_tokens(ids, _asked(options))

    def room(self, work: Work) -> float:
        """Texts may have far more weights than they do: they are counted as they come."""
        return work.most_answer

    def written(self, row: TextOutputs) -> int:
        """Of its weights; `size` knows those of tokens."""
        return 0 if row.sparse is None else round(len(row.sparse) * WEIGHT_BYTES)

    def is_finite(self, row: TextOutputs) -> bool:
        """By its own word."""
        return row.is_finite


def _asked(options: EncodeOptions) -> OutputOptions:
    assert isinstance(options, OutputOptions)  # `of_outputs` sees to it
    return options


def of_outputs(model: ServedOutputs, dense: Choose | None) -> Choose:
    """What a model of these outputs does with a work; `dense` where it has dense vectors as well."""
    outputs = Outputs(model)

    def choose(work: Work) -> Inference:
        return outputs if dense is None or isinstance(work.options, OutputOptions) else dense(work)

    return choose


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
