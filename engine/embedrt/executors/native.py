"""The native executor: the C++ module runs int8 weights, or fp32 ones rounded to bfloat16, of any encoder's spec."""

from __future__ import annotations

import ctypes
import logging
import mmap
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.encoder import EncoderSpec
from embedrt.errors import ExecutorError, OptionError, UnsupportedByNativeError
from embedrt.executors import Batch, Want
from embedrt.executors.library import NativeEncoder, available_isas, faulty_isas, load_library
from embedrt.executors.mapped import Mapped, map_tensors
from embedrt.executors.packed import PackedFile, data_size, packed_file
from embedrt.executors.structs import Running
from embedrt.executors.trust import UntrustedError
from embedrt.format1 import check_complete, encoder_of_format_1
from embedrt.machine import available_threads
from embedrt.manifest import BF16, TensorEntry

__all__ = ["PORTABLE", "VARIANTS", "NativeExecutor", "available_isas", "encoder_of", "load_library", "runs_natively"]

VARIANTS = ("int8", BF16)
PORTABLE = "portable"  # plain C++: right on every machine, and slower than ONNX Runtime

_CENTRE = 128  # zero point of rows of both signs
_FIRST_ACTIVATION_ZERO = 16  # of bundles from before the recipe said it
_WORDS = "words."  # of a head (embedrt.words)
_COPY = ".of."  # in the name of a tensor that is another's equal
_TRUST_CURE = "'chmod go-w' it, or take a folder of your own"


@cache
def _warn_of_faults(library: ctypes.CDLL) -> None:
    """Say in the log, once per process, which instruction sets failed their check; the next one is taken."""
    for isa, kernel in faulty_isas(library).items():
        logging.getLogger("embedrt").warning(
            "the instruction set %s is not used: on this machine its kernel %s does not compute what the portable one "
            "does; please report this with the output of 'embedrt info'",
            isa,
            kernel,
        )


class NativeExecutor:
    """Runs int8 or bf16 of a bundle."""

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
        spec, running = encoder_of(bundle, variant), _running(bundle, variant, num_threads, available, isa)
        self._library = load_library()
        _warn_of_faults(self._library)
        self._variant = variant
        self._num_threads = num_threads
        self.packed_reason = "packed at every load"
        self.packed_files: tuple[Path, ...] = ()  # that this encoder has mapped
        mapped = map_tensors(bundle, _own(bundle.variant(variant).tensors))  # the embeddings are read where they are
        if bundle.manifest.encoder is None:
            check_complete(bundle.manifest.architecture, mapped.arrays)
        load = partial(_load, self._library, spec, running, mapped)
        chosen = self._library.embedrt_isa_chosen(isa.encode())
        try:
            if packed_cache is not False and chosen is not None:
                folder = packed_cache if isinstance(packed_cache, Path) else None
                file = packed_file(bundle, variant, chosen.decode(), Path(self._library._name), folder)
                encoder = self._load_kept(load, file, check=check_packed, named=folder is not None)
            else:
                encoder = load(None)
        finally:
            mapped.forget_pages()
        self.isa = encoder.isa
        self.encoder: NativeEncoder | None = encoder  # None once it was closed

    def _load_kept(self, load: _Load, file: PackedFile, *, check: bool, named: bool) -> NativeEncoder:
        """Use the file, and make it first where it is missing or stale; where that cannot be, pack in memory.

        A folder that others may write to is an error only where the caller `named` it: he means it to be used.
        """
        encoder: NativeEncoder | None = None
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
        self.packed_files = (file.path,)
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

    def run(self, batch: Batch, *, want: Want = "all") -> NDArray[np.float32]:
        """Hidden states (T, H), or a row for each text or picture (B, H)."""
        return self._opened().run(batch, want)

    def profile(self) -> dict[str, float]:
        """Seconds that the callers' own threads have spent in each part so far; of one thread in each call."""
        return {} if self.encoder is None else self.encoder.profile()

    def close(self) -> None:
        """Let go of the weights: they are freed at once, or by the last call that runs."""
        self.encoder = None

    def _opened(self) -> NativeEncoder:
        encoder = self.encoder
        if encoder is None:
            raise ExecutorError("the embedder was closed; make a new one")
        return encoder


def runs_natively(bundle: Bundle, variant: str) -> bool:
    """Whether the variant and the model are of the kind that the module runs, whatever this machine has."""
    try:
        encoder_of(bundle, variant)
    except UnsupportedByNativeError:
        return False
    return True


def encoder_of(bundle: Bundle, variant: str) -> EncoderSpec:
    """What the variant computes.

    Raises:
        UnsupportedByNativeError: it is not one that the module runs, or the bundle does not say it.
    """
    spec = bundle.manifest.encoder
    of_table = (*VARIANTS, "fp32") if spec is not None and not spec.blocks else VARIANTS  # which has no products
    if variant not in of_table:
        raise UnsupportedByNativeError(f"it runs {' and '.join(VARIANTS)}, not {variant}")
    if spec is not None:
        return spec
    names = {entry.name for entry in bundle.variant(variant).tensors}
    return encoder_of_format_1(bundle.manifest.architecture, has_token_types="embeddings.token_type" in names)


def _running(bundle: Bundle, variant: str, num_threads: int, available: int | None, isa: str) -> Running:
    settings = bundle.variant(variant).recipe.get("settings", {})
    zero = settings.get("activation_zero", _FIRST_ACTIVATION_ZERO)
    if not isinstance(zero, int) or not 0 < zero < _CENTRE:
        raise UnsupportedByNativeError(f"the recipe's activation_zero is {zero!r}, the kernels take 1 to {_CENTRE - 1}")
    return Running(
        num_threads=num_threads,
        available_threads=available_threads() if available is None else available,
        bfloat16=variant == BF16,
        first_value_twice=bool(settings.get("first_value_twice", False)),
        activation_zero=zero,
        isa=isa,
    )


def _own(entries: tuple[TensorEntry, ...]) -> tuple[TensorEntry, ...]:
    """The encoder's, without the other names that graphs have for weights of repeated blocks (`Builder.product` of the
    exporter)."""
    return tuple(entry for entry in entries if _COPY not in entry.name and not entry.name.startswith(_WORDS))


class _Load(Protocol):
    def __call__(self, packed: mmap.mmap | None) -> NativeEncoder: ...


def _load(
    library: ctypes.CDLL, spec: EncoderSpec, running: Running, mapped: Mapped, packed: mmap.mmap | None
) -> NativeEncoder:
    known = None if packed is None else (packed, data_size(packed))
    return NativeEncoder(library, spec, running, mapped.arrays, known)
