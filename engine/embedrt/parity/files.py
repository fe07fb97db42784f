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
    (root / PARITY_TEXTS).parent.mkdir(parents=True, exist_ok=True)
    # ASCII, so that control and directional characters are visible as escapes and survive any editor.
    (root / PARITY_TEXTS).write_text(json.dumps(list(texts), indent=0) + "\n", encoding="ascii")
    np.save(root / PARITY_VECTORS, np.ascontiguousarray(vectors, dtype=np.float32), allow_pickle=False)
    return PARITY_TEXTS, PARITY_VECTORS


def read_parity_files(bundle: Bundle) -> ParityFiles:
    """Read what `write_parity_files` wrote.

    Raises:
        BundleIntegrityError: the bundle lacks them.
        BundleFormatError: they are not what they must be.
    """
    try:
        texts = json.loads(bundle.path(PARITY_TEXTS).read_text(encoding="utf-8"))
        vectors = np.load(bundle.path(PARITY_VECTORS), allow_pickle=False)
    except FileNotFoundError as exc:
        raise BundleIntegrityError(
            f"{bundle.root} lacks {Path(str(exc.filename)).relative_to(bundle.root)}; export the bundle again, "
            "or compare with the model itself: embedrt verify BUNDLE --against MODEL"
        ) from exc
    except (OSError, ValueError, EOFError) as exc:
        raise BundleFormatError(f"{bundle.root}: the parity files cannot be read: {exc}") from exc
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BundleFormatError(f"{bundle.root}: {PARITY_TEXTS} must be a list of strings")
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.ndim != 2:
        raise BundleFormatError(f"{bundle.root}: {PARITY_VECTORS} must be a float32 array (N, D)")
    if len(texts) != len(vectors) or not texts:
        raise BundleFormatError(f"{bundle.root}: there are {len(texts)} parity texts and {len(vectors)} vectors")
    return ParityFiles(tuple(texts), vectors)


def check_counts(count: int, vectors: NDArray[Any]) -> None:
    """Raise OptionError unless `vectors` are (N, D) of `count` texts, at least one."""
    if count == 0 or vectors.ndim != 2 or len(vectors) != count:
        raise OptionError(f"{count} texts and reference vectors of shape {vectors.shape} do not belong together")
