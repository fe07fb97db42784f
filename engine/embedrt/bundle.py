"""The bundle contract: what export writes and the engine reads.

A bundle is a directory that is complete without network::

    manifest.json                 everything below, with sizes and sha256 of every file
    tokenizer.json
    pipeline/dense_1.npz          heads of the sentence-transformers pipeline, if there are any
    parity/texts.json, vectors.npy, report.json, report.html
    fp32/model.onnx + weights.bin     weights as external data, page-aligned
    fp16/model.onnx, model_cuda.onnx + weights.bin
    int8/model.onnx + weights.bin
    pictures/fp32/..., parity/pictures/000.png, ..., pictures.npy     of the tower for pictures, if there is one

`embedrt.manifest` has what manifest.json says.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from embedrt.errors import BundleFormatError, BundleIntegrityError, BundleNotFoundError
from embedrt.manifest import BundleFile, Manifest, Variant, find_variant, picture_tower
from embedrt.manifest_json import parse_manifest

MANIFEST_NAME = "manifest.json"
PARITY_TEXTS = "parity/texts.json"  # list of strings
PARITY_VECTORS = "parity/vectors.npy"  # float32 (N, D), the reference's vectors of those texts
_ON_LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its directory and its manifest."""

    root: Path
    manifest: Manifest

    def path(self, relative: str) -> Path:
        """The absolute path of a file that the manifest names."""
        return self.root / relative

    @property
    def pictures(self) -> Bundle | None:
        """The tower of pictures as a bundle of its own in the same directory; None where there is none."""
        tower = picture_tower(self.manifest)
        return None if tower is None else Bundle(self.root, tower)

    def variant(self, name: str) -> Variant:
        """The variant called `name`; OptionError lists those there are."""
        return find_variant(self.manifest, name)

    def files(self, variant: str | None = None) -> tuple[BundleFile, ...]:
        """The shared files, and those of one variant, or of all when `variant` is None."""
        names = self.manifest.variants if variant is None else (variant,)
        own = tuple(f for name in names for f in self.variant(name).files)
        pictures = picture_tower(self.manifest)
        others = () if pictures is None else tuple(f for name in names for f in find_variant(pictures, name).files)
        return self.manifest.files + own + others

    def check_sizes(self, variant: str | None = None) -> None:
        """Raise BundleIntegrityError if a file is missing or has another size."""
        for entry in self.files(variant):
            path = self.path(entry.path)
            if not path.is_file():
                raise BundleIntegrityError(f"{self.root}: {entry.path} is missing; copy or export the bundle again")
            size = path.stat().st_size
            if size != entry.size:
                raise BundleIntegrityError(
                    f"{self.root}: {entry.path} has {size} bytes, the manifest says {entry.size}; "
                    "the copy is incomplete, copy or export the bundle again"
                )

    def check_hashes(self, variant: str | None = None) -> None:
        """Raise BundleIntegrityError if a file's sha256 is not the manifest's. Reads every byte.

        The largest file comes first: what loads beside this may hold the GIL for long, and a file that has been begun
        does not need it.
        """
        for entry in sorted(self.files(variant), key=lambda file: -file.size):
            try:
                digest = sha256_of(self.path(entry.path))
            except OSError as exc:
                raise BundleIntegrityError(f"{self.root}: {entry.path} cannot be read: {exc.strerror or exc}") from exc
            if digest != entry.sha256:
                raise BundleIntegrityError(
                    f"{self.root}: {entry.path} does not match its sha256 in the manifest; "
                    "it was changed or damaged, copy or export the bundle again"
                )


def read_bundle(root: str | Path) -> Bundle:
    """Read the manifest of the bundle at `root` and check that its files are there in full size.

    Raises:
        BundleNotFoundError: there is no manifest.json.
        BundleFormatError: the manifest is not valid, or newer than this version reads.
        BundleIntegrityError: a file is missing or has another size.
    """
    root = Path(root)
    path = root / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleNotFoundError(_why_no_bundle(root)) from None
    except NotADirectoryError:
        raise BundleNotFoundError(f"{root} is a file; a bundle is a directory with a {MANIFEST_NAME}") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise BundleFormatError(f"{path} cannot be read: {exc}") from exc
    bundle = Bundle(root.absolute(), parse_manifest(text, str(path)))
    bundle.check_sizes()
    return bundle


def _why_no_bundle(root: Path) -> str:
    if (root / "config.json").is_file():
        return f"{root} is a model, not a bundle; make one of it with 'embedrt export {root} BUNDLE'"
    if root.exists():
        return f"{root} is not a bundle: there is no {MANIFEST_NAME} in it"
    bare = "; a name has its owner before it, such as intfloat/multilingual-e5-small" if len(root.parts) == 1 else ""
    return f"{root} is not there; 'embedrt export MODEL {root}' makes a bundle{bare}"


def describe_file(root: Path, relative: str) -> BundleFile:
    """Size and sha256 of a file, for the manifest."""
    path = root / relative
    return BundleFile(relative, path.stat().st_size, sha256_of(path))


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes, all in one step that does not hold the GIL.

    Raises:
        OSError: it cannot be read to its end.
    """
    with path.open("rb", buffering=0) as stream:
        if os.fstat(stream.fileno()).st_size == 0:  # cannot be mapped
            return hashlib.sha256().hexdigest()
        _read_through(stream)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            return hashlib.sha256(whole).hexdigest()


def _read_through(stream: FileIO) -> None:
    """Bring the whole file into memory once: a disk that fails is an OSError here, and the end of the process where the
    file is mapped. Linux does it in 0.06 s per gigabyte, and copies nothing."""
    size, at = os.fstat(stream.fileno()).st_size, 0
    if _ON_LINUX:
        with Path(os.devnull).open("wb") as nowhere:
            while at < size and (count := os.sendfile(nowhere.fileno(), stream.fileno(), at, size - at)):
                at += count
        return
    buffer = bytearray(1 << 20)
    while stream.readinto(buffer):
        pass
