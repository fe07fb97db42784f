"""A vector for each token: the door for ColBERT and its kin, under sentence-transformers' names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError
from embedrt.heads import TokenHead
from embedrt.inputs import Texts, checked_texts
from embedrt.maxsim import MEAN_MAXSIM, maxsim, maxsim_pairwise
from embedrt.options import Kind, flag, whole_number
from embedrt.output_model import OutputModel, warn_of_cut
from embedrt.outputs import Output, OutputKwargs, OutputOptions
from embedrt.precision import signs
from embedrt.shaping import apart
from embedrt.tensors import as_tensor, torch_if_imported

Floats = NDArray[np.float32]
Rows = np.ndarray[tuple[int, int], np.dtype[np.float32]]  # (n, D)


class TokenKwargs(OutputKwargs, total=False):
    """The options of `MultiVectorEncoder.encode`."""

    truncate_dim: int | None
    normalize_embeddings: bool
    precision: Literal["float32", "float16", "binary", "ubinary"] | None
    task: Literal["query", "document"] | None
    output_value: Literal["token_embeddings"]
    convert_to_numpy: bool
    convert_to_tensor: bool


_OWN = tuple(name for name in TokenKwargs.__annotations__ if name not in OutputKwargs.__annotations__)
_PRECISIONS = ("float32", "float16", "binary", "ubinary")


class Ranked(TypedDict, total=False):
    """A document's place in a ranking."""

    corpus_id: int
    score: float
    text: str


class MultiVectorEncoder(OutputModel):
    """Texts to a vector for each of their tokens, compared by MaxSim: ColBERT, BGE-M3's vectors of tokens.

    Names are those of sentence_transformers.MultiVectorEncoder. It does not change after it is made.

    Args:
        bundle: directory that `embedrt export` made, or a name; see `embedrt.open_bundle`.
        variant, device, executor, isa, num_threads, packed_cache, verify_hashes: as `Embedder` takes them.
        max_tokens, prompts, default_prompt_name: as `with_options` takes them.

    Raises:
        OptionError: the bundle gives no vectors of tokens, or an argument does not fit.
        BundleError, DependencyError, ExecutorError: as `Embedder` says.
    """

    _wanted: ClassVar[Output | None] = "tokens"

    @property
    def _head(self) -> TokenHead:
        head = self.bundle.manifest.tokens
        assert head is not None
        return head

    @property
    def dimension(self) -> int:
        """Of a token's vector, D."""
        return self._head.dimension

    def get_embedding_dimension(self) -> int:
        """`dimension`."""
        return self.dimension

    @property
    def similarity_fn_name(self) -> str:
        """What `similarity` computes: "maxsim" or "meanmaxsim"."""
        return self._head.similarity

    @overload
    def encode(self, inputs: str, **options: Unpack[TokenKwargs]) -> Rows: ...  # type: ignore[overload-overlap]
    @overload
    def encode(self, inputs: Iterable[str], **options: Unpack[TokenKwargs]) -> list[Rows]: ...
    def encode(self, inputs: Texts, **options: Unpack[TokenKwargs]) -> Any:
        """Vectors of the tokens of one text or several. Queries and documents want their own methods.

        Args:
            inputs: a string, or an iterable of strings.
            prompt_name: which of the bundle's prompts to put before every text.
            prompt: a text to put before every text; wins over `prompt_name`.
            batch_size: at most so many texts in one run (a token budget decides as well).
            show_progress_bar: a bar on stderr.
            truncate_dim: keep the first so many dimensions; normalized vectors are normalized again.
            normalize_embeddings: L2-normalize even where the model's own pipeline does not.
            precision: "float32", "float16", or the signs in bits, "binary" and "ubinary", 8 dimensions a byte.
            task: "query" or "document", for what `encode_query` and `encode_document` do but for their prompts.
            on_overflow: "truncate" cuts texts over the limit and warns once per call; "error" refuses them.
            convert_to_tensor: torch tensors, where torch is imported already; so does convert_to_numpy=False.
            output_value: "token_embeddings".
            device, pool, chunk_size: sentence-transformers'; taken where they say what is so anyway.

        Returns:
            (n, D) for a string, a list of these for several; n is the text's tokens but for those without a vector.

        Raises:
            InputError: a text cannot be embedded; `.index` says which.
            OptionError: an option is unknown or does not fit.
            NonFiniteError: hidden states came out with NaN or infinity.
        """
        task = options.get("task")
        if task not in ("query", "document", None):
            raise OptionError(f"task must be query or document, not {task!r}")
        chosen = self._token_options(options, "encode")
        return self._encode(inputs, chosen if task is None else replace(chosen, kind=task), options)

    @overload
    def encode_query(self, inputs: str, **options: Unpack[TokenKwargs]) -> Rows: ...  # type: ignore[overload-overlap]
    @overload
    def encode_query(self, inputs: Iterable[str], **options: Unpack[TokenKwargs]) -> list[Rows]: ...
    def encode_query(self, inputs: Texts, **options: Unpack[TokenKwargs]) -> Any:
        """As `encode`, with the query prompt (or marker) and the tokens that the model puts behind short queries."""
        return self._encode(inputs, self._token_options(options, "query"), options)

    @overload
    def encode_document(self, inputs: str, **options: Unpack[TokenKwargs]) -> Rows: ...  # type: ignore[overload-overlap]
    @overload
    def encode_document(self, inputs: Iterable[str], **options: Unpack[TokenKwargs]) -> list[Rows]: ...
    def encode_document(self, inputs: Texts, **options: Unpack[TokenKwargs]) -> Any:
        """As `encode`, with the document prompt (or marker), and without the tokens that the model passes over."""
        return self._encode(inputs, self._token_options(options, "document"), options)

    def identify(self, *, kind: Kind = "encode", **options: Unpack[TokenKwargs]) -> str:
        """Short hash over everything that decides the vectors, as `Embedder.identify`."""
        return self._identity(self._token_options(options, kind))

    def similarity(self, queries: Any, documents: Any) -> Floats:
        """Scores (N, M) of queries with documents, lists of arrays (n, D); see `embedrt.maxsim.maxsim`."""
        return maxsim(queries, documents, mean=self.similarity_fn_name == MEAN_MAXSIM)

    def similarity_pairwise(self, queries: Any, documents: Any) -> Floats:
        """Scores (N,) of query i with document i."""
        return maxsim_pairwise(queries, documents, mean=self.similarity_fn_name == MEAN_MAXSIM)

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[TokenKwargs],
    ) -> list[Ranked]:
        """Documents by their score with the query, the best first; those of one score in their order.

        Args:
            query: a string.
            documents: strings.
            top_k: at most so many.
            return_documents: with each one's text.
            options: as `encode` takes them, for both.

        Raises:
            InputError: a text cannot be embedded.
        """
        count = whole_number("top_k", top_k)
        texts: Sequence[str] = checked_texts(documents)
        found = self.encode_document(texts, **options)
        (scores,) = self.similarity(self.encode_query([query], **options), found) if texts else ([],)
        order = np.argsort(-np.asarray(scores), kind="stable")[:count].tolist()
        ranked = [Ranked(corpus_id=i, score=float(scores[i])) for i in order]
        if return_documents:
            for one in ranked:
                one["text"] = texts[one["corpus_id"]]
        return ranked

    def _token_options(self, given: Any, kind: Kind) -> OutputOptions:
        options = self._resolve(given, kind, ("tokens",), _OWN)
        if given.get("output_value", "token_embeddings") != "token_embeddings":
            raise OptionError("output_value must be token_embeddings; a text has no other vectors here")
        precision = given.get("precision") or "float32"
        if precision not in _PRECISIONS:
            raise OptionError(f"precision must be one of {', '.join(_PRECISIONS)}, not {precision!r}")
        cut = whole_number("truncate_dim", given.get("truncate_dim"))
        if cut is not None and cut > self.dimension:
            raise OptionError(f"truncate_dim={cut} is more than the vectors' {self.dimension} dimensions")
        normalize = flag("normalize_embeddings", given.get("normalize_embeddings"))
        return replace(options, truncate_dim=cut, normalize_embeddings=normalize, precision=precision)

    def _encode(self, inputs: Texts, options: OutputOptions, given: Any) -> Any:
        as_tensors = flag("convert_to_tensor", given.get("convert_to_tensor")) or not flag(
            "convert_to_numpy", given.get("convert_to_numpy", True)
        )
        if as_tensors and torch_if_imported() is None:
            raise OptionError("tensors are made where torch is imported before the call")
        done = self._run(inputs, options)
        warn_of_cut(done)
        rows = apart([_shaped(row.tokens, options.precision) for row in done.rows if row.tokens is not None])
        found = [as_tensor(row) for row in rows] if as_tensors else rows
        return found[0] if isinstance(inputs, str) else found


def _shaped(rows: Floats, precision: str) -> NDArray[Any]:
    """In another precision."""
    if precision == "float32":
        return rows
    if precision == "float16":
        return rows.astype(np.float16)
    return signs(rows, precision)
