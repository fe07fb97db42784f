"""The native module's C door: the library, and an encoder that it holds."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import EncoderSpec, Patches
from embedrt.errors import DependencyError, ExecutorError, UnsupportedByNativeError
from embedrt.executors import Batch, PatchBatch, TokenBatch, Want
from embedrt.executors.structs import Running, as_config, as_tensors, patch_width

_PLACE = "embedrt/executors/_native.so"
LIBRARY = Path(__file__).with_name("_native.so")

_ABI = 15
_OK, _UNSUPPORTED = 0, 1
ERROR_BYTES = 512
WANTS_OF_MODULE: dict[Want, int] = {"all": 0, "first": 1, "last": 2, "mean": 3}


def load_library(path: Path | None = None) -> ctypes.CDLL:
    """The native module at `path`, by default the installed one.

    Raises:
        DependencyError: it was not built, cannot be loaded here, or is of another version.
    """
    return _load(path or _find_library())


@cache  # each object that ctypes makes of a library has types of its own, which a process should not gather
def _load(path: Path) -> ctypes.CDLL:
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
    library.embedrt_isa_fault.restype = ctypes.c_char_p
    library.embedrt_isa_chosen.restype = ctypes.c_char_p
    library.embedrt_packed.restype = ctypes.c_void_p
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.embedrt_tokenize_one.argtypes = (pointer, ctypes.c_char_p, number, pointer, number)  # cheaper than casts
    library.embedrt_tokenize_one.restype = number
    library.embedrt_embed_text.argtypes = (pointer, ctypes.c_char_p, number, pointer)
    library.embedrt_embed_text.restype = number
    library.embedrt_normalize.restype = None
    return library


def take_half(half: bool) -> None:
    """Have native calls of this thread take half of an encoder's threads from now on, or all of them again.

    So two run side by side. A row's bits do not depend on it. Other executors know nothing of it.
    """
    load_library().embedrt_take_half(int(half))


def _find_library() -> Path:
    """Beside this file, or in site-packages: an editable install leaves the sources where they are."""
    if LIBRARY.is_file() or LIBRARY.parent != Path(__file__).parent:
        return LIBRARY
    from importlib import metadata  # a tenth of the time that all imports take, and seldom needed

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


def faulty_isas(library: ctypes.CDLL, *, every: bool = False) -> dict[str, str]:
    """Instruction sets that this machine has and that fail their check here, and the kernel that was wrong.

    Args:
        every: also those that are not as good as the best that passes, which need not be checked.
    """
    found: dict[str, str] = {}
    for i, (name, available) in enumerate(available_isas(library).items()):
        if (kernel := library.embedrt_isa_fault(i)) is not None:
            found[name] = kernel.decode()
        elif available and not every:
            break
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
        self.library = library
        self._hidden_size = spec.hidden_size
        self._patches = spec.patches
        if spec.patches is not None:
            arrays = {name: _wide_patches(name, array, spec.patches) for name, array in arrays.items()}
        data = None if packed is None else np.frombuffer(packed[0], np.uint8, packed[1])
        self._kept = ({name: array for name, array in arrays.items() if name.startswith("embeddings.")}, data)
        tensors = as_tensors(arrays)
        config = as_config(spec, running)
        self.handle = ctypes.c_void_p()
        error = ctypes.create_string_buffer(ERROR_BYTES)
        code = library.embedrt_create(
            ctypes.byref(config),
            tensors,
            ctypes.c_int64(len(tensors)),
            ctypes.c_void_p(None if data is None else data.ctypes.data),
            ctypes.c_int64(0 if data is None else len(data)),
            ctypes.byref(self.handle),
            error,
            ctypes.c_size_t(ERROR_BYTES),
        )
        if code != _OK:
            raise native_error(code, error.value.decode(errors="replace"))

    def __del__(self) -> None:
        if self.handle:
            self.library.embedrt_destroy(self.handle)

    @property
    def isa(self) -> str:
        """The instruction set that it is packed for."""
        name: str = self.library.embedrt_isa_of(self.handle).decode()
        return name

    def packed_view(self) -> memoryview:
        """The packed weights, for as long as the encoder lives."""
        size = ctypes.c_int64()
        address = self.library.embedrt_packed(self.handle, ctypes.byref(size))
        return memoryview((ctypes.c_char * size.value).from_address(address)).cast("B")

    def run(self, batch: Batch, want: Want = "all") -> NDArray[np.float32]:
        """Hidden states (T, H), or one row of each text or picture (B, H), or their mean.

        Raises:
            ExecutorError: the batch is not one, has tokens that are none, texts that are too long, a token type that
                the model has not, or other patches.
        """
        return self._run_texts(batch, want) if isinstance(batch, TokenBatch) else self._run_pictures(batch, want)

    def _run_pictures(self, batch: PatchBatch, want: Want) -> NDArray[np.float32]:
        patches, pixels = self._patches, batch.pixels
        if patches is None or pixels.ndim != 3 or pixels.shape[1:] != (patches.count, patches.size):
            raise ExecutorError(f"the encoder does not read patches of the shape {pixels.shape}")
        first = int(patches.has_first_row)
        rows = np.zeros((len(pixels), first + patches.count, patch_width(patches)), np.float32)
        rows[:, first:, : patches.size] = pixels
        count = rows.shape[0] * rows.shape[1] if want == "all" else len(rows)
        out = np.empty((count, self._hidden_size), dtype=np.float32)
        self._call("embedrt_run_pictures", ctypes.c_void_p(rows.ctypes.data), len(rows), want, out)
        return out

    def _run_texts(self, batch: TokenBatch, want: Want) -> NDArray[np.float32]:
        ids = np.ascontiguousarray(batch.token_ids, dtype=np.int32)
        offsets = np.ascontiguousarray(batch.offsets, dtype=np.int32)
        if len(offsets) < 1 or offsets[-1] != len(ids):
            raise ExecutorError(f"the batch has {len(ids)} tokens, its offsets end at {offsets[-1:]}")
        keys = None if batch.keys is None else np.ascontiguousarray(batch.keys, dtype=np.int32)
        if keys is not None and len(keys) != len(offsets) - 1:
            raise ExecutorError(f"the batch has {len(offsets) - 1} texts, and says of {len(keys)} what they see")
        rows = len(ids) if want == "all" else len(offsets) - 1
        seconds = None if batch.seconds is None else np.ascontiguousarray(batch.seconds, dtype=np.int32)
        if seconds is not None and len(seconds) != len(offsets) - 1:
            raise ExecutorError(f"the batch has {len(offsets) - 1} texts, and {len(seconds)} places of second parts")
        out = np.empty((rows, self._hidden_size), dtype=np.float32)
        read = [ids, offsets, keys, seconds]
        pointers = (None if part is None else ctypes.c_void_p(part.ctypes.data) for part in read)
        self._call("embedrt_run", *pointers, len(offsets) - 1, want, out)
        return out

    def _call(self, function: str, *arguments: Any) -> None:
        """`function` of the batch's pointers, the number of texts or pictures, what is wanted, and where it goes."""
        *read, count, want, out = arguments
        error = ctypes.create_string_buffer(ERROR_BYTES)
        code = getattr(self.library, function)(
            self.handle,
            *read,
            ctypes.c_int32(count),
            ctypes.c_int32(WANTS_OF_MODULE[want]),
            ctypes.c_void_p(out.ctypes.data),
            error,
            ctypes.c_size_t(ERROR_BYTES),
        )
        if code != _OK:
            raise ExecutorError(f"the native executor failed: {error.value.decode(errors='replace')}")

    def profile(self) -> dict[str, float]:
        """Seconds that the callers' own threads have spent in each part so far."""
        count = 32
        names, seconds = (ctypes.c_char_p * count)(), (ctypes.c_double * count)()
        found = self.library.embedrt_profile(self.handle, names, seconds, ctypes.c_int32(count))
        return {(names[i] or b"").decode(): seconds[i] for i in range(found)}


def native_error(code: int, message: str) -> ExecutorError:
    """What a code of the module's loading means."""
    if code == _UNSUPPORTED:
        return UnsupportedByNativeError(message)
    return ExecutorError(f"the native executor cannot load the bundle: {message}")


def _wide_patches(name: str, array: NDArray[Any], patches: Patches) -> NDArray[Any]:
    """The patches' weight with zeros below, as wide as the module reads patches; others as they are."""
    missing = patch_width(patches) - patches.size
    return np.pad(array, ((0, missing), (0, 0))) if name == "embeddings.patch.weight" and missing else array
