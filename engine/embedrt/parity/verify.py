"""Check a bundle: its hashes, then every variant's vectors against the reference's."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.errors import FileFormatError, OptionError
from embedrt.executors.devices import choose_device
from embedrt.machine import available_threads, describe_machine
from embedrt.model import Model
from embedrt.opening import open_bundle
from embedrt.parity.files import (
    ParityFiles,
    check_counts,
    read_parity_files,
    read_parity_pictures,
    read_parity_texts,
)
from embedrt.parity.gates import find_failures, gate_set
from embedrt.parity.html import render_page
from embedrt.parity.invariance import INVARIANCES, check_invariances, of_every_length, spread_positions
from embedrt.parity.loading import Make, ParityEmbedder, default_embedder, default_model, default_reranker
from embedrt.parity.metrics import (
    Bucket,
    Floats,
    compare,
    corpus_center,
    cosine_distances,
    is_normalized,
    length_buckets,
    mean_pairwise_cosine,
    normalized,
)
from embedrt.parity.outputs import bundle_counts, has_outputs, verify_outputs
from embedrt.parity.report import (
    REPORT_FORMAT,
    BucketReport,
    OutputReport,
    ParityReport,
    Reference,
    VariantReport,
    WorstText,
)
from embedrt.parity.scores import verify_scores
from embedrt.parity.texts import shorten
from embedrt.progress import NullProgress, Progress
from embedrt.reranker import Reranker
from embedrt.results import EncodeResult
from embedrt.threads import side_by_side
from embedrt.version import __version__

MAX_INVARIANCE_TEXTS = 512  # of more texts, this many are checked, spread over the lengths
_WORST_TEXTS = 10
_SAME_SUMS = {"fp16": "fp32"}
"""Variant -> one whose graph on CPUs is the same, but for casts of weights and of rows that are looked up."""
_FEW_TEXTS = 32  # asked first, from the shortest to the longest, where that one has kept every bit
_TOOLS = ("numpy", "onnxruntime", "onnxruntime-gpu", "tokenizers")


@dataclass(frozen=True)
class _OfPictures:
    """An embedder that is given the paths of pictures within its bundle."""

    bundle: Bundle
    embedder: Any

    @property
    def executor(self) -> str:
        return str(self.embedder.executor)

    @property
    def executor_description(self) -> str:
        return str(self.embedder.picture_executor_description)

    @property
    def max_tokens(self) -> int:
        pictures = self.bundle.manifest.pictures
        assert pictures is not None
        return (pictures.encoder.max_tokens or 0) + 1  # nothing is cut

    @property
    def num_threads(self) -> int:
        return int(self.embedder.num_threads)

    def encode_detailed(self, inputs: Sequence[str], /) -> EncodeResult:
        found: EncodeResult = self.embedder.encode_detailed([self.bundle.path(path) for path in inputs])
        return found

    def close(self) -> None:
        self.embedder.close()


def verify_bundle(
    bundle: str | Path | Bundle,
    *,
    variants: Sequence[str] | None = None,
    texts: Sequence[str] | None = None,
    reference: NDArray[Any] | None = None,
    reference_description: str | None = None,
    device: str = "auto",
    num_threads: int | None = None,
    progress: Progress | None = None,
    make_embedder: Make[ParityEmbedder] = default_embedder,
    make_reranker: Make[Reranker] = default_reranker,
    make_model: Make[Model] = default_model,
) -> ParityReport:
    """Compare a bundle's variants with the reference.

    Args:
        bundle: its directory, or the opened bundle.
        variants: which; default all.
        texts: what to embed; default the texts that the bundle keeps, with their reference vectors.
        reference: (N, D) the PyTorch model's vectors of `texts`, in fp32, with the bundle's default prompt.
        reference_description: what made `reference`, for the report.
        device, num_threads: as for Embedder.
        progress: told of each step.
        make_embedder: loads a variant.
        make_reranker: loads a variant that scores pairs; these are compared on the bundle's own pairs only.
        make_model: loads a variant for sparse vectors and vectors of tokens, on the bundle's own texts only.

    Returns:
        ParityReport: with `.failures`; a gate missed is no exception.

    Raises:
        BundleError: the bundle cannot be used, or a hash does not match.
        OptionError: an argument does not fit, e.g. texts without a reference.
        NonFiniteError: a vector holds NaN or infinity.
    """
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    progress = progress or NullProgress()
    names = tuple(bundle.manifest.variants) if variants is None else tuple(variants)
    with progress.step("Check hashes"):
        _check_hashes(bundle, names)
    if bundle.manifest.scores is not None:
        if texts is not None:
            raise OptionError("scores are compared on the bundle's own pairs: leave the texts and the model out")
        scored = []
        for name in names:
            with (
                closing(make_reranker(bundle, variant=name, device=device, num_threads=num_threads)) as reranker,
                progress.step(f"Verify {name}"),
            ):
                scored.append(verify_scores(reranker, name))
        return _report(bundle, num_threads, outputs=tuple(scored))
    outputs: list[OutputReport] = []
    if texts is None and has_outputs(bundle):
        kept = read_parity_texts(bundle)
        for name in names:
            with (
                closing(make_model(bundle, variant=name, device=device, num_threads=num_threads)) as model,
                progress.step(f"Verify other outputs of {name}"),
            ):
                outputs += verify_outputs(model, name, kept)
    if bundle.manifest.pipeline is None:
        return _report(bundle, num_threads, counts=tuple(bundle_counts(bundle)), outputs=tuple(outputs))
    corpus = _corpus(bundle, texts, reference)
    threads = num_threads or available_threads()
    described = reference_description or _describe_reference(bundle, texts is None)
    counts: tuple[int, ...] = ()
    reports: list[VariantReport] = []
    of_pictures: list[VariantReport] = []
    on_cpu = choose_device(device) == "cpu"  # there alone graphs are of the `_SAME_SUMS`
    pictures = read_parity_pictures(bundle) if bundle.pictures is not None and texts is None else None
    for name in names:
        with (
            closing(make_embedder(bundle, variant=name, device=device, num_threads=num_threads)) as embedder,
            progress.step(f"Verify {name}", _total(len(corpus.texts))) as advance,
        ):
            report, counts = _verify_variant(name, embedder, corpus, threads, advance, reports if on_cpu else ())
            if pictures is not None:
                seen, _ = _verify_variant(name, _OfPictures(bundle, embedder), pictures, threads, lambda _: None, ())
                of_pictures.append(seen)
        reports.append(report)
    kept_reference = Reference(
        description=described,
        dimension=int(corpus.vectors.shape[1]),
        normalized=is_normalized(corpus.vectors),
        mean_pairwise_cosine=mean_pairwise_cosine(corpus.vectors),
    )
    return _report(
        bundle, num_threads, kept_reference, counts, tuple(reports), tuple(of_pictures), outputs=tuple(outputs)
    )


def _report(
    bundle: Bundle,
    num_threads: int | None,
    reference: Reference | None = None,
    counts: tuple[int, ...] = (),
    variants: tuple[VariantReport, ...] = (),
    pictures: tuple[VariantReport, ...] = (),
    outputs: tuple[OutputReport, ...] = (),
) -> ParityReport:
    return ParityReport(
        format=REPORT_FORMAT,
        bundle=bundle.manifest.name,
        source=bundle.manifest.source.model,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        num_threads=num_threads or available_threads(),
        tools=_tool_versions(),
        reference=reference,
        max_tokens=bundle.manifest.max_tokens,
        num_tokens=counts,
        variants=variants,
        pictures=pictures,
        outputs=outputs,
        bundle_notes=bundle.manifest.notes,
    )


def save_report(report: ParityReport, directory: str | Path) -> tuple[Path, Path]:
    """Write report.json and report.html into `directory`; their paths.

    Raises:
        FileFormatError: they cannot be written.
    """
    directory = Path(directory)
    paths = (directory / "report.json", directory / "report.html")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, (report.to_json(), render_page(report)), strict=True):
            path.write_text(content, encoding="utf-8")
    except OSError as exc:
        raise FileFormatError(f"the report cannot be written to {directory}: {exc.strerror or exc}") from exc
    return paths


def _verify_variant(
    name: str,
    embedder: ParityEmbedder,
    corpus: ParityFiles,
    threads: int,
    advance: Callable[[int], object],
    others: Sequence[VariantReport],
) -> tuple[VariantReport, tuple[int, ...]]:
    """One variant's report, and the tokens of each text; `others` are what was found on the same device before.

    Calls go side by side where one does not take all threads.
    """
    lanes = max(1, threads // embedder.num_threads)
    vectors, counts, identity = _embed(embedder, corpus.texts, lanes)
    advance(len(corpus.texts))
    deviation = compare(corpus.vectors, vectors)
    positions = spread_positions(counts, MAX_INVARIANCE_TEXTS)
    executor = embedder.executor_description + (f", {lanes} calls at once" if lanes > 1 else "")
    first: tuple[int, ...] = ()
    # What the native executor does with a row depends on its numbers too (sums that would not fit go another way).
    if embedder.executor == "onnxruntime":
        proven = any(_shows_the_sums_of(name, executor, other) for other in others)
        first = spread_positions(counts, _FEW_TEXTS) if proven else of_every_length(counts, positions)
    invariances = check_invariances(
        lambda some: np.asarray(embedder.encode_detailed(some).embeddings),
        corpus.texts,
        vectors,
        positions=positions,
        first=first,
        advance=advance,
        lanes=lanes,
    )
    distances = cosine_distances(normalized(corpus.vectors), normalized(vectors))
    gates = gate_set(name, mean_pairwise_cosine(corpus.vectors))
    report = VariantReport(
        variant=name,
        identity=identity,
        executor=executor,
        deviation=deviation,
        buckets=_bucket_reports(length_buckets(counts, embedder.max_tokens), corpus.vectors, vectors),
        invariances=invariances,
        gates=gates,
        failures=(),
        worst=_worst_texts(corpus.texts, counts, distances),
        distances=tuple(distances.tolist()),
    )
    return replace(report, failures=find_failures(report.title, gates, deviation, invariances)), counts


def _shows_the_sums_of(name: str, executor: str, other: VariantReport) -> bool:
    """Whether `other` had the sums of variant `name` in the same order, and company changed no bit of them."""
    same = (other.variant, other.executor) == (_SAME_SUMS.get(name), executor)
    return same and all(found.max_abs_diff == 0 for found in other.invariances)


def _embed(
    embedder: ParityEmbedder, texts: Sequence[str], lanes: int
) -> tuple[NDArray[np.float32], tuple[int, ...], str]:
    """Vectors (N, D), tokens of each text, and the vectors' identity: a call for each lane."""
    parts = [slice(lane, None, lanes) for lane in range(min(lanes, len(texts)))]
    results = side_by_side(lambda part: embedder.encode_detailed(texts[part]), parts, len(parts), "embedrt-verify")
    vectors, counts, identity = np.empty((0, 0), np.float32), np.zeros(len(texts), np.int64), ""
    for part, result in zip(parts, results, strict=True):
        found = np.asarray(result.embeddings)
        if not identity:
            vectors, identity = np.empty((len(texts), found.shape[1]), found.dtype), result.identity
        vectors[part], counts[part] = found, result.num_tokens
    return vectors, tuple(counts.tolist()), identity


def _bucket_reports(
    buckets: Sequence[Bucket], reference: NDArray[Any], vectors: NDArray[Any]
) -> tuple[BucketReport, ...]:
    center = corpus_center(reference) if len(reference) > 1 else None
    return tuple(
        BucketReport(
            bucket.label, compare(reference[list(bucket.indices)], vectors[list(bucket.indices)], center=center)
        )
        for bucket in buckets
    )


def _worst_texts(texts: Sequence[str], counts: Sequence[int], distances: Floats) -> tuple[WorstText, ...]:
    order = np.argsort(-distances, kind="stable")[:_WORST_TEXTS]
    return tuple(WorstText(int(i), shorten(texts[i]), counts[i], float(1 - distances[i])) for i in order)


def _corpus(bundle: Bundle, texts: Sequence[str] | None, reference: NDArray[Any] | None) -> ParityFiles:
    if texts is None:
        if reference is not None:
            raise OptionError("a reference needs the texts that it belongs to")
        return read_parity_files(bundle)
    if reference is None:
        raise OptionError(
            "texts of your own need a reference: name the model with --against MODEL (needs embedrt[export])"
        )
    check_counts(len(texts), reference)
    return ParityFiles(tuple(texts), np.asarray(reference, dtype=np.float32))


def _check_hashes(bundle: Bundle, variants: Sequence[str]) -> None:
    if not variants:
        raise OptionError(f"no variants were chosen; the bundle has: {', '.join(bundle.manifest.variants)}")
    for name in variants:
        bundle.check_sizes(name)
    for name in variants:
        bundle.check_hashes(name)


def _describe_reference(bundle: Bundle, kept: bool) -> str:
    if not kept:
        return "given by the caller"
    tools = bundle.manifest.tools
    made_by = [f"{name} {tools[name]}" for name in ("model2vec", "sentence-transformers", "torch") if name in tools]
    return ", ".join([*made_by, "fp32"]) + "; vectors kept in the bundle"


def _tool_versions() -> dict[str, str]:
    found = {"embedrt": __version__, "python": platform.python_version(), "platform": sys.platform}
    for name in _TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _total(count: int) -> int:
    """Texts embedded for one variant, repetitions included."""
    return count + len(INVARIANCES) * min(count, MAX_INVARIANCE_TEXTS)
