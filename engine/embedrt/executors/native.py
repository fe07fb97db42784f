"""The native executor: a thin door to the C++ module, which runs int8 weights, or fp32 ones rounded to bfloat16."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import BF16, Architecture, Bundle
from embedrt.errors import DependencyError, ExecutorError, OptionError, UnsupportedByNativeError
from embedrt.executors import TokenBatch
from embedrt.executors.mapped import DTYPES, Mapped, map_tensors
from embedrt.executors.packed import PackedFile, data_size, packed_file
from embedrt.executors.trust import UntrustedError
from embedrt.machine import available_threads

_PLACE = "embedrt/executors/_native.so"
LIBRARY = Path(__file__).with_name("_native.so")
VARIANTS = ("int8", BF16)
PORTABLE = "portable"  # plain C++: right on every machine, and slower than ONNX Runtime

_ABI = 6
_OK, _UNSUPPORTED = 0, 1
_ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_fast": 1, "gelu_pytorch_tanh": 1, "relu": 2}
_ROBERTA = ("roberta", "xlm-roberta", "camembert")  # positions count the tokens that are not padding
_FAMILIES = ("bert", "distilbert", *_ROBERTA)
_CENTRE = 128  # zero point of rows of both signs
_FIRST_ACTIVATION_ZERO = 16  # of bundles from before the recipe said it
_ERROR_BYTES = 512
_TRUST_CURE = "'chmod go-w' it, or take a folder of your own"


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
    )


class _Config(ctypes.Structure):
    _fields_ = (
        ("hidden_size", ctypes.c_int32),
        ("num_layers", ctypes.c_int32),
        ("num_heads", ctypes.c_int32),
        ("activation", ctypes.c_int32),
        ("max_positions", ctypes.c_int32),
        ("pad_position", ctypes.c_int32),
        ("num_threads", ctypes.c_int32),
        ("available_threads", ctypes.c_int32),
        ("bfloat16", ctypes.c_int32),
        ("first_value_twice", ctypes.c_int32),
        ("activation_zero", ctypes.c_int32),
        ("layer_norm_epsilon", ctypes.c_float),
        ("isa", ctypes.c_char_p),
    )


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


class _Encoder:
    """A loaded encoder with the memory that it reads.

    Freed with the last reference: calls that run hold one of their own, so that nothing is taken from under them.
    """

    def __init__(self, library: ctypes.CDLL, config: _Config, mapped: Mapped, packed: mmap.mmap | None) -> None:
        """Pack the mapped tensors, or use what was packed before."""
        self._library = library
        self._kept = (mapped, packed)
        tensors = _as_tensors(mapped.arrays)
        data = None if packed is None else np.frombuffer(packed, np.uint8, data_size(packed))
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

    def packed_view(self) -> memoryview:
        """The packed weights, for as long as the encoder lives."""
        size = ctypes.c_int64()
        address = self._library.embedrt_packed(self.handle, ctypes.byref(size))
        return memoryview((ctypes.c_char * size.value).from_address(address)).cast("B")


class NativeExecutor:
    """Runs int8 or bf16 of a BERT-family bundle."""

    def __init__(
        self,
        bundle: Bundle,
        variant: str,
        *,
        num_threads: int,
        available: int | None = None,
        isa: str = "auto",
        packed_cache: bool | Path = False,
        check_packed: bool = True,
    ) -> None:
        """Map the variant's weights and pack them for `isa`: "auto", or a name of `available_isas`.

        Args:
            num_threads: of one call, the caller's own thread included.
            available: threads that calls at once may have together, where that is more than `num_threads`; what the
                machine gives this process, if not said.
            packed_cache: keep what was packed in a file (`embedrt.executors.packed`), and use it where it is; in the
                bundle's folder `.packed`, or in the folder given.
            check_packed: compare the data of that file with their sha256.

        Raises:
            UnsupportedByNativeError: the variant, model or machine is not of the kind that the module runs.
            DependencyError: the module is not installed.
            BundleIntegrityError: a tensor does not lie where the manifest says.
            OptionError: others may write to the folder that `packed_cache` names.
        """
        config = _config(bundle, variant, num_threads, available, isa)
        self._library = load_library()
        self._variant = variant
        self._hidden_size = config.hidden_size
        self._num_threads = num_threads
        self.packed_reason = "packed at every load"
        mapped = map_tensors(bundle, bundle.variant(variant).tensors)  # the embeddings are read where they are mapped
        chosen = self._library.embedrt_isa_chosen(config.isa)
        try:
            if packed_cache is not False and chosen is not None:
                folder = packed_cache if isinstance(packed_cache, Path) else None
                file = packed_file(bundle, variant, chosen.decode(), Path(self._library._name), folder)
                encoder = self._load_kept(config, mapped, file, check=check_packed, named=folder is not None)
            else:
                encoder = _Encoder(self._library, config, mapped, None)
        finally:
            mapped.forget_pages()
        self.isa: str = self._library.embedrt_isa_of(encoder.handle).decode()
        self._encoder: _Encoder | None = encoder

    def _load_kept(self, config: _Config, mapped: Mapped, file: PackedFile, *, check: bool, named: bool) -> _Encoder:
        """Use the file, and make it first where it is missing or stale; where that cannot be, pack in memory.

        A folder that others may write to is an error only where the caller `named` it: he means it to be used.
        """
        load = partial(_Encoder, self._library, config, mapped)
        encoder: _Encoder | None = None
        packed: mmap.mmap | None = None
        try:
            packed = file.map(check=check)
            if packed is None:
                with file.lock():
                    packed = file.map(check=check)  # another process may have written it meanwhile
                    if packed is None:
                        encoder = load(None)
                        file.write(encoder.packed_view())
                        packed = file.map(check=False)
        except UntrustedError as exc:
            if named:
                raise OptionError(f"packed_cache: {exc}; {_TRUST_CURE}") from exc
            self.packed_reason = f"packed at every load: {exc}; {_TRUST_CURE}"
        except OSError as exc:
            self.packed_reason = f"packed at every load: {file.path} cannot be written: {exc.strerror or exc}"
        if packed is None:
            return encoder or load(None)
        self.packed_reason = f"mapped from {file.path}"
        return load(packed)

    @property
    def pads(self) -> bool:
        """False: texts of all lengths run side by side."""
        return False

    @property
    def description(self) -> str:
        """What runs where, e.g. "embedrt native int8, avx2, 2 threads"."""
        threads = f"{self._num_threads} thread{'s' if self._num_threads > 1 else ''}"
        return f"embedrt native {self._variant}, {self.isa}, {threads}"

    def held(self) -> NativeExecutor:
        """The same encoder, which the close of this one does not end."""
        self._opened()
        held = object.__new__(type(self))
        vars(held).update(vars(self))  # as copy.copy, in a tenth of its time
        held._opened()
        return held

    def run(self, batch: TokenBatch, *, first_token_only: bool = False) -> NDArray[np.float32]:
        """Hidden states (T, H), or each text's first row (B, H)."""
        encoder = self._opened()
        ids = np.ascontiguousarray(batch.token_ids, dtype=np.int32)
        offsets = np.ascontiguousarray(batch.offsets, dtype=np.int32)
        if len(offsets) < 1 or offsets[-1] != len(ids):
            raise ExecutorError(f"the batch has {len(ids)} tokens, its offsets end at {offsets[-1:]}")
        rows = len(offsets) - 1 if first_token_only else len(ids)
        out = np.empty((rows, self._hidden_size), dtype=np.float32)
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        code = self._library.embedrt_run(
            encoder.handle,
            ids.ctypes.data_as(ctypes.c_void_p),
            offsets.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int32(len(offsets) - 1),
            ctypes.c_int32(first_token_only),
            out.ctypes.data_as(ctypes.c_void_p),
            error,
            ctypes.c_size_t(_ERROR_BYTES),
        )
        if code != _OK:
            raise ExecutorError(f"the native executor failed: {error.value.decode(errors='replace')}")
        return out

    def profile(self) -> dict[str, float]:
        """Seconds that the callers' own threads have spent in each step so far; of one thread in each call."""
        encoder = self._encoder
        if encoder is None:
            return {}
        count = 32
        names, seconds = (ctypes.c_char_p * count)(), (ctypes.c_double * count)()
        found = self._library.embedrt_profile(encoder.handle, names, seconds, ctypes.c_int32(count))
        return {(names[i] or b"").decode(): seconds[i] for i in range(found)}

    def close(self) -> None:
        """Let go of the weights: they are freed at once, or by the last call that runs."""
        self._encoder = None

    def _opened(self) -> _Encoder:
        encoder = self._encoder
        if encoder is None:
            raise ExecutorError("the embedder was closed; make a new one")
        return encoder


def runs_natively(bundle: Bundle, variant: str) -> bool:
    """Whether the variant and the model are of the kind that the module runs, whatever this machine has."""
    return variant in VARIANTS and bundle.manifest.architecture.model_type in _FAMILIES


def _config(bundle: Bundle, variant: str, num_threads: int, available: int | None, isa: str) -> _Config:
    numbers: Architecture = bundle.manifest.architecture
    if variant not in VARIANTS:
        raise UnsupportedByNativeError(f"it runs {' and '.join(VARIANTS)}, not {variant}")
    if numbers.model_type not in _FAMILIES:
        raise UnsupportedByNativeError(f"it runs {', '.join(_FAMILIES)}, not {numbers.model_type}")
    if numbers.activation not in _ACTIVATIONS:
        raise UnsupportedByNativeError(f"it has {', '.join(_ACTIVATIONS)}, not {numbers.activation}")
    settings = bundle.variant(variant).recipe.get("settings", {})
    zero = settings.get("activation_zero", _FIRST_ACTIVATION_ZERO)
    if not isinstance(zero, int) or not 0 < zero < _CENTRE:
        raise UnsupportedByNativeError(f"the recipe's activation_zero is {zero!r}, the kernels take 1 to {_CENTRE - 1}")
    return _Config(
        hidden_size=numbers.hidden_size,
        num_layers=numbers.num_layers,
        num_heads=numbers.num_heads,
        activation=_ACTIVATIONS[numbers.activation],
        max_positions=numbers.max_positions,
        pad_position=numbers.pad_token_id if numbers.model_type in _ROBERTA else -1,
        num_threads=num_threads,
        available_threads=available_threads() if available is None else available,
        bfloat16=variant == BF16,
        first_value_twice=bool(settings.get("first_value_twice", False)),
        activation_zero=zero,
        layer_norm_epsilon=numbers.layer_norm_eps,
        isa=isa.encode(),
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
