"""No system is timed before its vectors were compared with PyTorch's in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from bench.process import SystemProcess
from bench.systems import SystemSpec
from bench.systems.base import Vectors

_NUM_IDS = 4  # texts that also go through encode_ids, one at a time


class NotVerified(RuntimeError):  # noqa: N818
    """The vectors are not the reference's; the system is listed with this reason and not timed."""


@dataclass(frozen=True)
class Deviation:
    """A system against PyTorch fp32 (one text at a time) on the verification texts."""

    num_texts: int
    cosine_mean: float
    cosine_min: float
    centered_mean: float  # after subtracting the reference's mean vector from both
    centered_min: float
    alone_min: float  # the system against itself: each text alone and in its batches


# Wrong pooling, a dropped input or a broken kernel, not the price of a precision: those limits are wide.
_COSINE_MEAN = {"fp32": 0.99999, "bf16": 0.999, "int8": 0.95}
_CENTERED_MEAN = {"fp32": 0.9999, "bf16": 0.99, "int8": 0.9}


def reference_vectors(process: SystemProcess, batching: str, texts: Sequence[str]) -> Vectors:
    """Each text alone, so that no padding touches it."""
    return _alone(process, batching, texts)


def verify(
    process: SystemProcess, spec: SystemSpec, texts: Sequence[str], reference: Vectors, tokenizer: Tokenizer
) -> Deviation:
    """Compare; both ways into the system, whole call and given ids, must agree with the reference.

    Raises:
        NotVerified: wrong shape, not finite, not normalized, or too far off for the system's arithmetic.
    """
    batched = process.encode_texts(texts, spec.batchings[0])
    _check_form(batched, reference)
    alone = _alone(process, spec.batchings[0], texts)
    cosines = _cosines(batched, reference)
    if spec.takes_ids:
        rows = [tokenizer.encode(text).ids for text in texts[:_NUM_IDS]]
        by_ids = np.concatenate([process.encode_ids([row]) for row in rows])
        _check_form(by_ids, reference[:_NUM_IDS])
        cosines = np.concatenate([cosines, _cosines(by_ids, reference[:_NUM_IDS])])
    mean = reference.mean(axis=0)
    centered = _cosines(batched - mean, reference - mean)
    found = Deviation(
        num_texts=len(texts),
        cosine_mean=float(cosines.mean()),
        cosine_min=float(cosines.min()),
        centered_mean=float(centered.mean()),
        centered_min=float(centered.min()),
        alone_min=float(_cosines(batched, alone).min()),
    )
    if found.cosine_mean < _COSINE_MEAN[spec.compute] or found.centered_mean < _CENTERED_MEAN[spec.compute]:
        raise NotVerified(
            f"cosine to the reference {found.cosine_mean:.5f} (centered {found.centered_mean:.5f}), "
            f"{spec.compute} must reach {_COSINE_MEAN[spec.compute]} ({_CENTERED_MEAN[spec.compute]})"
        )
    return found


def _alone(process: SystemProcess, batching: str, texts: Sequence[str]) -> Vectors:
    return np.concatenate([process.encode_texts([text], batching) for text in texts])


def _check_form(vectors: Vectors, reference: Vectors) -> None:
    if vectors.shape != reference.shape:
        raise NotVerified(f"shape {vectors.shape}, the reference has {reference.shape}")
    if not np.isfinite(vectors).all():
        raise NotVerified("NaN or infinity in the vectors")
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
        raise NotVerified("the vectors are not normalized")


def _cosines(a: Vectors, b: Vectors) -> np.ndarray:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    return (a64 * b64).sum(axis=1) / (np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1))
