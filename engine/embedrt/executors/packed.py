"""Packed weights kept in a file: a later load need not pack, and processes share the memory.

The file holds what the native module packed, and a footer that says for what, and its sha256. It is written under
another name first, so it is whole or absent; a file that does not fit is made anew.

Whoever can write the file decides what every vector will be, and its own sha256 says nothing against that. So folder
and file are used only where nobody but this user and root may write them (`embedrt.executors.trust`).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from embedrt import locks
from embedrt.bundle import Bundle, sha256_of
from embedrt.executors.trust import UntrustedFolderError, create_new, open_or_create, open_trusted, trusted_folder
from embedrt.options import hash_of

FOLDER = ".packed"  # in the bundle, unless another is named

_MAGIC = b"embedrt packed 1"
_SLACK = 256  # the kernels read up to one vector past the end
_FOOTER = struct.Struct(f"<{_SLACK}x16s64s64sQ")  # magic, key, sha256 of the data, bytes of the data


@dataclass(frozen=True)
class PackedFile:
    """Where the packed weights of one variant for one instruction set are kept."""

    path: Path
    key: str  # hex sha256 over everything that the bytes depend on

    def map(self, *, check: bool) -> mmap.mmap | None:
        """The file, mapped; None if it is not there, not what `key` stands for, or writable by others.

        Args:
            check: compare the data with their sha256 too. Reads every byte.

        Raises:
            UntrustedFolderError: others may write to the folder.
        """
        try:
            with trusted_folder(self.path.parent) as folder, open_trusted(folder, self.path.name) as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except UntrustedFolderError:
            raise
        except (OSError, ValueError):  # ValueError: an empty file
            return None
        if self._fits(mapped, check):
            return mapped
        mapped.close()
        return None

    def _fits(self, mapped: mmap.mmap, check: bool) -> bool:
        size = data_size(mapped)
        if size < 0:
            return False
        magic, key, digest, said = _FOOTER.unpack_from(mapped, size)
        if (magic, key, said) != (_MAGIC, self.key.encode(), size):
            return False
        with memoryview(mapped) as data, data[:size] as weights:
            return not check or _sha256(weights) == digest

    def write(self, data: memoryview) -> None:
        """Write the file whole or not at all. Call it with `lock` held, which makes the folder.

        Raises:
            OSError: it cannot be written.
        """
        partial = self.path.with_suffix(".partial").name
        with trusted_folder(self.path.parent) as folder:
            with suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=folder)  # of a process that was killed, or somebody's link
            try:
                with create_new(folder, partial) as stream:
                    stream.write(data)
                    stream.write(_FOOTER.pack(_MAGIC, self.key.encode(), _sha256(data), len(data)))
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(partial, self.path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                with suppress(OSError):
                    os.unlink(partial, dir_fd=folder)
                raise

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the file's lock, which ends with its process. Makes the folder, for this user alone to write.

        Raises:
            UntrustedFolderError: others may write to the folder.
            OSError: the folder cannot be written to, or the system has no such locks (Windows).
        """
        if not locks.available():
            raise OSError("this system has no file locks that end with their process")
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (
            trusted_folder(self.path.parent) as folder,
            open_or_create(folder, self.path.with_suffix(".lock").name) as stream,
        ):
            locks.hold(stream.fileno())
            yield


def packed_file(bundle: Bundle, variant: str, isa: str, library: Path, folder: Path | None = None) -> PackedFile:
    """The file for `variant` on `isa` as the native module at `library` packs it; in `folder`, else in the bundle's."""
    entry = bundle.variant(variant)
    encoder = bundle.manifest.encoder
    said = asdict(bundle.manifest.architecture), None if encoder is None else asdict(encoder)
    parts = (sha256_of(library), isa, *said, asdict(entry))
    key = hash_of(parts)
    if folder is None:
        name = "-".join([*entry.graph.split("/")[:-2], variant])  # "pictures-int8" of the other tower
        return PackedFile(bundle.root / FOLDER / f"{name}-{isa}.bin", key)
    return PackedFile(folder / f"{key[:16]}-{isa}.bin", key)  # many bundles may share it


def data_size(mapped: mmap.mmap) -> int:
    """Bytes before the footer; negative for a file that is too short to have one."""
    return len(mapped) - _FOOTER.size


def _sha256(data: memoryview) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
