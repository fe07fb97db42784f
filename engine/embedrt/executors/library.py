"""The native module's C door: the library, its structs, and an encoder that it holds."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Attention, Block, EncoderSpec, Norm
from embedrt.errors import DependencyError, ExecutorError, UnsupportedByNativeError
from embedrt.executors import TokenBatch, Want
from embedrt.executors.mapped import DTYPES

_PLACE = "embedrt/executors/_native.so"
LIBRARY = Path(__file__).with_name("_native.so")

_ABI = 7
_OK, _UNSUPPORTED = 0, 1
_ERROR_BYTES = 512
_NORMS = {"layer": 1, "rms": 2}  # 0: none
_PLACES = {"post": 0, "pre": 1, "sandwich": 2}
_ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1, "relu": 2, "silu": 3, "quick_gelu": 4}
_BIASES = {"none": 0, "table": 1, "slopes": 2}
_WANTS: dict[Want, int] = {"all": 0, "first": 1, "last": 2}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
    )


class _Norm(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("epsilon", ctypes.c_float))


class _Embeddings(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_int32),
        ("num_positions", ctypes.c_int32),
        ("pad_position", ctypes.c_int32),
        ("has_token_types", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("norm", _Norm),
    )


class _Attention(ctypes.Structure):
    _fields_ = (
        ("num_heads", ctypes.c_int32),
        ("num_kv_heads", ctypes.c_int32),
        ("head_size", ctypes.c_int32),
        ("causal", ctypes.c_int32),
        ("window", ctypes.c_int32),
        ("rotary_interleaved", ctypes.c_int32),
        ("distance_bias", ctypes.c_int32),
        ("head_norm", _Norm),
        ("scale", ctypes.c_double),
        ("rotary", ctypes.c_char_p),
    )


class _FeedForward(ctypes.Structure):
    _fields_ = (("size", ctypes.c_int32), ("activation", ctypes.c_int32), ("gated", ctypes.c_int32))


class _Block(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_int32),
        ("norms", ctypes.c_int32),
        ("attention_is_normed", ctypes.c_int32),
        ("norm", _Norm),
        ("feed_forward", _FeedForward),
        ("attention", _Attention),
    )


class _Config(ctypes.Structure):
    _fields_ = (
        ("hidden_size", ctypes.c_int32),
        ("max_tokens", ctypes.c_int32),
        ("embeddings", _Embeddings),
        ("final_norm", _Norm),
        ("blocks", ctypes.POINTER(_Block)),
        ("num_blocks", ctypes.c_int32),
        ("num_threads", ctypes.c_int32),
        ("available_threads", ctypes.c_int32),
        ("bfloat16", ctypes.c_int32),
        ("first_value_twice", ctypes.c_int32),
        ("activation_zero", ctypes.c_int32),
        ("isa", ctypes.c_char_p),
    )


@dataclass(frozen=True)
class Running:
    """How an encoder runs, beside what it computes."""

    num_threads: int  # of one call, the caller's own included
    available_threads: int  # that calls at once have together, where that is more
    bfloat16: bool  # whether float32 weights must run in bfloat16
    first_value_twice: bool  # of int8, as the recipe says, and so the next
    activation_zero: int
    isa: str  # "auto", or one of `available_isas`


def load_library(path: Path | None = None) -> ctypes.CDLL:
    """The native module at `path`, by default the installed one.

    Raises:
        DependencyError: it was not built, cannot be loaded here, or is of another version.
    """
    path = path or _find_library()
    if not path.is_file():
        raise DependencyError(
            "the native module is not installed (there was no C++ compiler when embedrt was); "
            "with one, 'pip install --force-reinstall --no-deps embedrt' builds it"
        )
    try:
        library = ctypes.CDLL(str(path))
        abi = library.embedrt_abi()
    except (OSError, AttributeError) as exc:
        raise DependencyError(f"the native module {path} cannot be loaded: {exc}; install embedrt again") from exc
    if abi != _ABI:
        raise DependencyError(
            f"the native module {path} has ABI {abi}, wanted {_ABI}; "
            "install embedrt again (in a checkout, 'make native')"
        )
    library.embedrt_isa_name.restype = ctypes.c_char_p
    library.embedrt_isa_of.restype = ctypes.c_char_p
    library.embedrt_isa_chosen.restype = ctypes.c_char_p
    library.embedrt_packed.restype = ctypes.c_void_p
    return library


def _find_library() -> Path:
    """Beside this file, or in site-packages: an editable install leaves the sources where they are."""
    if LIBRARY.is_file() or LIBRARY.parent != Path(__file__).parent:
        return LIBRARY
    try:
        return Path(str(metadata.distribution("embedrt").locate_file(_PLACE)))
    except metadata.PackageNotFoundError:
        return LIBRARY


def available_isas(library: ctypes.CDLL) -> dict[str, bool]:
    """Instruction sets of the build, best first, and whether this machine has them."""
    found: dict[str, bool] = {}
    while (name := library.embedrt_isa_name(len(found))) is not None:
        found[name.decode()] = bool(library.embedrt_isa_available(len(found)))
    return found


class NativeEncoder:
    """A loaded encoder with the memory that it reads.

    Freed with the last reference: calls that run hold one of their own, so that nothing is taken from under them.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        spec: EncoderSpec,
        running: Running,
        arrays: Mapping[str, NDArray[Any]],
        packed: tuple[mmap.mmap, int] | None = None,
    ) -> None:
        """Pack the tensors `arrays`, or use what was packed before: the file, and the bytes of it that are weights.

        The tables of the embeddings are read where they lie; what holds them must stay.

        Raises:
            UnsupportedByNativeError: the module does not run this.
            ExecutorError: it cannot load it.
        """
        self._library = library
        self._hidden_size = spec.hidden_size
        data = None if packed is None else np.frombuffer(packed[0], np.uint8, packed[1])
        self._kept = ({name: array for name, array in arrays.items() if name.startswith("embeddings.")}, data)
        tensors = _as_tensors(arrays)
        config = _as_config(spec, running)
        self.handle = ctypes.c_void_p()
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        code = library.embedrt_create(
            ctypes.byref(config),
            tensors,
            ctypes.c_int64(len(tensors)),
            ctypes.c_void_p(None if data is None else data.ctypes.data),
            ctypes.c_int64(0 if data is None else len(data)),
            ctypes.byref(self.handle),
            error,
            ctypes.c_size_t(_ERROR_BYTES),
        )
        if code != _OK:
            raise _error(code, error.value.decode(errors="replace"))

    def __del__(self) -> None:
        if self.handle:
            self._library.embedrt_destroy(self.handle)

    @property
    def isa(self) -> str:
        """The instruction set that it is packed for."""
        name: str = self._library.embedrt_isa_of(self.handle).decode()
        return name

    def packed_view(self) -> memoryview:
        """The packed weights, for as long as the encoder lives."""
        size = ctypes.c_int64()
        address = self._library.embedrt_packed(self.handle, ctypes.byref(size))
        return memoryview((ctypes.c_char * size.value).from_address(address)).cast("B")

    def run(self, batch: TokenBatch, want: Want = "all") -> NDArray[np.float32]:
        """Hidden states (T, H), or one row of each text (B, H).

        Raises:
            ExecutorError: the batch is not one, has tokens that are none, or texts that are too long.
        """
        ids = np.ascontiguousarray(batch.token_ids, dtype=np.int32)
        offsets = np.ascontiguousarray(batch.offsets, dtype=np.int32)
        if len(offsets) < 1 or offsets[-1] != len(ids):
            raise ExecutorError(f"the batch has {len(ids)} tokens, its offsets end at {offsets[-1:]}")
        rows = len(ids) if want == "all" else len(offsets) - 1
        out = np.empty((rows, self._hidden_size), dtype=np.float32)
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        code = self._library.embedrt_run(
            self.handle,
            ids.ctypes.data_as(ctypes.c_void_p),
            offsets.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int32(len(offsets) - 1),
            ctypes.c_int32(_WANTS[want]),
            out.ctypes.data_as(ctypes.c_void_p),
            error,
            ctypes.c_size_t(_ERROR_BYTES),
        )
        if code != _OK:
            raise ExecutorError(f"the native executor failed: {error.value.decode(errors='replace')}")
        return out

    def profile(self) -> dict[str, float]:
        """Seconds that the callers' own threads have spent in each part so far."""
        count = 32
        names, seconds = (ctypes.c_char_p * count)(), (ctypes.c_double * count)()
        found = self._library.embedrt_profile(self.handle, names, seconds, ctypes.c_int32(count))
        return {(names[i] or b"").decode(): seconds[i] for i in range(found)}


def _as_config(spec: EncoderSpec, running: Running) -> _Config:
    """The structs keep what they point to."""
    embeddings = spec.embeddings
    return _Config(
        hidden_size=spec.hidden_size,
        max_tokens=-1 if spec.max_tokens is None else spec.max_tokens,
        embeddings=_Embeddings(
            size=embeddings.size,
            num_positions=embeddings.num_positions,
            pad_position=-1 if embeddings.pad_position is None else embeddings.pad_position,
            has_token_types=embeddings.has_token_types,
            scale=embeddings.scale,
            norm=_as_norm(embeddings.norm),
        ),
        final_norm=_as_norm(spec.final_norm),
        blocks=(_Block * len(spec.blocks))(*map(_as_block, spec.blocks)),
        num_blocks=len(spec.blocks),
        num_threads=running.num_threads,
        available_threads=running.available_threads,
        bfloat16=running.bfloat16,
        first_value_twice=running.first_value_twice,
        activation_zero=running.activation_zero,
        isa=running.isa.encode(),
    )


def _as_norm(norm: Norm | None) -> _Norm:
    return _Norm(0, 0.0) if norm is None else _Norm(_NORMS[norm.kind], norm.epsilon)


def _as_block(block: Block) -> _Block:
    ffn = block.feed_forward
    return _Block(
        weights=block.weights,
        norms=_PLACES[block.norms],
        attention_is_normed=block.attention_is_normed,
        norm=_as_norm(block.norm),
        feed_forward=_FeedForward(ffn.size, _ACTIVATIONS[ffn.activation], ffn.gated),
        attention=_as_attention(block.attention),
    )


def _as_attention(attention: Attention) -> _Attention:
    return _Attention(
        num_heads=attention.num_heads,
        num_kv_heads=attention.num_kv_heads,
        head_size=attention.head_size,
        causal=attention.causal,
        window=-1 if attention.window is None else attention.window,
        rotary_interleaved=attention.rotary_interleaved,
        distance_bias=_BIASES[attention.distance_bias],
        head_norm=_as_norm(attention.head_norm),
        scale=attention.scale,
        rotary=None if attention.rotary is None else attention.rotary.encode(),
    )


def _as_tensors(arrays: Mapping[str, NDArray[Any]]) -> ctypes.Array[_Tensor]:
    out = (_Tensor * len(arrays))()
    for tensor, (name, array) in zip(out, arrays.items(), strict=True):
        tensor.name = name.encode()
        tensor.data = array.ctypes.data
        tensor.rows = int(np.prod(array.shape[:-1], dtype=np.int64))
        tensor.columns = array.shape[-1] if array.ndim else 1
        tensor.dtype = DTYPES[array.dtype.name]
    return out


def _error(code: int, message: str) -> ExecutorError:
    if code == _UNSUPPORTED:
        return UnsupportedByNativeError(message)
    return ExecutorError(f"the native executor cannot load the bundle: {message}")
