"""Sparse vectors and vectors of tokens against those of the model's own library, and the limits that they must keep.

A text's sparse vector is compared whole: the cosine, the largest difference of a weight, and how many of its ten
strongest words are the same. Vectors of tokens are compared token by token, and by the scores that they give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.errors import BundleFormatError, BundleIntegrityError
from embedrt.maxsim import maxsim
from embedrt.model import Model
from embedrt.parity.files import read_parity_texts
from embedrt.parity.gates import INVARIANCE_MIN_COSINE, RELATIONS, Gate
from embedrt.parity.report import OutputReport
from embedrt.prompting import document_prompt, query_prompt
from embedrt.sparse_vectors import SparseVector, SparseVectors, norms
from embedrt.tokenization import TextTokenizer

Floats = NDArray[np.float32]

SPARSE_FILE, TOKENS_FILE = "parity/sparse.npz", "parity/tokens.npz"
TOKEN_TEXTS = (
    48  # of the bundle's texts, whose vectors of tokens it keeps: all of BGE-M3's would be a hundred megabytes
)
TOKEN_LENGTH = 128  # characters; longer texts are not among them
TOP_WORDS = 10
_WORTH = 0.1  # of a text's largest weight, or of a median length; what is under it comes and goes with the last bits

GATES: dict[str, dict[str, tuple[Gate, ...]]] = {
    "sparse": {
        "fp32": (
            Gate("cosine_min", ">=", 0.999999),
            Gate("max_rel_diff", "<=", 1e-3),
            Gate("top10_overlap", ">=", 0.995),
        ),
        "fp16": (Gate("cosine_min", ">=", 0.9999), Gate("top10_overlap", ">=", 0.98)),
        "bf16": (Gate("cosine_min", ">=", 0.9995), Gate("top10_overlap", ">=", 0.97)),
        "int8": (
            Gate("cosine_min", ">=", 0.98),
            Gate("cosine_mean", ">=", 0.995),
            Gate("max_rel_diff", "<=", 0.2),
            Gate("top10_overlap", ">=", 0.85),
        ),
    },
    "tokens": {
        "fp32": (Gate("cosine_min", ">=", 0.999999), Gate("score_error", "<=", 1e-4)),
        "fp16": (Gate("cosine_min", ">=", 0.9999), Gate("score_error", "<=", 5e-3)),
        "bf16": (Gate("cosine_min", ">=", 0.999), Gate("score_error", "<=", 1e-2)),
        "int8": (Gate("cosine_p01", ">=", 0.98), Gate("cosine_mean", ">=", 0.995), Gate("score_error", "<=", 0.03)),
    },
}
"""Output -> variant -> limits of its figures."""


def token_texts(texts: Sequence[str]) -> list[int]:
    """Which of the texts have their vectors of tokens kept: short ones, spread over all."""
    short = [i for i, text in enumerate(texts) if len(text) <= TOKEN_LENGTH]
    return sorted({short[k] for k in np.linspace(0, len(short) - 1, min(TOKEN_TEXTS, len(short))).astype(int)})


def write_sparse(root: Path, rows: Sequence[SparseVector], dimension: int) -> None:
    """Keep the reference's sparse vectors of the parity texts."""
    all_rows = SparseVectors.of(rows, dimension)
    np.savez(
        root / SPARSE_FILE,
        offsets=all_rows.offsets, indices=all_rows.indices, values=all_rows.values, dimension=np.int64(dimension),
    )  # fmt: skip


def write_tokens(root: Path, queries: Sequence[Floats], documents: Sequence[Floats]) -> None:
    """Keep the reference's vectors of tokens of `token_texts`."""
    arrays = {}
    for name, rows in (("query", queries), ("document", documents)):
        arrays[f"{name}_offsets"] = np.cumsum([0, *map(len, rows)])
        arrays[f"{name}_rows"] = np.concatenate(rows).astype(np.float32)
    np.savez(root / TOKENS_FILE, **arrays)  # type: ignore[arg-type]  # numpy's stubs take the names for options


def verify_outputs(model: Model, variant: str, texts: Sequence[str]) -> list[OutputReport]:
    """Every output of a loaded variant but its dense vectors.

    Raises:
        BundleIntegrityError, BundleFormatError: the bundle lacks what they are compared with.
    """
    return [check(model, variant, texts) for name, check in _CHECKS.items() if name in model.outputs]


def _check_sparse(model: Model, variant: str, texts: Sequence[str]) -> OutputReport:
    reference = read_sparse(model.bundle)
    if len(reference) != len(texts):
        raise BundleFormatError(f"{model.bundle.root}: {SPARSE_FILE} is of {len(reference)} texts, not {len(texts)}")
    given = {"kind": "document", "outputs": ("sparse",)}
    found = model.encode_detailed(texts, **given).sparse  # type: ignore[arg-type]  # as `encode` has them
    assert found is not None
    lengths = norms(reference)
    # The direction of a text that has hardly any weight is made of last bits; the largest difference covers it.
    told = lengths >= _WORTH * np.median(lengths[lengths > 0]) if lengths.any() else lengths == 0
    cosines = np.array([_cosine(a, b) for a, b in zip(reference, found, strict=True)])[told]
    overlaps = [_overlap(a, b) for a, b in zip(reference, found, strict=True)]
    alone = [model.encode_detailed([texts[i]], **given).sparse for i in token_texts(texts)]  # type: ignore[arg-type]
    same = [_cosine(one[0], found[i]) for one, i in zip(alone, token_texts(texts), strict=True) if one is not None]
    largest = max(largest_difference(a, b) for a, b in zip(reference, found, strict=True))
    figures = {
        **_spread(cosines),
        "max_abs_diff": largest,
        "max_rel_diff": largest / max(float(reference.values.max(initial=0)), 1e-30),
        "top10_overlap": float(np.mean(overlaps)),
        "alone_cosine_min": float(min(same)),
        "active_dims": len(reference.indices) / len(reference),
    }
    return _judged("sparse", model, variant, len(texts), figures)


def _check_tokens(model: Model, variant: str, texts: Sequence[str]) -> OutputReport:
    some = [texts[i] for i in token_texts(texts)]
    found = {}
    for kind in ("query", "document"):
        outputs = model.encode_detailed(some, outputs=("tokens",), kind=kind)
        found[kind] = outputs.tokens or []
    expected = read_tokens(model.bundle)
    cosines: list[NDArray[np.float64]] = []
    for kind, rows in expected.items():
        lengths = [len(row) for row in rows], [len(row) for row in found[kind]]
        if lengths[0] != lengths[1]:
            raise BundleFormatError(
                f"{model.bundle.root}: {TOKENS_FILE} has other tokens than the bundle's {kind} texts"
            )
        cosines += [row_cosines(a, b) for a, b in zip(rows, found[kind], strict=True) if len(a)]
    scores = [maxsim(side["query"], side["document"], mean=True) for side in (expected, found)]
    alone = [model.encode_detailed([text], outputs=("tokens",), kind="document").tokens or [] for text in some]
    same = [row_cosines(one[0], row).min() for one, row in zip(alone, found["document"], strict=True) if len(row)]
    figures = {
        **_spread(np.concatenate(cosines)),
        "score_error": float(np.nanmax(np.abs(scores[0] - scores[1]))),
        "alone_cosine_min": float(min(same)),
    }
    return _judged("tokens", model, variant, len(some), figures)


_CHECKS: dict[str, Callable[[Model, str, Sequence[str]], OutputReport]] = {
    "sparse": _check_sparse,
    "tokens": _check_tokens,
}


def _judged(output: str, model: Model, variant: str, count: int, figures: dict[str, float]) -> OutputReport:
    gates = (*GATES[output][variant], Gate("alone_cosine_min", ">", INVARIANCE_MIN_COSINE))
    missed = [gate for gate in gates if not RELATIONS[gate.relation](figures[gate.metric], gate.limit)]
    report = OutputReport(variant, output, model.executor_description, count, figures, gates, ())
    sentences = tuple(
        f"{report.title}, {output}: {gate.metric} is {figures[gate.metric]:.9g}, "
        f"it must be {gate.relation} {gate.limit:g}"
        for gate in missed
    )
    return replace(report, failures=sentences)


def has_outputs(bundle: Bundle) -> bool:
    """Whether the bundle gives anything that is compared here."""
    return bundle.manifest.sparse is not None or bundle.manifest.tokens is not None


def bundle_counts(bundle: Bundle) -> list[int]:
    """Tokens of each of the bundle's texts, prompts aside."""
    tokenizer = TextTokenizer(bundle.path(bundle.manifest.tokenizer), bundle.manifest.max_tokens)
    return [len(ids) for ids in tokenizer.ids(read_parity_texts(bundle))]


def prompts_of(bundle: Bundle) -> dict[str, str]:
    """What is put before the texts that are compared, by their kind."""
    prompts = bundle.manifest.prompts
    return {"query": query_prompt(prompts, None, None, None), "document": document_prompt(prompts, None, None)}


def _spread(cosines: NDArray[np.float64]) -> dict[str, float]:
    return {
        "cosine_mean": float(cosines.mean()),
        "cosine_p01": float(np.percentile(cosines, 1)),
        "cosine_min": float(cosines.min()),
    }


def _cosine(a: SparseVector, b: SparseVector) -> float:
    """Two vectors without weights are alike."""
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    _, left, right = np.intersect1d(a.indices, b.indices, assume_unique=True, return_indices=True)
    first, second = a.values.astype(np.float64), b.values.astype(np.float64)
    return float(first[left] @ second[right] / np.sqrt((first @ first) * (second @ second)))


def largest_difference(a: SparseVector, b: SparseVector) -> float:
    """Of a weight."""
    return float(np.abs(a.to_dense() - b.to_dense()).max())


def _overlap(a: SparseVector, b: SparseVector) -> float:
    """Of the reference's strongest words, those that are among the other's; words of hardly any weight aside."""
    strong = a.strongest(TOP_WORDS)
    if not len(strong):
        return 1.0
    kept = strong.indices[strong.values >= _WORTH * strong.values.max()]
    return float(np.isin(kept, b.strongest(TOP_WORDS).indices).mean())


def row_cosines(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Of row i of one (n, D) with row i of the other."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / np.maximum(lengths, 1e-30))


def read_sparse(bundle: Bundle) -> SparseVectors:
    """The reference's sparse vectors of the parity texts, as documents."""
    arrays = _read(bundle, SPARSE_FILE)
    return SparseVectors(arrays["offsets"], arrays["indices"], arrays["values"], int(arrays["dimension"]))


def read_tokens(bundle: Bundle) -> dict[str, list[Floats]]:
    """The reference's vectors of tokens of `token_texts`, as queries and as documents."""
    arrays = _read(bundle, TOKENS_FILE)
    return {
        name: np.split(arrays[f"{name}_rows"], arrays[f"{name}_offsets"][1:-1]) for name in ("query", "document")
    }  # fmt: skip


def _read(bundle: Bundle, path: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(bundle.path(path), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError as exc:
        raise BundleIntegrityError(f"{bundle.root} lacks {path}; export the bundle again") from exc
    except (OSError, ValueError, EOFError) as exc:
        raise BundleFormatError(f"{bundle.root}: {path} cannot be read: {exc}") from exc
