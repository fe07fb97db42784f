"""The library's door: a bundle opened, and what can be asked of it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedrt.bundle import Bundle
from embedrt.compat import SentenceTransformersNames
from embedrt.construction import told_keywords
from embedrt.encoding import make_encoding
from embedrt.errors import OptionError
from embedrt.inputs import Inputs, Texts, checked_texts, given_texts, several_texts
from embedrt.loading import LoadOptions, find_bundle, load_model
from embedrt.long_texts import LongTexts
from embedrt.options import EncodeKwargs, EncodeOptions, Kind, whole_number
from embedrt.pictures.reading import MAX_PIXELS, Picture
from embedrt.pictures.runner import TEXTS_ONLY, PictureRunner
from embedrt.pooling import load_dense
from embedrt.reopening import made, recipe_of, reopen
from embedrt.results import EncodedBlock, EncodeResult, TruncationWarning, truncation_message
from embedrt.settings import change, own_settings
from embedrt.signatures import encode_method
from embedrt.similarity import SIMILARITIES, comparable, pairwise
from embedrt.tensors import as_tensor, is_tensor

Variant: TypeAlias = Literal["auto", "fp32", "fp16", "int8", "bf16"]
Device: TypeAlias = Literal["auto", "cpu", "cuda"]
ExecutorName: TypeAlias = Literal["auto", "native", "onnxruntime"]


class Embedder(LongTexts, SentenceTransformersNames):
    """Embeds texts with one variant of a bundle. Several threads may use one embedder at once.

    It does not change after it is made; `with_options` makes another one of the same loaded model. Pickled or copied
    deeply, it opens its bundle again.

    Args:
        bundle: directory that `embedrt export` made, or a name such as "intfloat/multilingual-e5-small"; see
            `embedrt.open_bundle`.
        variant: "fp32", "fp16", "int8", "bf16" (fp32's or fp16's weights rounded as they are loaded; CPUs with
            AVX512-BF16 only), or "auto": on CPUs int8 where the bundle has it, on CUDA fp16.
        device: "cpu", "cuda", or "auto": CUDA where this onnxruntime has it.
        executor: "native", "onnxruntime", or "auto": native where it runs the variant here, else ONNX Runtime.
        isa: instruction set of the native executor; "auto" is the best that this machine has.
        num_threads: threads that one call uses; default what CPU affinity and cgroup quota allow. With fewer, calls
            from several threads run side by side (native: as long as all together have no more than those allow; ONNX
            Runtime: the callers' own threads beside its `num_threads` - 1).
        pooling: another pooling than the bundle's, e.g. "cls"; several joined by "+". Part of the identity.
        packed_cache: keep what the native executor packs in a file: True for the bundle's folder `.packed`, or the
            path of another folder, which several bundles may share. Later loads are faster, and processes share the
            memory. Where it cannot be written, weights are packed as ever.
        verify_hashes: compare each file that is used with its sha256; False checks sizes only and loads faster.
        max_tokens, truncate_dim, prompts, default_prompt_name: as `with_options` takes them.

    Raises:
        BundleError: the bundle cannot be used; the message says why.
        OptionError: an argument does not fit.
        DependencyError: the device needs another build of onnxruntime, or the executor asked for is not installed.
        ExecutorError: the executor cannot load the variant; UnsupportedByNativeError says why native does not run it.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._extensible = True

    @told_keywords
    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        variant: Variant = "auto",
        device: Device | None = "auto",
        executor: ExecutorName = "auto",
        isa: str = "auto",
        num_threads: int | None = None,
        pooling: str | None = None,
        packed_cache: bool | str | os.PathLike[str] = False,
        verify_hashes: bool = True,
        max_tokens: int | None = None,
        truncate_dim: int | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
    ) -> None:
        asked = LoadOptions(
            variant,
            "auto" if device is None else str(device),  # torch.device is one of those, too
            executor,
            isa,
            num_threads,
            pooling,
            packed_cache,
            verify_hashes,
        )
        found = find_bundle(bundle)
        dense = load_dense(found, pooling)
        model = load_model(found, asked)
        self._encoding = make_encoding(
            model,
            dense,
            change(
                own_settings(model.bundle.manifest),
                model.bundle.manifest,
                max_tokens=max_tokens,
                truncate_dim=truncate_dim,
                prompts=prompts,
                default_prompt_name=default_prompt_name,
            ),
        )

    @told_keywords
    def with_options(
        self,
        *,
        max_tokens: int | None = None,
        truncate_dim: int | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
    ) -> Self:
        """Another embedder of the same loaded model, with other settings; this one stays as it is.

        Takes no time and no memory. The two share the model: closing one closes both.

        Args:
            max_tokens: where texts are cut, prompt and special tokens included; up to the model's positions.
            truncate_dim: what calls take that give none.
            prompts: name -> text, beside the bundle's own and over those of the same name.
            default_prompt_name: the prompt that `encode` takes where it is given none.

        Raises:
            OptionError: a value does not fit.
        """
        model = self._encoding.model
        settings = change(
            self._encoding.settings,
            model.bundle.manifest,
            max_tokens=max_tokens,
            truncate_dim=truncate_dim,
            prompts=prompts,
            default_prompt_name=default_prompt_name,
        )
        return made(type(self), make_encoding(model, self._encoding.dense, settings), vars(self))

    @property
    def identity(self) -> str:
        """Identity of what `encode` gives without options; see `identify`."""
        return self.identify()

    def identify(self, *, kind: Kind = "encode", **options: Unpack[EncodeKwargs]) -> str:
        """Short hash over everything that decides a vector: model, tokenizer, variant, pooling, prompt, output.

        Vectors of different identities are not to be mixed in one index.

        Args:
            kind: the method meant: "encode", "query" or "document".
            options: as that method takes them.
        """
        return self.identity_for(self.resolve(kind=kind, **options))

    @encode_method
    def encode(
        self, inputs: Inputs | None = None, *, sentences: Inputs | None = None, **options: Unpack[EncodeKwargs]
    ) -> Any:
        """Embed one text or several; with a bundle of CLIP or its kin also pictures, in one list with texts or alone.

        Args:
            inputs: a string, or an iterable of strings: a list, an array, a column of Arrow, pandas or polars.
                A picture is a Pillow image, a `pathlib.Path`, a file's bytes, pixels (H, W, 3) of uint8, a data URI or,
                as in sentence-transformers, a string that is the path of an existing file with a picture's suffix.
            sentences: the same, by sentence-transformers' older name.
            prompt_name: which of the bundle's prompts to put before every text.
            prompt: a text to put before every text; wins over `prompt_name`.
            batch_size: at most so many texts in one run (a token budget decides as well).
            show_progress_bar: a bar on stderr.
            output_value: "sentence_embedding"; "token_embeddings" for hidden states, float32 (n, H) per text; None for
                a dict per text of input_ids, attention_mask, token_embeddings and sentence_embedding.
            precision: "float32", or "int8", "uint8", "binary", "ubinary" with ranges out of the bundle.
            normalize_embeddings: L2-normalize even where the model's own pipeline does not.
            truncate_dim: keep the first so many dimensions; normalized vectors are normalized again.
            on_overflow: "truncate" cuts texts over `max_tokens` and warns once per call; "error" refuses them;
                "windows" reads them in windows that overlap by an eighth, and gives the mean of their vectors, weighted
                by tokens, normalized where vectors are. `encode_windows` has a vector per piece instead.
            convert_to_tensor: a torch tensor instead of an array, where torch is imported already.
            convert_to_numpy: False is a list of tensors, one per text.
            device, pool, chunk_size: sentence-transformers'; taken where they say what is so anyway.

        Returns:
            float32 (D,) for one, (N, D) for several, (0, D) for none. Token embeddings are (n, H) for one, a list of
            them for several.

        Raises:
            InputError: a text or picture cannot be embedded; `.index` says which.
            OptionError: an option is unknown or does not fit.
            NonFiniteError: a vector came out with NaN or infinity.
        """
        return self._vectors("encode", inputs, sentences, options)

    @encode_method
    def encode_query(
        self, inputs: Inputs | None = None, *, sentences: Inputs | None = None, **options: Unpack[EncodeKwargs]
    ) -> Any:
        """As `encode`, with the model's query prompt if it has one; `task` fills its `{task}`."""
        return self._vectors("query", inputs, sentences, options)

    @encode_method
    def encode_document(
        self, inputs: Inputs | None = None, *, sentences: Inputs | None = None, **options: Unpack[EncodeKwargs]
    ) -> Any:
        """As `encode`, with the model's document prompt if it has one."""
        return self._vectors("document", inputs, sentences, options)

    def encode_pictures(self, pictures: Picture | Iterable[Picture], **options: Unpack[EncodeKwargs]) -> Any:
        """Embed one picture or several, as `encode` does; a string is a path or a data URI here, and never a text.

        Raises:
            PictureError: one cannot be read; `.index` says which.
            OptionError: the bundle has no encoder of pictures, or an option does not fit.
        """
        chosen = self._encoding.options(options, "encode")
        return self._encoding.encode(pictures, chosen, pictures=True).embeddings

    def encode_detailed(
        self, inputs: Inputs, *, kind: Kind = "encode", **options: Unpack[EncodeKwargs]
    ) -> EncodeResult:
        """As the method that `kind` names, with tokens per text, the texts cut, and the identity; no warning."""
        chosen = self.resolve(kind=kind, **options)
        done = self._encoding.encode(inputs, chosen)
        return EncodeResult(done.embeddings, done.num_tokens, done.truncated, self.identity_for(chosen))

    def encode_stream(
        self,
        texts: Iterable[str | Picture],
        *,
        block_size: int = 1024,
        on_error: Literal["raise", "skip"] = "raise",
        kind: Kind = "encode",
        **options: Unpack[EncodeKwargs],
    ) -> Iterator[EncodedBlock]:
        """Embed an iterable block by block, in its order, in bounded memory.

        Args:
            texts: strings, and pictures as in `encode`; read in the calling thread, one block ahead.
            block_size: texts read per block.
            on_error: "raise", or "skip" to leave out texts that cannot be embedded: no strings, lone surrogates, no
                tokens, over the limit with on_overflow="error", a vector with NaN; and pictures that cannot be read.
                The block says why of each.
            kind, options: as in `encode_detailed`; sentence embeddings as arrays only.

        Yields:
            EncodedBlock: with what was cut and what was skipped; no warning.
        """
        chosen = self.resolve(kind=kind, **options)
        if on_error not in ("raise", "skip"):
            raise OptionError(f"on_error must be raise or skip, not {on_error!r}")
        if chosen.output_value != "sentence_embedding" or chosen.container != "array":
            raise OptionError("encode_stream gives sentence embeddings as arrays; encode has output_value and tensors")
        size = whole_number("block_size", block_size) or 1
        return self._encoding.stream(several_texts(texts), chosen, block_size=size, skip=on_error == "skip")

    def similarity(self, a: ArrayLike, b: ArrayLike) -> Any:
        """Similarities (N, M) of vectors (N, D) and (M, D), by the model's own function; cosine if it names none.

        float32; a tensor where one of the two is a tensor.
        """
        found = SIMILARITIES[self.similarity_fn_name](*comparable(a, b))
        return as_tensor(found) if is_tensor(a) or is_tensor(b) else found

    def similarity_pairwise(self, a: ArrayLike, b: ArrayLike) -> Any:
        """Similarities (N,) of row i of `a` with row i of `b`, both (N, D); as `similarity` gives them."""
        first, second = comparable(a, b)
        if len(first) != len(second):
            raise OptionError(f"{len(first)} and {len(second)} vectors cannot be compared in pairs")
        found = pairwise(self.similarity_fn_name, first, second)
        return as_tensor(found) if is_tensor(a) or is_tensor(b) else found

    def tokenize(self, texts: Texts) -> list[list[int]]:
        """Token ids of each text, special tokens included, not cut."""
        return self.tokenizer.ids(checked_texts(texts))

    @overload
    def count_tokens(self, texts: str) -> int: ...  # type: ignore[overload-overlap]
    @overload
    def count_tokens(self, texts: Iterable[str]) -> list[int]: ...
    def count_tokens(self, texts: Texts) -> int | list[int]:
        """Tokens of each text before cutting, special tokens included: an int for a string, else a list."""
        counts = [len(ids) for ids in self.tokenize(texts)]
        return counts[0] if isinstance(texts, str) else counts

    def resolve(self, *, kind: Kind = "encode", **options: Unpack[EncodeKwargs]) -> EncodeOptions:
        """What a call with these options would do, checked once; for `embed_tokens` and `finish`."""
        return self._encoding.options(options, kind)

    def embed_tokens(self, token_ids: Sequence[NDArray[np.int32]], options: EncodeOptions) -> list[NDArray[np.float32]]:
        """One run of the executor over texts that are tokenized already: prompt and special tokens in, cut to fit.

        Returns:
            A row (D,) per text, or hidden states (n, H), as `encode` has them before `finish`; not checked for NaN.
        """
        shaped = [self.tokenizer.shaped(ids) for ids in token_ids]
        return self._encoding.runner.run_group(shaped, options)

    def prepare_picture(self, source: Picture, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
        """A picture's patches (count, size), for `embed_patches`.

        Raises:
            PictureError: it cannot be read, or has more than `max_pixels` pixels.
            OptionError: the bundle has no encoder of pictures.
        """
        return self._pictures.prepare(source, max_pixels=max_pixels)

    def embed_patches(
        self, patches: Sequence[NDArray[np.float32]], options: EncodeOptions
    ) -> list[NDArray[np.float32]]:
        """As `embed_tokens`, of pictures that `prepare_picture` prepared."""
        return self._pictures.run_group(patches, options)

    def join_windows(
        self, rows: Sequence[NDArray[np.float32]], weights: Sequence[int], options: EncodeOptions
    ) -> NDArray[np.float32]:
        """One row (D,) of those of a text's windows (`embedrt.overflow`), as `on_overflow="windows"` makes it."""
        return self._encoding.runner.join(rows, weights, options)

    def finish(self, rows: Sequence[NDArray[np.float32]], options: EncodeOptions) -> Any:
        """Rows of `embed_tokens` to what `encode` returns for a sequence; each row by itself."""
        return self._encoding.shape(rows, options, single=False)

    def identity_for(self, options: EncodeOptions) -> str:
        """The identity of vectors made with `options`."""
        return self._encoding.identity(options)

    @property
    def picture_rows(self) -> int:
        """Rows that the encoder reads of a picture, which count as a text's tokens do."""
        return self._pictures.num_rows

    @property
    def picture_bytes(self) -> int:
        """Bytes of a prepared picture."""
        return 4 * self._pictures.patches.count * self._pictures.patches.size

    @property
    def _pictures(self) -> PictureRunner:
        found = self._encoding.pictures
        if found is None:
            raise OptionError(TEXTS_ONLY.format(name=self.bundle.manifest.name))
        return found

    def __copy__(self) -> Self:
        return self.with_options()

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen, (
            type(self),
            recipe_of(self._encoding),
            {k: v for k, v in vars(self).items() if k != "_encoding"},
        )

    def _vectors(self, kind: Kind, inputs: Inputs | None, sentences: Inputs | None, options: EncodeKwargs) -> Any:
        call = self._encoding.call(options, kind)
        if type(inputs) is str and sentences is None and call.one and (vector := call.one.vector(inputs)) is not None:
            return vector
        done = self._encoding.encode(given_texts(inputs, sentences), call.options)
        if done.truncated:
            message = truncation_message(done.truncated, len(done.num_tokens))
            warnings.warn(message, TruncationWarning, stacklevel=3)
        return done.embeddings
