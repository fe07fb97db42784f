"""All outputs of a bundle from one run of the encoder, and the score that joins them: the door for BGE-M3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError
from embedrt.inputs import Texts, several_texts
from embedrt.maxsim import maxsim
from embedrt.options import Kind, whole_number
from embedrt.output_model import OutputModel, warn_of_cut
from embedrt.outputs import Given, Output, OutputKwargs, OutputOptions, TextOutputs
from embedrt.results import EncodedBlock, Truncation
from embedrt.shaping import apart
from embedrt.sparse_vectors import SparseVectors, dot_products
from embedrt.streaming import read_blocks, stream_blocks
from embedrt.tokenization import TextTokenizer

Floats = NDArray[np.float32]

WEIGHTS: dict[Output, float] = {"dense": 0.4, "sparse": 0.2, "tokens": 0.4}
"""Of each output's scores in the joined one, as BGE-M3's card has them; FlagEmbedding's own default is 1 for each."""


class ModelKwargs(OutputKwargs, total=False):
    """The options of `Model.encode`."""

    max_active_dims: int | None
    kind: Kind


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model gives of N texts; None where it was not asked for, or does not."""

    dense: Floats | None  # (N, D)
    sparse: SparseVectors | None  # (N, V)
    tokens: list[Floats] | None  # N of (n, D)
    num_tokens: tuple[int, ...]  # per text, before cutting
    truncated: tuple[Truncation, ...]
    identity: str

    def __len__(self) -> int:
        return len(self.num_tokens)


class Model(OutputModel):
    """Any bundle that embeds texts, for as many of its outputs as are asked for, from one run of the encoder.

    Args:
        bundle: directory that `embedrt export` made, or a name; see `embedrt.open_bundle`.
        variant, device, executor, isa, num_threads, packed_cache, verify_hashes: as `Embedder` takes them.
        max_tokens, prompts, default_prompt_name: as `with_options` takes them.

    Raises:
        OptionError: the bundle embeds no texts, or an argument does not fit.
        BundleError, DependencyError, ExecutorError: as `Embedder` says.
    """

    takes_pictures = False

    def encode(
        self, inputs: Texts, *, outputs: Sequence[Output] | None = None, **options: Unpack[ModelKwargs]
    ) -> Outputs:
        """The outputs of one text or several; one is a batch of one here.

        Args:
            inputs: a string, or an iterable of strings.
            outputs: some of "dense", "sparse", "tokens"; default all that the bundle gives.
            kind: "query" or "document", for their prompts and what else the model does to them; default "encode".
            prompt_name, prompt, batch_size, show_progress_bar, on_overflow: as `SparseEncoder.encode` takes them.
            max_active_dims: of sparse vectors, keep the so many largest weights.

        Raises:
            InputError: a text cannot be embedded; `.index` says which.
            OptionError: an option is unknown or does not fit, or the bundle does not give an output.
            NonFiniteError: hidden states came out with NaN or infinity.
        """
        done, chosen = self._given(inputs, outputs, dict(options))
        warn_of_cut(done)
        return self.finish(done, chosen)

    def encode_detailed(
        self, inputs: Texts, *, outputs: Sequence[Output] | None = None, **options: Unpack[ModelKwargs]
    ) -> Outputs:
        """As `encode`, without a warning of texts that are cut: `truncated` has them."""
        return self.finish(*self._given(inputs, outputs, dict(options)))

    def _given(
        self, inputs: Texts, outputs: Sequence[Output] | None, given: dict[str, Any]
    ) -> tuple[Given, OutputOptions]:
        chosen = self.resolve(outputs, **given)
        return self._run(inputs, chosen), chosen

    def encode_stream(
        self,
        texts: Iterable[str],
        *,
        outputs: Sequence[Output] | None = None,
        block_size: int = 1024,
        on_error: Literal["raise", "skip"] = "raise",
        **options: Unpack[ModelKwargs],
    ) -> Iterator[EncodedBlock]:
        """Embed an iterable block by block, in its order, in bounded memory, as `Embedder.encode_stream` does.

        Args:
            texts: strings; read in the calling thread, one block ahead.
            outputs, options: as `encode` takes them.
            block_size: texts read per block.
            on_error: "raise", or "skip" to leave out texts that cannot be embedded; the block says why of each.

        Yields:
            EncodedBlock: whose `embeddings` are `Outputs`.
        """
        chosen = self.resolve(outputs, **options)
        if on_error not in ("raise", "skip"):
            raise OptionError(f"on_error must be raise or skip, not {on_error!r}")
        skip, size = on_error == "skip", whole_number("block_size", block_size) or 1
        blocks = stream_blocks(
            read_blocks(several_texts(texts), size, skip),
            lambda windows: self._windows(windows, chosen, skip=skip),
            lambda _: {},
            lambda rows: rows,  # type: ignore[arg-type, return-value]  # joined below, with their numbers of tokens
            self._limit(chosen),
        )
        for block in blocks:
            given = Given(block.embeddings, block.num_tokens, block.truncated)  # type: ignore[arg-type]
            yield replace(block, embeddings=self.finish(given, chosen))  # type: ignore[arg-type]

    def encode_query(self, inputs: Texts, **options: Any) -> Outputs:
        """As `encode` with kind="query"."""
        return self.encode(inputs, **{**options, "kind": "query"})

    def encode_document(self, inputs: Texts, **options: Any) -> Outputs:
        """As `encode` with kind="document"."""
        return self.encode(inputs, **{**options, "kind": "document"})

    def score(self, queries: Outputs, documents: Outputs, *, weights: dict[Output, float] | None = None) -> Floats:
        """Scores (N, M): the mean of those of each output, by weight.

        Dense vectors and sparse ones score by their dot product, tokens by MeanMaxSim, as FlagEmbedding's
        `compute_score` has it.

        Args:
            queries, documents: of `encode`.
            weights: name -> weight, of some outputs; default `WEIGHTS` for those that both have.

        Raises:
            OptionError: an output with a weight is missing on a side, or the weights are none.
        """
        both = [name for name in WEIGHTS if getattr(queries, name) is not None and getattr(documents, name) is not None]
        chosen = {name: WEIGHTS[name] for name in both} if weights is None else weights
        for name, weight in chosen.items():
            if name not in WEIGHTS or not weight >= 0:
                raise OptionError(f"weights are of {', '.join(WEIGHTS)} and not under 0, not {name}: {weight}")
            if weight and name not in both:
                raise OptionError(
                    f"both sides must have {name} to be scored by it: encode(..., outputs=(..., {name!r}))"
                )
        total = sum(chosen.values())
        if not total > 0:
            raise OptionError("there is nothing to score by: all weights are 0, or the sides have no output in common")
        scores = [
            np.float32(weight / total) * _score(name, queries, documents) for name, weight in chosen.items() if weight
        ]
        return np.asarray(np.sum(scores, axis=0), np.float32)

    def resolve(
        self,
        outputs: Sequence[Output] | None = None,
        *,
        kind: Kind = "encode",
        max_active_dims: int | None = None,
        **given: Any,
    ) -> OutputOptions:
        """What a call with these options would do, checked once."""
        asked = self.outputs if outputs is None else tuple(dict.fromkeys(outputs))
        for name in asked:
            if name not in self.outputs:
                raise OptionError(f"outputs of this bundle are {', '.join(self.outputs) or 'none'}, not {name!r}")
        if not asked:
            raise OptionError("no outputs were asked for, or the bundle embeds no texts")
        limit = whole_number("max_active_dims", max_active_dims)
        sparse = self.bundle.manifest.sparse
        if limit is None and sparse is not None:
            limit = sparse.max_active_dims
        return replace(self._resolve(given, kind, asked), max_active_dims=limit)

    def tokenizer_for(self, options: OutputOptions) -> TextTokenizer:
        """What tokenizes the texts of a call, with its limit, for `embed_tokens`.

        Its limit has room for special tokens also where a table is read, which passes them over.
        """
        if self.reads_table(options):
            return self.tokenizer.limited(self._limit(options) + len(self.tokenizer.with_special([])))
        return self._runners[options.kind].tokenizer

    def num_tokens(self, ids: NDArray[np.int32], options: OutputOptions) -> int:
        """Tokens that are read of a text that is tokenized, with those that stand behind a short query."""
        return len(ids) if self.reads_table(options) else self._runners[options.kind].num_tokens(ids)

    def embed_tokens(self, token_ids: Sequence[NDArray[np.int32]], options: OutputOptions) -> list[TextOutputs]:
        """One run of the executor over texts that are tokenized already: prompt and special tokens in, cut to fit.

        Returns:
            Of each text, what `options.outputs` asks for; `is_finite` is not checked.

        Raises:
            InputError: a table is read, and has no weight for a token.
        """
        if self.reads_table(options):
            bare = [self.tokenizer.without_special(ids.tolist()) for ids in token_ids]
            return [self._from_table(ids, k, options) for k, ids in enumerate(bare)]
        found: list[TextOutputs] = self._runners[options.kind].run_group(token_ids, options)
        return found

    def check_table(self, ids: NDArray[np.int32], index: int | None = None) -> None:
        """Refuse a tokenized text that the table of queries has no weights for: InputError."""
        self._from_table(self.tokenizer.without_special(ids.tolist()), index, OutputOptions(prompt=""))

    def identity_for(self, options: OutputOptions) -> str:
        """The identity of what `encode` gives with `options`."""
        return self._identity(options)

    def finish(self, done: Given, options: OutputOptions) -> Outputs:
        """Texts' outputs, joined."""
        dense = [row.dense for row in done.rows if row.dense is not None]
        sparse = [row.sparse for row in done.rows if row.sparse is not None]
        tokens = [row.tokens for row in done.rows if row.tokens is not None]
        has = options.outputs
        manifest = self.bundle.manifest
        width = manifest.pipeline.dimension if manifest.pipeline else 0
        return Outputs(
            np.concatenate(dense).reshape(len(dense), -1) if dense else _none("dense" in has, width),
            SparseVectors.of(sparse, manifest.sparse.dimension) if manifest.sparse and "sparse" in has else None,
            apart(tokens) if "tokens" in has else None,
            done.num_tokens,
            done.truncated,
            self._identity(options),
        )


def _none(asked: bool, width: int) -> Floats | None:
    return np.empty((0, width), np.float32) if asked else None


def _score(name: Output, queries: Outputs, documents: Outputs) -> Floats:
    if name == "tokens":
        return maxsim(queries.tokens, documents.tokens, mean=True)
    if name == "sparse":
        assert queries.sparse is not None
        assert documents.sparse is not None
        return dot_products(queries.sparse, documents.sparse)
    assert queries.dense is not None
    assert documents.dense is not None
    return np.asarray(queries.dense @ documents.dense.T, np.float32)
