"""Where the encoder can run. onnxruntime is imported only where that cannot be said without it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from embedrt.errors import DependencyError, OptionError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
DEVICES = ("auto", *PROVIDERS)
_CUDA_LIBRARIES = ("libonnxruntime_providers_cuda.so", "onnxruntime_providers_cuda.dll")


def choose_device(device: str) -> str:
    """ "cpu" or "cuda": `device` itself if onnxruntime has it, or for "auto" the best it has.

    Raises:
        OptionError: no such device.
        DependencyError: this onnxruntime has no provider for it.
    """
    if device not in DEVICES:
        raise OptionError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
    if device == "cpu" or (device == "auto" and not _may_have_cuda()):
        return "cpu"
    available = available_providers()
    if device == "auto":
        return "cuda" if PROVIDERS["cuda"] in available else "cpu"
    if PROVIDERS[device] not in available:
        raise DependencyError(
            f"device {device!r} needs onnxruntime's {PROVIDERS[device]}, this one has {', '.join(available)}; "
            "pip uninstall -y onnxruntime && pip install 'embedrt[gpu]'"
        )
    return device


def available_providers() -> tuple[str, ...]:
    """What the installed onnxruntime can run on. Imports it, which takes a tenth of a second and 22 MB."""
    import onnxruntime

    return tuple(onnxruntime.get_available_providers())


def _may_have_cuda() -> bool:
    """Whether the library of the CUDA provider lies in onnxruntime's folder; only onnxruntime-gpu brings it."""
    found = find_spec("onnxruntime")
    folders = found.submodule_search_locations if found is not None else None
    return any((Path(folder) / "capi" / name).is_file() for folder in folders or () for name in _CUDA_LIBRARIES)
