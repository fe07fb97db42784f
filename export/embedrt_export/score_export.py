"""The sentence of export for models of pairs: load the reference -> graph -> variants -> prove -> manifest."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from embedrt.bundle import Bundle
from embedrt.errors import OptionError, ParityError
from embedrt.manifest import format_for
from embedrt.pairs import PairTokenizer
from embedrt.parity.loading import default_reranker
from embedrt.parity.pairs import builtin_pairs, write_pairs
from embedrt.parity.report import ParityReport
from embedrt.parity.verify import save_report, verify_bundle
from embedrt.progress import Progress
from embedrt.prompting import choose_prompt
from embedrt.tokenization import TextTokenizer
from embedrt_export.calibration import chosen, read_calibration
from embedrt_export.encoder_graph import build_graph
from embedrt_export.int8 import RECIPES
from embedrt_export.int8.calibration import POOLED_TOKENS
from embedrt_export.memory import give_back
from embedrt_export.pipeline import describe_architecture, write_tokenizer
from embedrt_export.prompts import choose_prompts
from embedrt_export.request import ExportRequest
from embedrt_export.rerankers import load_scores, write_head
from embedrt_export.source import ModelSource
from embedrt_export.staged_manifest import (
    TOKENIZER,
    describe_model,
    shared_files,
    unreachable_tokens,
    write_manifest,
)
from embedrt_export.variants import Job, make_variants

# ONNX is the definition, and gives the same figures on machines with and without the native executor: the manifest's.
_ON_ONNXRUNTIME = functools.partial(default_reranker, executor="onnxruntime")
_NATIVE = "int8"


def export_scores(root: Path, source: ModelSource, request: ExportRequest, progress: Progress) -> ParityReport:
    """Export a model of pairs into the staged bundle at `root`, and prove it.

    Raises:
        ExportError: UnsupportedModelError, SourceError, or ParityError, where a gate was missed.
        OptionError: `request` has an option that is of vectors alone.
    """
    if request.pooling is not None:
        raise OptionError(f"{source.name} scores pairs of texts with its own head; --pooling is for vectors")
    if source.adapter is not None:
        raise OptionError(f"{source.name} scores pairs of texts, and an adapter of such a model is not supported yet")
    with progress.step("load the PyTorch reference in fp32"):
        reference = load_scores(source, max_tokens=request.max_tokens)
    encoder, head = reference.encoder, write_head(reference, root)
    write_tokenizer(reference.tokenizer, root / TOKENIZER)
    prompts = choose_prompts(reference.prompts, reference.default_prompt_name, None, request.prompts)
    manifest = replace(
        describe_model(source, describe_architecture(encoder), request),
        max_tokens=reference.max_tokens,
        prompts=prompts,
        scores=head,
    )
    pairs, prompt = builtin_pairs(), choose_prompt(prompts, None, None)
    with progress.step("reference scores", total=len(pairs)) as advance:
        write_pairs(root, pairs, reference.logits(pairs, prompt, advance))
    with progress.step("make the graph"), tempfile.TemporaryDirectory(dir=root, prefix=".work") as work:
        graph = build_graph(encoder, source.config, source.name, Path(work))
    notes = (*reference.notes, *unreachable_tokens(source.name, encoder, reference.tokenizer), *graph.notes)
    del reference, encoder
    give_back()
    tokenizer = PairTokenizer(TextTokenizer(root / manifest.tokenizer, manifest.max_tokens), head)
    # Of token type 0 throughout: what int8 is measured on differs by one row of a table from what it will read.
    texts = read_calibration(request.calibration)
    pairs_of_texts = [pair.ids.tolist() for pair in tokenizer(list(pairwise(texts)), prompt)]
    calibration = chosen(request.calibration, pairs_of_texts, graph.model)
    job = Job(root, graph, calibration, POOLED_TOKENS.get(head.pooling), RECIPES[request.int8_recipe])
    made = make_variants(job, request.variants, progress)
    spec = graph.spec
    del job, graph
    give_back()
    manifest = replace(manifest, encoder=spec, variants=made, notes=notes)
    manifest = replace(manifest, format_version=format_for(manifest), files=shared_files(root))
    write_manifest(root, manifest)
    return _prove(Bundle(root, manifest), request.num_threads, progress)


def _prove(bundle: Bundle, num_threads: int, progress: Progress) -> ParityReport:
    """Verify the staged bundle: every variant on ONNX Runtime, and int8 as users here get it."""
    verify = functools.partial(verify_bundle, bundle, device="cpu", num_threads=num_threads, progress=progress)
    report = verify(make_reranker=_ON_ONNXRUNTIME)
    failures = report.failures
    if _NATIVE in bundle.manifest.variants:
        failures += tuple(f"by default, {sentence}" for sentence in verify(variants=[_NATIVE]).failures)
    save_report(report, bundle.root / "parity")
    variants = {
        name: replace(variant, outputs=report.output_summaries(name))
        for name, variant in bundle.manifest.variants.items()
    }
    write_manifest(bundle.root, replace(bundle.manifest, variants=variants, files=shared_files(bundle.root)))
    if failures:
        raise ParityError("the scores miss a parity gate, and no bundle was written: " + "; ".join(failures))
    return report
