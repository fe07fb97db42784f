"""The head of a masked language model on the native module: hidden states to the words of its vocabulary."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Norm
from embedrt.errors import ExecutorError
from embedrt.executors.library import ERROR_BYTES, load_library, native_error
from embedrt.executors.structs import ACTIVATIONS, NormStruct, as_norm, as_tensors

Floats = NDArray[np.float32]
WordPooling = Literal["largest", "sum", "sum_of_twice"]
_POOLINGS: dict[WordPooling, int] = {"largest": 0, "sum": 1, "sum_of_twice": 2}


class _Config(ctypes.Structure):
    _fields_ = (
        ("hidden_size", ctypes.c_int32),
        ("size", ctypes.c_int32),
        ("vocabulary", ctypes.c_int32),
        ("activation", ctypes.c_int32),
        ("norm", NormStruct),
        ("num_threads", ctypes.c_int32),
        ("available_threads", ctypes.c_int32),
        ("isa", ctypes.c_char_p),
    )


class NativeWords:
    """A loaded head. Several threads may run it at once; freed with the last reference."""

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        *,
        activation: str,
        norm: Norm,
        num_threads: int,
        available_threads: int,
        isa: str,
    ) -> None:
        """Pack the tensors words.transform.weight (H, E), .bias, words.norm.gamma, .beta, words.decoder.weight (E, V),
        .scale where that is int8, and .bias; they are not kept.

        Raises:
            UnsupportedByNativeError: the module does not run them, or the machine lacks `isa`.
            DependencyError: the module is not installed.
        """
        self._library = load_library()
        hidden, size = arrays["words.transform.weight"].shape
        self.dimension: int = arrays["words.decoder.weight"].shape[1]
        self._hidden_size = hidden
        kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        tensors = as_tensors(kept)
        config = _Config(
            hidden_size=hidden,
            size=size,
            vocabulary=self.dimension,
            activation=ACTIVATIONS[activation],
            norm=as_norm(norm),
            num_threads=num_threads,
            available_threads=available_threads,
            isa=isa.encode(),
        )
        self.handle = ctypes.c_void_p()
        error = ctypes.create_string_buffer(ERROR_BYTES)
        code = self._library.embedrt_words_create(
            ctypes.byref(config),
            tensors,
            ctypes.c_int64(len(tensors)),
            ctypes.byref(self.handle),
            error,
            ctypes.c_size_t(ERROR_BYTES),
        )
        if code != 0:
            raise native_error(code, error.value.decode(errors="replace"))

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._library.embedrt_words_destroy(self.handle)

    def __call__(self, hidden: Floats, offsets: NDArray[np.int32], pooling: WordPooling) -> Floats:
        """As `embedrt.words.Words` says it."""
        hidden = np.ascontiguousarray(hidden, np.float32)
        offsets = np.ascontiguousarray(offsets, np.int32)
        if hidden.shape != (int(offsets[-1]), self._hidden_size):
            raise ExecutorError(f"hidden states {hidden.shape} are not those of texts that end at {offsets[-1]}")
        out = np.empty((len(offsets) - 1, self.dimension), np.float32)
        error = ctypes.create_string_buffer(ERROR_BYTES)
        code = self._library.embedrt_words_run(
            self.handle,
            hidden.ctypes.data_as(ctypes.c_void_p),
            offsets.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int32(len(offsets) - 1),
            ctypes.c_int32(_POOLINGS[pooling]),
            out.ctypes.data_as(ctypes.c_void_p),
            error,
            ctypes.c_size_t(ERROR_BYTES),
        )
        if code != 0:
            raise ExecutorError(f"the native executor failed: {error.value.decode(errors='replace')}")
        return out
