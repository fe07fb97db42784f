"""Types of `encode` and its kin: what is returned follows from what is given, for type checkers.

At run time these are plain methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, Required, TypeAlias, Unpack, cast, overload

import numpy as np
from numpy.typing import NDArray

from embedrt.inputs import Inputs, Texts
from embedrt.options import CommonKwargs, EncodeKwargs

Vector: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float32]]  # (D,)
Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float32]]  # (N, D)
Features: TypeAlias = dict[str, NDArray[Any]]


class VectorKwargs(CommonKwargs, total=False):
    """float32 sentence embeddings as arrays."""

    output_value: Literal["sentence_embedding"]
    precision: Literal["float32"] | None
    convert_to_tensor: Literal[False]
    convert_to_numpy: Literal[True]


class SignedKwargs(CommonKwargs, total=False):
    """Sentence embeddings as int8."""

    output_value: Literal["sentence_embedding"]
    precision: Required[Literal["int8", "binary"]]
    convert_to_tensor: Literal[False]
    convert_to_numpy: Literal[True]


class UnsignedKwargs(CommonKwargs, total=False):
    """Sentence embeddings as uint8."""

    output_value: Literal["sentence_embedding"]
    precision: Required[Literal["uint8", "ubinary"]]
    convert_to_tensor: Literal[False]
    convert_to_numpy: Literal[True]


class TokenKwargs(CommonKwargs, total=False):
    """Hidden states, (n, H) for a text of n tokens."""

    output_value: Required[Literal["token_embeddings"]]
    precision: Literal["float32"] | None
    convert_to_tensor: bool
    convert_to_numpy: bool


class FeatureKwargs(CommonKwargs, total=False):
    """Everything by name."""

    output_value: Required[None]
    precision: Literal["float32"] | None
    convert_to_tensor: bool
    convert_to_numpy: bool


class EncodeMethod(Protocol):
    """`encode`, `encode_query`, `encode_document`."""

    # A string goes through its letters, so it is an Iterable[str] as well: its overload comes first, and wins.
    @overload
    def __call__(self, inputs: str, **options: Unpack[VectorKwargs]) -> Vector: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, inputs: Iterable[str], **options: Unpack[VectorKwargs]) -> Matrix: ...
    @overload
    def __call__(self, inputs: Texts, **options: Unpack[SignedKwargs]) -> NDArray[np.int8]: ...
    @overload
    def __call__(self, inputs: Texts, **options: Unpack[UnsignedKwargs]) -> NDArray[np.uint8]: ...
    @overload
    def __call__(self, inputs: str, **options: Unpack[TokenKwargs]) -> Matrix: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, inputs: Iterable[str], **options: Unpack[TokenKwargs]) -> list[Matrix]: ...
    @overload
    def __call__(self, inputs: str, **options: Unpack[FeatureKwargs]) -> Features: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, inputs: Iterable[str], **options: Unpack[FeatureKwargs]) -> list[Features]: ...
    @overload
    def __call__(
        self, inputs: Inputs | None = ..., *, sentences: Inputs | None = ..., **options: Unpack[EncodeKwargs]
    ) -> Any: ...


def encode_method(method: Callable[..., Any]) -> EncodeMethod:
    """Tell type checkers that this is one; the method stays as it is."""
    return cast(EncodeMethod, method)
