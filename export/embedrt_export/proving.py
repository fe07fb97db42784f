"""The proof of a staged bundle: verified as a user would, with its report kept in it, or refused."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from embedrt.bundle import Bundle
from embedrt.errors import ParityError
from embedrt.executors.native import runs_natively
from embedrt.loading import LoadOptions, load_model
from embedrt.manifest import Manifest
from embedrt.parity.gates import find_failures
from embedrt.parity.loading import default_embedder, default_model
from embedrt.parity.report import ParityReport, VariantReport
from embedrt.parity.verify import save_report, verify_bundle
from embedrt.progress import Progress
from embedrt_export.staged_manifest import shared_files, write_manifest

# ONNX is the definition, and gives the same figures on machines with and without the native executor: the manifest's.
_ON_ONNXRUNTIME = functools.partial(default_embedder, executor="onnxruntime")
_MODEL_ON_ONNXRUNTIME = functools.partial(default_model, executor="onnxruntime")


def prove(root: Path, manifest: Manifest, num_threads: int, progress: Progress) -> ParityReport:
    """Verify the staged bundle as a user would, keep the report in it, and refuse it if a gate is missed.

    Every variant on ONNX Runtime, and natively too what users with a machine like this one will get so: int8, and
    fp32 of static embeddings.
    """
    bundle = Bundle(root, manifest)
    verify = functools.partial(verify_bundle, bundle, device="cpu", num_threads=num_threads, progress=progress)
    report = verify(make_embedder=_ON_ONNXRUNTIME, make_model=_MODEL_ON_ONNXRUNTIME)
    if native := [name for name in manifest.variants if _runs_here(bundle, name)]:
        found = verify(variants=native)
        report = replace(
            report,
            variants=report.variants + found.variants,
            pictures=report.pictures + found.pictures,
            outputs=report.outputs + found.outputs,
        )
    save_report(report, root / "parity")
    variants = {
        name: replace(
            variant,
            parity=report.summary(name) if report.variants else None,
            outputs=report.output_summaries(name),
        )
        for name, variant in manifest.variants.items()
    }
    pictures = manifest.pictures
    if pictures is not None:
        summaries = {one.variant: one.summary() for one in reversed(report.pictures)}
        proven = {name: replace(variant, parity=summaries[name]) for name, variant in pictures.variants.items()}
        pictures = replace(pictures, variants=proven)
    write_manifest(root, replace(manifest, variants=variants, pictures=pictures, files=shared_files(root)))
    if not report.passed:
        raise ParityError(
            "the vectors miss a parity gate, and no bundle was written: "
            + "; ".join(report.failures)
            + advice_on((*report.variants, *report.pictures))
        )
    return report


def _runs_here(bundle: Bundle, variant: str) -> bool:
    """Whether the native executor is what is chosen for the variant on a machine like this one."""
    if not runs_natively(bundle, variant):
        return False
    options = LoadOptions(variant, device="cpu", num_threads=1, verify_hashes=False)
    with closing(load_model(bundle, options)) as model:
        return model.chosen.name == "native"


def advice_on(variants: Sequence[VariantReport]) -> str:
    """What helps where int8 alone misses a gate: the end of a sentence, or nothing."""
    missed = [variant for variant in variants if variant.failures]
    if {variant.variant for variant in missed} != {"int8"}:
        return ""
    if not any(find_failures(int8.variant, int8.gates, int8.deviation) for int8 in missed):
        return (
            "; int8 is accurate enough, but what a text's batch and its padding change in the last bits of a sum moves "
            "8-bit roundings of this model, and no recipe changes that: leave int8 out (--variants fp32,fp16), and "
            "report the model to us"
        )
    return "; --int8-recipe accurate, or --calibration with texts of the model's own kind, may help"
