"""The native executor: a thin door to the C++ module, which runs int8 weights, or fp32 ones rounded to bfloat16."""

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

from embedrt.bundle import BF16, Architecture, Bundle, TensorEntry
from embedrt.errors import BundleIntegrityError, DependencyError, ExecutorError, UnsupportedByNativeError
from embedrt.executors import TokenBatch
from embedrt.executors.packed import PackedFile, data_size, packed_file

_PLACE = "embedrt/executors/_native.so"
LIBRARY = Path(__file__).with_name("_native.so")
VARIANTS = ("int8", BF16)
PORTABLE = "portable"  # plain C++: right on every machine, and slower than ONNX Runtime

_ABI = 5
_OK, _UNSUPPORTED = 0, 1
_DTYPES, _HALF = {"float32": 0, "int8": 1}, "float16"
_ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_fast": 1, "gelu_pytorch_tanh": 1, "relu": 2}
_ROBERTA = ("roberta", "xlm-roberta", "camembert")  # positions count the tokens that are not padding
_FAMILIES = ("bert", "distilbert", *_ROBERTA)
_CENTRE = 128  # zero point of rows of both signs
_FIRST_ACTIVATION_ZERO = 16  # of bundles from before the recipe said it
_ERROR_BYTES = 512


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


class NativeExecutor:
    """Runs int8 or bf16 of a BERT-family bundle."""

    def __init__(
        self,
        bundle: Bundle,
        variant: str,
        *,
        num_threads: int,
        isa: str = "auto",
        packed_cache: bool | Path = False,
        check_packed: bool = True,
    ) -> None:
        """Map the variant's weights and pack them for `isa`: "auto", or a name of `available_isas`.

        Args:
            packed_cache: keep what was packed in a file (`embedrt.executors.packed`), and use it where it is; in the
                bundle's folder `.packed`, or in the folder given.
            check_packed: compare the data of that file with their sha256.

        Raises:
            UnsupportedByNativeError: the variant, model or machine is not of the kind that the module runs.
            DependencyError: the module is not installed.
            BundleIntegrityError: a tensor does not lie where the manifest says.
        """
        config = _config(bundle, variant, num_threads, isa)
        self._library = load_library()
        self._variant = variant
        self._hidden_size = config.hidden_size
        self._num_threads = num_threads
        mapped = _map_tensors(bundle, bundle.variant(variant).tensors)
        self._mapped: _Mapped | None = mapped  # the embeddings are read where they are mapped
        self._packed: mmap.mmap | None = None  # the rest, where it was packed before
        self._encoder: ctypes.c_void_p | None = None
        self.packed_reason = "packed at every load"
        chosen = self._library.embedrt_isa_chosen(config.isa)
        try:
            if packed_cache is not False and chosen is not None:
                folder = packed_cache if isinstance(packed_cache, Path) else None
                file = packed_file(bundle, variant, chosen.decode(), Path(self._library._name), folder)
                self._create_kept(config, file, check_packed)
            else:
                self._encoder = self._create(config, None)
        finally:
            mapped.forget_pages()
        self.isa: str = self._library.embedrt_isa_of(self._encoder).decode()

    def _create(self, config: _Config, packed: mmap.mmap | None) -> ctypes.c_void_p:
        """An encoder that packs, or that uses what was packed before."""
        assert self._mapped is not None
        tensors = _as_tensors(self._mapped.arrays)
        data = None if packed is None else np.frombuffer(packed, np.uint8, data_size(packed))
        encoder = ctypes.c_void_p()
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        code = self._library.embedrt_create(
            ctypes.byref(config),
            tensors,
            ctypes.c_int64(len(tensors)),
            ctypes.c_void_p(None if data is None else data.ctypes.data),
            ctypes.c_int64(0 if data is None else len(data)),
            ctypes.byref(encoder),
            error,
            ctypes.c_size_t(_ERROR_BYTES),
        )
        if code != _OK:
            raise _error(code, error.value.decode(errors="replace"))
        return encoder

    def _create_kept(self, config: _Config, file: PackedFile, check: bool) -> None:
        """Use the file, and make it first where it is missing or stale; where that cannot be, pack in memory."""
        self._packed = file.map(check=check)
        try:
            if self._packed is None:
                with file.lock():
                    self._packed = file.map(check=check)  # another process may have written it meanwhile
                    if self._packed is None:
                        self._encoder = self._create(config, None)
                        file.write(self._packed_view())
                        self._packed = file.map(check=False)
        except OSError as exc:
            self.packed_reason = f"packed at every load: {file.path} cannot be written: {exc.strerror or exc}"
        if self._packed is not None:
            before, self._encoder = self._encoder, self._create(config, self._packed)
            if before is not None:
                self._library.embedrt_destroy(before)
            self.packed_reason = f"mapped from {file.path}"
        elif self._encoder is None:
            self._encoder = self._create(config, None)

    def _packed_view(self) -> memoryview:
        """The encoder's packed weights, for as long as it lives."""
        size = ctypes.c_int64()
        address = self._library.embedrt_packed(self._encoder, ctypes.byref(size))
        return memoryview((ctypes.c_char * size.value).from_address(address)).cast("B")

    @property
    def pads(self) -> bool:
        """False: texts of all lengths run side by side."""
        return False

    @property
    def description(self) -> str:
        """What runs where, e.g. "embedrt native int8, avx2, 2 threads"."""
        threads = f"{self._num_threads} thread{'s' if self._num_threads > 1 else ''}"
        return f"embedrt native {self._variant}, {self.isa}, {threads}"

    def run(self, batch: TokenBatch, *, first_token_only: bool = False) -> NDArray[np.float32]:
        """Hidden states (T, H), or each text's first row (B, H)."""
        encoder = self._encoder
        if encoder is None:
            raise ExecutorError("the embedder was closed; make a new one")
        ids = np.ascontiguousarray(batch.token_ids, dtype=np.int32)
        offsets = np.ascontiguousarray(batch.offsets, dtype=np.int32)
        if len(offsets) < 1 or offsets[-1] != len(ids):
            raise ExecutorError(f"the batch has {len(ids)} tokens, its offsets end at {offsets[-1:]}")
        rows = len(offsets) - 1 if first_token_only else len(ids)
        out = np.empty((rows, self._hidden_size), dtype=np.float32)
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        code = self._library.embedrt_run(
            encoder,
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
        """Seconds that one thread has spent in each step so far."""
        if self._encoder is None:
            return {}
        count = 32
        names, seconds = (ctypes.c_char_p * count)(), (ctypes.c_double * count)()
        found = self._library.embedrt_profile(self._encoder, names, seconds, ctypes.c_int32(count))
        return {(names[i] or b"").decode(): seconds[i] for i in range(found)}

    def close(self) -> None:
        """Free the weights."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            self._library.embedrt_destroy(encoder)
            self._mapped = self._packed = None

    def __del__(self) -> None:
        if getattr(self, "_encoder", None) is not None:
            self.close()


def _config(bundle: Bundle, variant: str, num_threads: int, isa: str) -> _Config:
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
        bfloat16=variant == BF16,
        first_value_twice=bool(settings.get("first_value_twice", False)),
        activation_zero=zero,
        layer_norm_epsilon=numbers.layer_norm_eps,
        isa=isa.encode(),
    )


@dataclass(frozen=True)
class _Mapped:
    """Files by path, and read-only views of their tensors by name."""

    files: dict[str, mmap.mmap]
    arrays: dict[str, NDArray[Any]]

    def forget_pages(self) -> None:
        """Give back what packing has read; the embeddings are kept, and come out of the page cache again."""
        for name in [name for name in self.arrays if not name.startswith("embeddings.")]:
            del self.arrays[name]
        for file in self.files.values():
            if hasattr(mmap, "MADV_DONTNEED"):
                file.madvise(mmap.MADV_DONTNEED)


def _map_tensors(bundle: Bundle, entries: tuple[TensorEntry, ...]) -> _Mapped:
    """The tensors that the module knows the types of, halves widened; each file is mapped once."""
    files: dict[str, mmap.mmap] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for entry in entries:
        if entry.dtype not in (*_DTYPES, _HALF):
            continue
        if entry.path not in files:
            files[entry.path] = _map_file(bundle.path(entry.path))
        array = _view(files[entry.path], entry)
        arrays[entry.name] = array.astype(np.float32) if entry.dtype == _HALF else array
    return _Mapped(files, arrays)


def _map_file(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as exc:  # ValueError: an empty file
        raise BundleIntegrityError(f"{path} cannot be mapped: {exc}; copy or export the bundle again") from exc


def _view(file: mmap.mmap, entry: TensorEntry) -> NDArray[Any]:
    dtype = np.dtype(entry.dtype)
    size = dtype.itemsize * int(np.prod(entry.shape, dtype=np.int64))
    inside = entry.offset >= 0 and entry.offset + entry.size <= len(file)
    if size != entry.size or not inside or entry.offset % dtype.itemsize or min(entry.shape, default=1) < 1:
        raise BundleIntegrityError(
            f"{entry.path}: tensor {entry.name}, {entry.dtype} {entry.shape} at {entry.offset}, does not fit its "
            f"{entry.size} bytes or the file's {len(file)}; copy or export the bundle again"
        )
    return np.frombuffer(file, dtype, size // dtype.itemsize, entry.offset).reshape(entry.shape)


def _as_tensors(arrays: Mapping[str, NDArray[Any]]) -> ctypes.Array[_Tensor]:
    out = (_Tensor * len(arrays))()
    for tensor, (name, array) in zip(out, arrays.items(), strict=True):
        tensor.name = name.encode()
        tensor.data = array.ctypes.data
        tensor.rows = int(np.prod(array.shape[:-1], dtype=np.int64))
        tensor.columns = array.shape[-1] if array.ndim else 1
        tensor.dtype = _DTYPES[array.dtype.name]
    return out


def _error(code: int, message: str) -> ExecutorError:
    if code == _UNSUPPORTED:
        return UnsupportedByNativeError(message)
    return ExecutorError(f"the native executor cannot load the bundle: {message}")
