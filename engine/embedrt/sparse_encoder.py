"""Sparse vectors: the door for SPLADE and its kin, under sentence-transformers' names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError
from embedrt.heads import SparseHead
from embedrt.inputs import Texts
from embedrt.options import Kind, flag, whole_number
from embedrt.output_model import OutputModel, warn_of_cut
from embedrt.outputs import Output, OutputKwargs, OutputOptions
from embedrt.sparse_vectors import SparseVector, SparseVectors, as_rows, check_dimensions, dot_products, norms

Floats = NDArray[np.float32]


class SparseKwargs(OutputKwargs, total=False):
    """The options of `SparseEncoder.encode`."""

    max_active_dims: int | None


class TensorKwargs(SparseKwargs, total=False):
    """With those for torch's tensors."""

    convert_to_tensor: bool
    convert_to_sparse_tensor: bool
    save_to_cpu: bool  # accepted: everything is there


_OWN = ("max_active_dims", "convert_to_tensor", "convert_to_sparse_tensor", "save_to_cpu")


class SparseEncoder(OutputModel):
    """Texts to sparse vectors, as wide as the model's vocabulary: SPLADE, inference-free SPLADE, BGE-M3's weights.

    Names are those of sentence_transformers.SparseEncoder. It does not change after it is made.

    Args:
        bundle: directory that `embedrt export` made, or a name; see `embedrt.open_bundle`.
        variant, device, executor, isa, num_threads, packed_cache, verify_hashes: as `Embedder` takes them.
        max_tokens, prompts, default_prompt_name: as `with_options` takes them.

    Raises:
        OptionError: the bundle gives no sparse vectors, or an argument does not fit.
        BundleError, DependencyError, ExecutorError: as `Embedder` says.
    """

    _wanted: ClassVar[Output | None] = "sparse"

    @property
    def _head(self) -> SparseHead:
        head = self.bundle.manifest.sparse
        assert head is not None
        return head

    @property
    def dimension(self) -> int:
        """Words of the vocabulary, V."""
        return self._head.dimension

    def get_embedding_dimension(self) -> int:
        """`dimension`."""
        return self.dimension

    def get_sentence_embedding_dimension(self) -> int:
        """`dimension`."""
        return self.dimension

    @property
    def max_active_dims(self) -> int | None:
        """The most weights that a text has, where a call says nothing; None: all."""
        return self._head.max_active_dims

    @property
    def similarity_fn_name(self) -> str:
        """What `similarity` computes: "dot", "cosine", "euclidean" or "manhattan"."""
        return self._head.similarity

    @overload
    def encode(self, inputs: str, **options: Unpack[SparseKwargs]) -> SparseVector: ...  # type: ignore[overload-overlap]
    @overload
    def encode(self, inputs: Iterable[str], **options: Unpack[SparseKwargs]) -> SparseVectors: ...
    @overload
    def encode(self, inputs: Texts, **options: Unpack[TensorKwargs]) -> Any: ...
    def encode(self, inputs: Texts, **options: Unpack[TensorKwargs]) -> Any:
        """Sparse vectors of one text or several.

        Args:
            inputs: a string, or an iterable of strings.
            prompt_name: which of the bundle's prompts to put before every text.
            prompt: a text to put before every text; wins over `prompt_name`.
            batch_size: at most so many texts in one run (a token budget decides as well).
            show_progress_bar: a bar on stderr.
            max_active_dims: keep the so many largest weights of a text; default the model's own limit, if it has one.
            on_overflow: "truncate" cuts texts over `max_tokens` and warns once per call; "error" refuses them.
            convert_to_tensor: a torch sparse tensor, where torch is imported already.
            convert_to_sparse_tensor: False is a dense tensor.
            device, pool, chunk_size, save_to_cpu: sentence-transformers'; taken where they say what is so anyway.

        Returns:
            SparseVector for a string, SparseVectors for several: indices and values of what is not zero.

        Raises:
            InputError: a text cannot be embedded; `.index` says which.
            OptionError: an option is unknown or does not fit.
            NonFiniteError: hidden states came out with NaN or infinity.
        """
        return self._encode(inputs, "encode", options)

    @overload
    def encode_query(self, inputs: str, **options: Unpack[SparseKwargs]) -> SparseVector: ...  # type: ignore[overload-overlap]
    @overload
    def encode_query(self, inputs: Iterable[str], **options: Unpack[SparseKwargs]) -> SparseVectors: ...
    @overload
    def encode_query(self, inputs: Texts, **options: Unpack[TensorKwargs]) -> Any: ...
    def encode_query(self, inputs: Texts, **options: Unpack[TensorKwargs]) -> Any:
        """As `encode`, with the query prompt if there is one, and by the table of weights if the model has one."""
        return self._encode(inputs, "query", options)

    @overload
    def encode_document(self, inputs: str, **options: Unpack[SparseKwargs]) -> SparseVector: ...  # type: ignore[overload-overlap]
    @overload
    def encode_document(self, inputs: Iterable[str], **options: Unpack[SparseKwargs]) -> SparseVectors: ...
    @overload
    def encode_document(self, inputs: Texts, **options: Unpack[TensorKwargs]) -> Any: ...
    def encode_document(self, inputs: Texts, **options: Unpack[TensorKwargs]) -> Any:
        """As `encode`, with the document prompt if there is one."""
        return self._encode(inputs, "document", options)

    def identify(self, *, kind: Kind = "encode", **options: Unpack[SparseKwargs]) -> str:
        """Short hash over everything that decides a vector, as `Embedder.identify`."""
        return self._identity(self._sparse_options(options, kind))

    def similarity(self, a: object, b: object) -> Floats:
        """Similarities (N, M) of sparse vectors, by the model's own function; float32.

        Raises:
            OptionError: they are no sparse vectors, or of another vocabulary.
        """
        first, second = as_rows(a), as_rows(b)
        products: Floats = dot_products(first, second)
        name = self.similarity_fn_name
        if name == "dot":
            return products
        left, right = norms(first)[:, None], norms(second)[None]
        if name == "cosine":
            return np.asarray(products / np.maximum(left * right, np.float32(1e-12)))
        if name == "euclidean":
            return np.asarray(-np.sqrt(np.maximum(left * left + right * right - 2 * products, 0)))
        return -np.array([[_manhattan(x, y) for y in second] for x in first], np.float32).reshape(products.shape)

    def similarity_pairwise(self, a: object, b: object) -> Floats:
        """Similarities (N,) of row i of `a` with row i of `b`; as `similarity` gives them."""
        first, second = as_rows(a), as_rows(b)
        if len(first) != len(second):
            raise OptionError(f"{len(first)} and {len(second)} vectors cannot be compared in pairs")
        return np.array([self.similarity(x, y)[0, 0] for x, y in zip(first, second, strict=True)], np.float32)

    def decode(self, embeddings: object, top_k: int | None = None) -> Any:
        """Words and weights, the largest first: [(token, weight)] of a vector, a list of these of several.

        Tokens are spelled as the vocabulary has them.
        """
        limit = whole_number("top_k", top_k)
        rows = [self._decoded(row, limit) for row in as_rows(embeddings)]
        return rows[0] if isinstance(embeddings, SparseVector) else rows

    def _decoded(self, row: SparseVector, limit: int | None) -> list[tuple[str, float]]:
        order = np.argsort(-row.values, kind="stable")[:limit]
        words = self.tokenizer.spell(row.indices[order].tolist())
        return list(zip(words, row.values[order].tolist(), strict=True))

    @staticmethod
    def sparsity(embeddings: object) -> dict[str, float]:
        """Of the vectors: "active_dims", the mean number of weights, and "sparsity_ratio", the share without one."""
        rows = as_rows(embeddings)
        if not len(rows) or not rows.dimension:
            return {"active_dims": 0.0, "sparsity_ratio": 1.0}
        active = len(rows.indices) / len(rows)
        return {"active_dims": active, "sparsity_ratio": 1 - active / rows.dimension}

    @staticmethod
    def intersection(a: SparseVector, b: SparseVector | SparseVectors) -> Any:
        """Products of the weights that both have: why `a` and `b` are alike. As many vectors as `b` has."""
        others = as_rows(b)
        check_dimensions(as_rows(a), others)
        found = [_shared(a, row) for row in others]
        return found[0] if isinstance(b, SparseVector) else SparseVectors.of(found, a.dimension)

    def _sparse_options(self, given: Any, kind: Kind) -> OutputOptions:
        limit = whole_number("max_active_dims", given.get("max_active_dims"))
        options = self._resolve(given, kind, ("sparse",), _OWN)
        return replace(options, max_active_dims=self.max_active_dims if limit is None else limit)

    def _encode(self, inputs: Texts, kind: Kind, given: Any) -> Any:
        done = self._run(inputs, self._sparse_options(given, kind))
        warn_of_cut(done)
        rows = [row.sparse for row in done.rows if row.sparse is not None]
        if flag("convert_to_tensor", given.get("convert_to_tensor")):
            tensor = SparseVectors.of(rows, self.dimension).to_torch()
            sparse = flag("convert_to_sparse_tensor", given.get("convert_to_sparse_tensor", True))
            tensor = tensor if sparse else tensor.to_dense()
            return tensor[0] if isinstance(inputs, str) else tensor
        return rows[0] if isinstance(inputs, str) else SparseVectors.of(rows, self.dimension)


def _shared(a: SparseVector, b: SparseVector) -> SparseVector:
    indices, left, right = np.intersect1d(a.indices, b.indices, assume_unique=True, return_indices=True)
    values = a.values[left] * b.values[right]
    kept = values > 0
    return SparseVector(indices[kept].astype(np.int32), values[kept], a.dimension)


def _manhattan(a: SparseVector, b: SparseVector) -> float:
    return float(np.abs(a.to_dense() - b.to_dense()).sum())
