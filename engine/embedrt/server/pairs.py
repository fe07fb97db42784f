"""A reranker at work: pairs of texts in place of texts, and scores in place of vectors."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.batching import BatchLimits
from embedrt.bundle import Bundle
from embedrt.errors import ExecutorError, InputError, OptionError, TokenLimitError
from embedrt.options import EncodeOptions, Kind
from embedrt.pairs import PairCut, PairIds, PairOrText
from embedrt.parity.pairs import read_pairs
from embedrt.reranker import Reranker
from embedrt.scoring import ScoreOptions
from embedrt.server.inference import Inference
from embedrt.server.pool import Pool
from embedrt.server.prepare import Prepared, Work
from embedrt.server.sizes import Size, size_of_rows
from embedrt.text_checks import check_text
from embedrt.tokenization import TextTokenizer

_SLICE_PAIRS = 64  # tokenized at once: a few milliseconds
_SCORE_BYTES = 40.0  # of an answer, per score, its label or index beside it
_SLACK = 1e-3  # of a logit, beyond what the variant differed by when the bundle was made


@dataclass(frozen=True)
class PairModel:
    """A reranker under the names by which an engine knows an embedder."""

    reranker: Reranker
    takes_pictures = False
    pooling = ()

    @property
    def bundle(self) -> Bundle:
        """What was opened."""
        return self.reranker.bundle

    @property
    def tokenizer(self) -> TextTokenizer:
        """Of single texts."""
        return self.reranker.tokenizer.texts

    @property
    def variant(self) -> str:
        """The variant that runs."""
        return self.reranker.variant

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.reranker.device

    @property
    def dimension(self) -> int:
        """Scores per pair."""
        return self.reranker.num_labels

    @property
    def max_tokens(self) -> int:
        """Tokens of a pair."""
        return self.reranker.max_tokens

    @property
    def identity(self) -> str:
        """Of scores without options."""
        return self.reranker.identity

    def resolve(self, *, kind: Kind = "encode", prompt_name: str | None = None) -> EncodeOptions:
        """Of texts that are only tokenized.

        Raises:
            OptionError: a prompt is named; these go before pairs.
        """
        del kind
        if prompt_name is not None:
            raise OptionError("prompt_name goes with embedding models; this one scores pairs of texts")
        return EncodeOptions(prompt="")

    def identify(self, *, kind: Kind = "encode", on_overflow: str = "truncate") -> str:
        """`identity`: pairs are of one kind, and cut or refused."""
        del kind, on_overflow
        return self.identity

    @property
    def executor_description(self) -> str:
        """What runs the encoder."""
        return self.reranker.executor_description

    @property
    def executor_reason(self) -> str:
        """Why it is this executor."""
        return self.reranker.executor_reason

    @property
    def batch_limits(self) -> BatchLimits:
        """What one run of the executor may hold."""
        return self.reranker.batch_limits

    def identity_for(self, options: EncodeOptions) -> str:
        """Of what is answered: logits, which a request may ask for through an activation."""
        return self.reranker.identify(prompt=options.prompt)

    def embed_tokens(self, pairs: Sequence[Any], options: EncodeOptions) -> list[NDArray[np.float32]]:
        """Logits (L,) of each pair."""
        del options
        return list(self.reranker.score_tokens(pairs))

    def scores(self, logits: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
        """Logits (N, L) as an activation has them."""
        return self.reranker.finish(logits, ScoreOptions(activation=activation))

    def close(self) -> None:
        """Free the model."""
        self.reranker.close()


class Scores(Inference):
    """Logits of pairs; `Work.inputs` are pairs.

    Args:
        model: what gives them.
    """

    def __init__(self, model: PairModel) -> None:
        self.model = model

    async def prepare(self, pool: Pool, work: Work) -> Prepared:
        """Token ids of the request's pairs, equal ones once, tokenized in slices.

        Raises:
            InputError: a pair does not fit, or is too long and not to be cut.
        """
        started = time.monotonic()
        given: Sequence[Any] = work.inputs
        places = {pair: k for k, pair in enumerate(dict.fromkeys(given))}
        different = list(places)
        found: list[PairIds] = []
        try:
            for k in range(0, len(different), _SLICE_PAIRS):
                part = different[k : k + _SLICE_PAIRS]
                found += await pool.run(work.client, self._tokenize, part, work)
        except InputError as exc:  # its index is of the slice
            at = exc.index if exc.index is None else given.index(part[exc.index])
            raise type(exc)(exc.reason, index=at) from exc
        row_of = [places[pair] for pair in given]
        seconds = time.monotonic() - started
        return Prepared(found, row_of, [found[row].num_tokens for row in row_of], seconds)  # type: ignore[arg-type]

    def _tokenize(self, pairs: Sequence[PairOrText], work: Work) -> list[PairIds]:
        tokenizer = self.model.reranker.tokenizer
        checked = [
            (check_text(one, k), None if two is None else check_text(two, k)) for k, (one, two) in enumerate(pairs)
        ]
        cut = PairCut(work.keep_end, work.document_tokens)
        found: list[PairIds] = tokenizer(checked, work.options.prompt, cut)
        for k, pair in enumerate(found):
            if not work.truncate and pair.num_tokens > tokenizer.max_tokens:
                raise TokenLimitError(f"has {pair.num_tokens} tokens, the model takes {tokenizer.max_tokens}", index=k)
            tokenizer.texts.check(pair.ids, k)
        return found

    def size(self, prepared: Prepared, work: Work, number_bytes: float) -> Size:
        """What the request becomes when it is run and answered."""
        del work, number_bytes
        width = self.model.dimension
        lengths = [len(pair) for pair in prepared.token_ids]
        return size_of_rows(lengths, prepared.row_of, width, written=width, each=_SCORE_BYTES)

    def limit(self, options: EncodeOptions) -> int:
        """Of a pair."""
        del options
        return self.model.max_tokens

    def identity(self, options: EncodeOptions) -> str:
        """Of the scores."""
        return self.model.identity_for(options)

    def lane(self, options: EncodeOptions) -> Hashable:
        """Logits of all pairs may share a run."""
        del options
        return None

    def embed(self, token_ids: Sequence[Any], options: EncodeOptions) -> list[Any]:
        """Logits (L,) of each pair."""
        return self.model.embed_tokens(token_ids, options)


def warm_up_pairs(model: PairModel, batch_tokens: int) -> None:
    """Score a few of the bundle's parity pairs and compare with the logits it keeps; then run one full batch.

    Raises:
        ExecutorError: a logit is not what it was when the bundle was made.
    """
    pairs, kept = read_pairs(model.bundle)
    found = model.reranker.predict_detailed(pairs[:4], activation_fn="identity").scores.reshape(len(pairs[:4]), -1)
    parity = model.bundle.variant(model.variant).outputs.get("scores")
    # by default another executor may run than the one that the manifest's figures are of
    most = 2 * parity.figures["max_abs_diff"] + _SLACK if parity is not None else 1.0
    worst = float(np.abs(found - kept[:4]).max())
    if not worst <= most:
        raise ExecutorError(
            f"{model.bundle.manifest.name} {model.variant}: warm-up pairs have logits that differ by {worst:.6f} from "
            f"those that the bundle keeps, at most {most:.6f} is wanted; run 'embedrt verify {model.bundle.root}'"
        )
    width = min(model.max_tokens, batch_tokens)
    full = PairIds(np.zeros(width, np.int32), width, width)
    model.reranker.score_tokens([full] * max(1, batch_tokens // width))
