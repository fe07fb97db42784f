"""The sentence: tokenize -> plan -> execute -> pool -> normalize -> restore order."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

import numpy as np
from numpy.typing import NDArray

from embedrt.batching import BatchLimits
from embedrt.bundle import PARITY_VECTORS, Bundle, open_bundle
from embedrt.errors import OptionError
from embedrt.executors import Executor
from embedrt.executors.choice import check_executor, choose_variant, load_executor
from embedrt.executors.onnxruntime import choose_device
from embedrt.inputs import Texts, checked_texts, distinct_windows, given_texts, several_texts
from embedrt.loading import load_beside
from embedrt.machine import available_threads
from embedrt.options import EncodeKwargs, EncodeOptions, Kind, identity_of, parse_options, whole_number
from embedrt.pooling import l2_normalize, load_head, parse_pooling
from embedrt.precision import quantize
from embedrt.progress import progress_bar
from embedrt.results import EncodedBlock, EncodeResult, TruncationWarning, truncation_message, truncations
from embedrt.similarity import SIMILARITIES, comparable, pairwise
from embedrt.streaming import read_blocks, stream_blocks
from embedrt.tokenization import TextTokenizer
from embedrt.windows import WindowRunner

# Texts are sorted by length a window at a time, and the next window is tokenized while this one runs.
_WINDOW_TEXTS = 2048

_RENAMED = {
    "get_sentence_embedding_dimension": "dimension",
    "get_embedding_dimension": "dimension",
    "max_seq_length": "max_tokens",
    "get_max_seq_length": "max_tokens",
    "prompts": "bundle.manifest.prompts",
    "default_prompt_name": "bundle.manifest.prompts.default_name",
    "similarity_fn_name": "bundle.manifest.similarity",
    "encode_multi_process": "encode, or encode_stream: one process uses every core",
}
"""Names of sentence-transformers -> ours, for the error of who looks for one."""


class Embedder:
    """Embeds texts with one variant of a bundle. Several threads may use one embedder at once.

    Args:
        bundle: directory that `embedrt export` made.
        variant: "fp32", "fp16", "int8", "bf16" (fp32's or fp16's weights rounded as they are loaded; CPUs with
            AVX512-BF16 only), or "auto": on CPUs int8 where the bundle has it, on CUDA fp16.
        device: "cpu", "cuda", or "auto": CUDA where this onnxruntime has it.
        executor: "native", "onnxruntime", or "auto": native where it runs the variant here, else ONNX Runtime.
        isa: instruction set of the native executor; "auto" is the best that this machine has.
        num_threads: threads of the executor; default what CPU affinity and cgroup quota allow.
        pooling: another pooling than the bundle's, e.g. "cls"; several joined by "+". Part of the identity.
        packed_cache: keep what the native executor packs in a file: True for the bundle's folder `.packed`, or the
            path of another folder, which several bundles may share. Later loads are faster, and processes share the
            memory. Where it cannot be written, weights are packed as ever.
        verify_hashes: compare each file that is used with its sha256; False checks sizes only and loads faster.

    Raises:
        BundleError: the bundle cannot be used; the message says why.
        OptionError: an argument does not fit.
        DependencyError: the device needs another build of onnxruntime, or the executor asked for is not installed.
        ExecutorError: the executor cannot load the variant; UnsupportedByNativeError says why native does not run it.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        *,
        variant: str = "auto",
        device: str = "auto",
        executor: str = "auto",
        isa: str = "auto",
        num_threads: int | None = None,
        pooling: str | None = None,
        packed_cache: bool | str | Path = False,
        verify_hashes: bool = True,
    ) -> None:
        num_threads = whole_number("num_threads", num_threads)
        self.bundle = _opened(bundle)
        check_executor(executor)
        self.device = "cpu" if executor == "native" and device == "auto" else choose_device(device)
        self.variant = choose_variant(self.bundle, variant, self.device)
        self.num_threads = num_threads if num_threads is not None else available_threads()
        manifest = self.bundle.manifest
        self.pooling = manifest.pipeline.pooling if pooling is None else parse_pooling(pooling)
        self._head = load_head(self.bundle, replace(manifest.pipeline, pooling=self.pooling))
        load = partial(
            load_executor,
            self.bundle,
            self.variant,
            device=self.device,
            num_threads=self.num_threads,
            executor=executor,
            isa=isa,
            packed_cache=packed_cache if isinstance(packed_cache, bool) else Path(packed_cache),
            check_packed=verify_hashes,
        )
        self._tokenizer, chosen = load_beside(self.bundle, self.variant, load, verify_hashes=verify_hashes)
        self._executor: Executor = chosen.executor
        self.executor = chosen.name  # "native" or "onnxruntime"
        self.executor_reason = chosen.reason
        self._runner = WindowRunner(
            tokenizer=self._tokenizer,
            executor=self._executor,
            head=self._head,
            pooling=self.pooling,
            include_prompt=manifest.pipeline.include_prompt,
            variant=self.variant,
            limits=BatchLimits(pads=self._executor.pads),
        )

    @property
    def max_tokens(self) -> int:
        """Tokens that a text may have, prompt and special tokens included; longer ones are cut."""
        return self._tokenizer.max_tokens

    @property
    def dimension(self) -> int:
        """Length of a sentence embedding, before any `truncate_dim`."""
        return self._head.dimension

    @property
    def tokenizer(self) -> TextTokenizer:
        """The bundle's tokenizer."""
        return self._tokenizer

    @property
    def batch_limits(self) -> BatchLimits:
        """What one run of the executor may hold."""
        return self._runner.limits

    @property
    def executor_description(self) -> str:
        """What runs the encoder, where, and on how many threads."""
        return self._executor.description

    @property
    def identity(self) -> str:
        """Identity of what `encode` gives without options; see `identify`."""
        return self.identify()

    def identify(self, *, kind: Kind = "encode", task: str | None = None, **options: Unpack[EncodeKwargs]) -> str:
        """Short hash over everything that decides a vector: model, tokenizer, variant, pooling, prompt, output.

        Vectors of different identities are not to be mixed in one index.

        Args:
            kind: the method meant: "encode", "query" or "document".
            task, options: as that method takes them.
        """
        return identity_of(self.bundle.manifest, self.variant, self.pooling, self._options(options, kind, task))

    def encode(
        self, inputs: Texts | None = None, *, sentences: Texts | None = None, **options: Unpack[EncodeKwargs]
    ) -> Any:
        """Embed one text or several.

        Args:
            inputs: a string or a sequence of strings.
            sentences: the same, by sentence-transformers' older name.
            prompt_name: which of the bundle's prompts to put before every text.
            prompt: a text to put before every text; wins over `prompt_name`.
            batch_size: at most so many texts in one run (a token budget decides as well).
            show_progress_bar: a bar on stderr.
            output_value: "sentence_embedding", or "token_embeddings" for hidden states, float32 (n, H) per text.
            precision: "float32", or "int8", "uint8", "binary", "ubinary" with ranges out of the bundle.
            normalize_embeddings: L2-normalize even where the model's own pipeline does not.
            truncate_dim: keep the first so many dimensions; normalized vectors are normalized again.
            on_overflow: "truncate" cuts texts over `max_tokens` and warns once per call; "error" refuses them.

        Returns:
            float32 (D,) for a string, (N, D) for a sequence, (0, D) for an empty one. Token embeddings are
            (n, H) for a string, a list of them for a sequence.

        Raises:
            InputError: a text cannot be embedded; `.index` says which.
            OptionError: an option is unknown or does not fit.
            NonFiniteError: a vector came out with NaN or infinity.
        """
        return self._encode_warned(given_texts(inputs, sentences), self._options(options, "encode", None))

    def encode_query(
        self,
        inputs: Texts | None = None,
        *,
        sentences: Texts | None = None,
        task: str | None = None,
        **options: Unpack[EncodeKwargs],
    ) -> Any:
        """As `encode`, with the model's query prompt if it has one; `task` fills its `{task}`."""
        return self._encode_warned(given_texts(inputs, sentences), self._options(options, "query", task))

    def encode_document(
        self, inputs: Texts | None = None, *, sentences: Texts | None = None, **options: Unpack[EncodeKwargs]
    ) -> Any:
        """As `encode`, with the model's document prompt if it has one."""
        return self._encode_warned(given_texts(inputs, sentences), self._options(options, "document", None))

    def encode_detailed(
        self,
        inputs: Texts,
        *,
        kind: Kind = "encode",
        task: str | None = None,
        **options: Unpack[EncodeKwargs],
    ) -> EncodeResult:
        """As the method that `kind` names, with tokens per text, the texts cut, and the identity; no warning."""
        return self._encode(inputs, self._options(options, kind, task))

    def encode_stream(
        self,
        texts: Iterable[str],
        *,
        block_size: int = 1024,
        on_error: str = "raise",
        kind: Kind = "encode",
        task: str | None = None,
        **options: Unpack[EncodeKwargs],
    ) -> Iterator[EncodedBlock]:
        """Embed an iterable block by block, in its order, in bounded memory.

        Args:
            texts: strings; read in the calling thread, one block ahead of what is embedded.
            block_size: texts read per block.
            on_error: "raise", or "skip" to leave out texts that cannot be embedded: no strings, lone surrogates, no
                tokens, over the limit with on_overflow="error", a vector with NaN. The block says why of each.
            kind, task, options: as in `encode_detailed`; sentence embeddings only.

        Yields:
            EncodedBlock: with what was cut and what was skipped; no warning.
        """
        chosen = self._options(options, kind, task)
        size = whole_number("block_size", block_size) or 1
        if on_error not in ("raise", "skip"):
            raise OptionError(f"on_error must be raise or skip, not {on_error!r}")
        if chosen.output_value != "sentence_embedding":
            raise OptionError("encode_stream gives sentence embeddings; use encode(output_value='token_embeddings')")
        skip = on_error == "skip"
        return stream_blocks(
            read_blocks(several_texts(texts), size, skip),
            lambda windows: self._runner.run(windows, chosen, skip=skip),
            lambda rows: self._finish(rows, chosen, single=False),
            self.max_tokens,
        )

    def similarity(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
        """Similarities (N, M) of vectors (N, D) and (M, D), by the model's own function; cosine if it names none."""
        return SIMILARITIES[self.bundle.manifest.similarity](*comparable(a, b))

    def similarity_pairwise(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
        """Similarities (N,) of row i of `a` with row i of `b`, both (N, D)."""
        first, second = comparable(a, b)
        if len(first) != len(second):
            raise OptionError(f"{len(first)} and {len(second)} vectors cannot be compared in pairs")
        return pairwise(self.bundle.manifest.similarity, first, second)

    def tokenize(self, texts: Texts) -> list[list[int]]:
        """Token ids of each text, special tokens included, not cut."""
        return self._tokenizer.ids(checked_texts(texts))

    def count_tokens(self, texts: Texts) -> Any:
        """Tokens of each text before cutting, special tokens included: an int for a string, else a list."""
        counts = [len(ids) for ids in self.tokenize(texts)]
        return counts[0] if isinstance(texts, str) else counts

    def resolve(
        self, *, kind: Kind = "encode", task: str | None = None, **options: Unpack[EncodeKwargs]
    ) -> EncodeOptions:
        """What a call with these options would do, checked once; for `embed_tokens` and `finish`."""
        return self._options(options, kind, task)

    def embed_tokens(self, token_ids: Sequence[NDArray[np.int32]], options: EncodeOptions) -> list[NDArray[np.float32]]:
        """One run of the executor over texts that are tokenized already: prompt and special tokens in, cut to fit.

        Returns:
            A row (D,) per text, or hidden states (n, H), as `encode` has them before `finish`; not checked for NaN.
        """
        return self._runner.run_group(token_ids, options)

    def finish(self, rows: Sequence[NDArray[np.float32]], options: EncodeOptions) -> Any:
        """Rows of `embed_tokens` to what `encode` returns for a sequence; each row by itself."""
        return self._finish(list(rows), options, single=False)

    def identity_for(self, options: EncodeOptions) -> str:
        """The identity of vectors made with `options`."""
        return identity_of(self.bundle.manifest, self.variant, self.pooling, options)

    def close(self) -> None:
        """Free the model; calls after it raise ExecutorError."""
        self._executor.close()

    if not TYPE_CHECKING:  # type checkers would take every name for an attribute

        def __getattr__(self, name: str) -> NoReturn:
            """Only reached for names that do not exist."""
            hint = f"; here it is {_RENAMED[name]}" if name in _RENAMED else ""
            raise AttributeError(f"Embedder has no attribute {name!r}{hint}", name=name, obj=self)

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _encode(self, inputs: Texts, options: EncodeOptions) -> EncodeResult:
        texts = checked_texts(inputs)
        windows, order = distinct_windows(texts, _WINDOW_TEXTS)
        rows: list[NDArray[Any]] = []
        counts: list[int] = []
        with progress_bar("Embedding", max(order, default=-1) + 1, shown=options.show_progress_bar) as advance:
            for _, done in self._runner.run(windows, options, advance):
                rows += done.rows
                counts += done.num_tokens
        num_tokens = tuple(counts[k] for k in order)
        return EncodeResult(
            embeddings=self._finish([rows[k] for k in order], options, single=isinstance(inputs, str)),
            num_tokens=num_tokens,
            truncated=truncations(range(len(texts)), num_tokens, self.max_tokens),
            identity=identity_of(self.bundle.manifest, self.variant, self.pooling, options),
        )

    def _finish(self, rows: list[NDArray[Any]], options: EncodeOptions, *, single: bool) -> Any:
        """Rows to what the caller asked for."""
        if options.output_value == "token_embeddings":
            return rows[0] if single else _apart(rows)
        vectors = np.stack(rows) if rows else np.empty((0, self.dimension), dtype=np.float32)
        vectors = self._shape(vectors, options)
        if options.precision != "float32":
            vectors = quantize(vectors, options.precision, self._shape(self._reference, options))
        return vectors[0] if single else vectors

    def _shape(self, vectors: NDArray[np.float32], options: EncodeOptions) -> NDArray[np.float32]:
        """Truncate, and normalize where the pipeline or the caller wants it."""
        if options.truncate_dim is not None:
            vectors = vectors[:, : options.truncate_dim]
        again = options.truncate_dim is not None and self._head.normalizes and not options.unnormalized
        if options.normalize_embeddings or again:
            return l2_normalize(vectors)
        return vectors

    @cached_property
    def _reference(self) -> NDArray[np.float32]:
        """The bundle's reference vectors (R, D): the ranges of integer precisions come from them."""
        vectors: NDArray[np.float32] = np.load(self.bundle.path(PARITY_VECTORS), allow_pickle=False)
        if vectors.shape[1] != self.dimension or self.pooling != self.bundle.manifest.pipeline.pooling:
            raise OptionError("integer precisions need ranges, and the bundle has them for its own pooling only")
        return vectors

    def _encode_warned(self, inputs: Texts, options: EncodeOptions) -> Any:
        result = self._encode(inputs, options)
        if result.truncated:
            warnings.warn(truncation_message(result.truncated, len(result.num_tokens)), TruncationWarning, stacklevel=3)
        return result.embeddings

    def _options(self, given: EncodeKwargs, kind: Kind, task: str | None) -> EncodeOptions:
        return parse_options(given, kind, task, self.bundle.manifest.prompts, self.dimension)


def _opened(bundle: object) -> Bundle:
    if isinstance(bundle, Bundle):
        return bundle
    if isinstance(bundle, (str, os.PathLike)):
        return open_bundle(Path(bundle))
    raise OptionError(f"bundle must be the path of a bundle, not {type(bundle).__name__}")


def _apart(rows: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Each row an array of its own, also where texts are equal: who writes into one must not change another."""
    seen: set[int] = set()
    out = []
    for row in rows:
        out.append(row.copy() if id(row) in seen else row)
        seen.add(id(row))
    return out
