"""Which variant runs on a device, and which executor runs it: native where it can, else ONNX Runtime, and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from embedrt.bundle import Bundle
from embedrt.errors import DependencyError, OptionError, UnsupportedByNativeError
from embedrt.executors import Executor
from embedrt.executors.native import PORTABLE, NativeExecutor, available_isas, load_library, runs_natively
from embedrt.manifest import BF16

EXECUTORS = ("auto", "native", "onnxruntime")
_VARIANT_ORDER = {"cpu": ("int8", "fp32", "fp16"), "cuda": ("fp16", "fp32", "int8")}


@dataclass(frozen=True)
class Chosen:
    """A loaded executor, its name out of EXECUTORS, why it is this one, and the packed weights that it has mapped."""

    executor: Executor
    name: str
    reason: str
    packed_files: tuple[Path, ...] = ()


def choose_variant(bundle: Bundle, variant: str, device: str) -> str:
    """The variant that "auto" means on `device` ("cpu" or "cuda"); any other name if the bundle has it."""
    if variant != "auto":
        bundle.variant(variant)
        return variant
    return next(name for name in _VARIANT_ORDER[device] if name in bundle.manifest.variants)


def load_executor(
    bundle: Bundle,
    variant: str,
    *,
    device: str,
    num_threads: int,
    executor: str,
    isa: str,
    packed_cache: bool | Path = False,
    check_packed: bool = True,
) -> Chosen:
    """Load the executor that `executor` means.

    Args:
        bundle, variant: what to run.
        device: "cpu" or "cuda".
        num_threads: of the executor.
        executor: "native", "onnxruntime", or "auto": native where it runs this variant here, else ONNX Runtime.
        isa: of the native executor: "auto", or one of `available_isas`.
        packed_cache, check_packed: as NativeExecutor takes them.

    Raises:
        OptionError: no such executor, or bf16 elsewhere than on the native one.
        UnsupportedByNativeError: "native" was asked for and does not run this variant, model or machine.
        DependencyError: "native" was asked for and is not installed.
        ExecutorError: the executor cannot load the variant.
    """
    check_executor(executor)
    if variant == BF16:
        if executor == "onnxruntime" or device != "cpu":
            raise OptionError(f"variant {BF16!r} runs on CPUs and the native executor only; take fp16 or fp32")
        executor = "native"
    if executor == "onnxruntime":
        return Chosen(_onnxruntime(bundle, variant, device, num_threads), "onnxruntime", "asked for")
    try:
        _check(device, isa, forced=executor == "native")
        native = NativeExecutor(
            bundle, variant, num_threads=num_threads, isa=isa, packed_cache=packed_cache, check_packed=check_packed
        )
    except (UnsupportedByNativeError, DependencyError) as exc:
        if executor == "native":
            raise
        lost = isinstance(exc, DependencyError)
        if lost and runs_natively(bundle, variant) and device == "cpu":
            _warn_once(variant, str(exc))
        reason = str(exc) if lost else f"the native executor does not run this: {exc}"
        return Chosen(_onnxruntime(bundle, variant, device, num_threads), "onnxruntime", reason)
    why = "asked for" if executor == "native" else "the fastest for this variant here"
    reason = f"{why}; weights {native.packed_reason}" if packed_cache is not False else why
    return Chosen(native, "native", reason, native.packed_files)


@cache
def _warn_once(variant: str, reason: str) -> None:
    """Say in the log, once per process, what an install without the native module costs."""
    logging.getLogger("embedrt").warning(
        "%s runs on ONNX Runtime, at a third of the native executor's speed or so: %s", variant, reason
    )


def check_executor(executor: str) -> None:
    """Raise OptionError unless `executor` is one of EXECUTORS."""
    if executor not in EXECUTORS:
        raise OptionError(f"executor must be one of {', '.join(EXECUTORS)}, not {executor!r}")


def _check(device: str, isa: str, *, forced: bool) -> None:
    if device != "cpu":
        raise UnsupportedByNativeError(f"it runs on CPUs, not on {device}")
    isas = available_isas(load_library())
    if isa != "auto" and isa not in isas:
        raise OptionError(f"isa must be one of auto, {', '.join(isas)}, not {isa!r}")
    fast = [name for name, available in isas.items() if available and name != PORTABLE]
    if isa == "auto" and not fast and not forced:
        others = ", ".join(name for name in isas if name != PORTABLE) or "none for this architecture"
        raise UnsupportedByNativeError(f"this processor has none of its instruction sets ({others})")


def _onnxruntime(bundle: Bundle, variant: str, device: str, num_threads: int) -> Executor:
    from embedrt.executors.onnxruntime import OnnxRuntimeExecutor  # it imports onnxruntime, which not all need

    return OnnxRuntimeExecutor(bundle, variant, device=device, num_threads=num_threads)
