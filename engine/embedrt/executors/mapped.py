"""The weights of a variant, mapped from its files."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.errors import BundleIntegrityError, UnsupportedByNativeError
from embedrt.manifest import TensorEntry

DTYPES = {"float32": 0, "int8": 1, "int32": 2}
"""What the native module takes, and how it calls them."""
_HALF = "float16"
_KNOWN = ", ".join((*DTYPES, _HALF))


@dataclass(frozen=True)
class Mapped:
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


def map_tensors(bundle: Bundle, entries: tuple[TensorEntry, ...]) -> Mapped:
    """All tensors, halves widened; each file is mapped once.

    Raises:
        UnsupportedByNativeError: a tensor has a type that the module does not know.
        BundleIntegrityError: a tensor does not lie where the manifest says.
    """
    files: dict[str, mmap.mmap] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for entry in entries:
        if entry.dtype not in (*DTYPES, _HALF):
            raise UnsupportedByNativeError(f"tensor {entry.name} is {entry.dtype}, not one of {_KNOWN}")
        if entry.path not in files:
            files[entry.path] = _map_file(bundle.path(entry.path))
        array = _view(files[entry.path], entry)
        arrays[entry.name] = array.astype(np.float32) if entry.dtype == _HALF else array
    return Mapped(files, arrays)


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
