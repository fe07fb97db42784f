"""The files that a bundle keeps for parity: its texts, and the reference's vectors of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import PARITY_TEXTS, PARITY_VECTORS, Bundle
from embedrt.errors import BundleFormatError, BundleIntegrityError, OptionError

PARITY_PICTURES = "parity/pictures"  # folder of the pictures, in the order of their names
PARITY_PICTURE_VECTORS = "parity/pictures.npy"  # float32 (N, D), the reference's vectors of them


@dataclass(frozen=True)
class ParityFiles:
    """The texts that a bundle keeps, and the reference's vectors of them."""

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]  # (N, D)


def write_parity_files(root: Path, texts: Sequence[str], vectors: NDArray[Any]) -> tuple[str, str]:
    """Write a bundle's parity texts and reference vectors (N, D).

    Returns:
        The paths written, relative to `root`, for the manifest.
    """
    check_counts(len(texts), vectors)
    write_parity_texts(root, texts)
    np.save(root / PARITY_VECTORS, np.ascontiguousarray(vectors, dtype=np.float32), allow_pickle=False)
    return PARITY_TEXTS, PARITY_VECTORS


def write_parity_texts(root: Path, texts: Sequence[str]) -> None:
    """Write a bundle's parity texts."""
    (root / PARITY_TEXTS).parent.mkdir(parents=True, exist_ok=True)
    # ASCII, so that control and directional characters are visible as escapes and survive any editor.
    (root / PARITY_TEXTS).write_text(json.dumps(list(texts), indent=0) + "\n", encoding="ascii")


def read_parity_texts(bundle: Bundle) -> tuple[str, ...]:
    """The texts that a bundle keeps.

    Raises:
        BundleIntegrityError: it lacks them.
        BundleFormatError: they are no list of strings.
    """
    try:
        texts = json.loads(bundle.path(PARITY_TEXTS).read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise _missing(bundle, exc) from exc
    except (OSError, ValueError) as exc:
        raise BundleFormatError(f"{bundle.root}: the parity files cannot be read: {exc}") from exc
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BundleFormatError(f"{bundle.root}: {PARITY_TEXTS} must be a list of strings")
    return tuple(texts)


def _missing(bundle: Bundle, exc: FileNotFoundError) -> BundleIntegrityError:
    return BundleIntegrityError(
        f"{bundle.root} lacks {Path(str(exc.filename)).relative_to(bundle.root)}; export the bundle again, "
        "or compare with the model itself: embedrt verify BUNDLE --against MODEL"
    )


def write_picture_vectors(root: Path, vectors: NDArray[Any]) -> None:
    """Write the reference's vectors (N, D) of the pictures in PARITY_PICTURES."""
    np.save(root / PARITY_PICTURE_VECTORS, np.ascontiguousarray(vectors, dtype=np.float32), allow_pickle=False)


def read_parity_pictures(bundle: Bundle) -> ParityFiles:
    """The paths of the pictures that a bundle keeps, relative to it, and the reference's vectors of them.

    Raises:
        BundleIntegrityError: the bundle lacks them.
        BundleFormatError: they are not what they must be.
    """
    names = tuple(sorted(file.path for file in bundle.manifest.files if file.path.startswith(f"{PARITY_PICTURES}/")))
    return ParityFiles(names, _read_vectors(bundle, PARITY_PICTURE_VECTORS, len(names)))


def read_parity_files(bundle: Bundle) -> ParityFiles:
    """Read what `write_parity_files` wrote.

    Raises:
        BundleIntegrityError: the bundle lacks them.
        BundleFormatError: they are not what they must be.
    """
    texts = read_parity_texts(bundle)
    return ParityFiles(texts, _read_vectors(bundle, PARITY_VECTORS, len(texts)))


def _read_vectors(bundle: Bundle, path: str, count: int) -> NDArray[np.float32]:
    try:
        vectors = np.load(bundle.path(path), allow_pickle=False)
    except FileNotFoundError as exc:
        raise _missing(bundle, exc) from exc
    except (OSError, ValueError, EOFError) as exc:
        raise BundleFormatError(f"{bundle.root}: the parity files cannot be read: {exc}") from exc
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.ndim != 2:
        raise BundleFormatError(f"{bundle.root}: {path} must be a float32 array (N, D)")
    if count != len(vectors) or not count:
        what = "texts" if path == PARITY_VECTORS else "pictures"
        raise BundleFormatError(f"{bundle.root}: there are {count} parity {what} and {len(vectors)} vectors")
    return vectors


def check_counts(count: int, vectors: NDArray[Any]) -> None:
    """Raise OptionError unless `vectors` are (N, D) of `count` texts, at least one."""
    if count == 0 or vectors.ndim != 2 or len(vectors) != count:
        raise OptionError(f"{count} texts and reference vectors of shape {vectors.shape} do not belong together")
