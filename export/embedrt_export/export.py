"""The sentence of export: find -> load the reference -> graph -> variants -> prove -> manifest -> rename."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from embedrt.errors import OptionError
from embedrt.heads import Pipeline
from embedrt.machine import available_threads
from embedrt.manifest import VARIANT_NAMES, Manifest, format_for
from embedrt.parity.files import write_parity_files
from embedrt.parity.report import ParityReport
from embedrt.parity.texts import builtin_texts
from embedrt.precision import CODE_WIDTH
from embedrt.progress import NullProgress, Progress
from embedrt.prompting import choose_prompt
from embedrt.tokenization import TextTokenizer
from embedrt_export.architectures import check_variants
from embedrt_export.calibration import calibration_ids
from embedrt_export.encoder_graph import build_graph
from embedrt_export.families.towers import find_towers
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import RECIPES
from embedrt_export.int8.calibration import POOLED_TOKENS, Session
from embedrt_export.memory import give_back
from embedrt_export.output_heads import OutputHeads, describe_heads, write_output_references
from embedrt_export.picture_tower import add_pictures, text_pipeline
from embedrt_export.pipeline import describe_architecture, encoder_of, write_pipeline, write_tokenizer
from embedrt_export.prompts import choose_prompts
from embedrt_export.proving import prove
from embedrt_export.reference import Reference, load_reference, tokenizer_of
from embedrt_export.request import ExportRequest, known_variants
from embedrt_export.score_export import export_scores
from embedrt_export.source import ModelSource, put_adapter, resolve
from embedrt_export.staged_manifest import (
    TOKENIZER,
    describe_model,
    shared_files,
    unreachable_tokens,
    write_manifest,
)
from embedrt_export.staging import disk_errors, publish, resolve_out, staging
from embedrt_export.static_export import export_static
from embedrt_export.tower_source import TowerModel, load_towers
from embedrt_export.trim import Kept
from embedrt_export.trim.bundle import smaller_vocabulary, surviving_texts, with_fewer_tokens
from embedrt_export.variants import Job, make_variants
from embedrt_export.word_head import word_rows, write_words


def export(
    model: str | Path,
    out: str | Path,
    *,
    variants: Sequence[str] = VARIANT_NAMES,
    pooling: str | None = None,
    max_tokens: int | None = None,
    revision: str | None = None,
    prompts: str | Path | None = None,
    calibration: str | Path | None = None,
    int8_recipe: str = "default",
    name: str | None = None,
    pictures_from: str | Path | None = None,
    force: bool = False,
    num_threads: int | None = None,
    trust_remote_code: bool = False,
    adapter: str | Path | None = None,
    keep_languages: Sequence[str] = (),
    keep_tokens: str | Path | None = None,
    keep_texts: str | Path | None = None,
    progress: Progress | None = None,
) -> ParityReport:
    """Export a model to a bundle and prove every variant against PyTorch in fp32.

    Args:
        model: directory of a sentence-transformers or transformers encoder, or a hub id.
        out: directory to make; it appears whole or not at all.
        variants: any of fp32, fp16, int8.
        pooling: instead of what the model's files say; several joined by "+".
        max_tokens: instead of the model's own limit, special tokens included.
        revision: of a hub id.
        prompts: JSON file with prompts, instead of the model's or its family's.
        calibration: text file, one text a line, to calibrate int8 with, instead of the built-in texts.
        int8_recipe: one of `embedrt_export.int8.RECIPES`.
        name: of the bundle, and of the model where its family's prompts are looked up; default the model's own, from
            the hub, its directory or its card.
        pictures_from: a model whose pictures' encoder goes into the bundle beside these texts, which were trained for
            its vectors: clip-ViT-B-32 for clip-ViT-B-32-multilingual-v1.
        force: replace `out` if it exists.
        num_threads: threads to use; default what CPU affinity and cgroup quota allow.
        trust_remote_code: run code that lies beside a model's weights, for the reference, and where no family's file
            reads the model also to trace its graph. It has all rights of this process.
        adapter: directory or hub id of a LoRA adapter, which is merged into the model. A model that is one itself
            finds its base by what it says.
        keep_languages: ISO 639 codes; of the token table only rows in these languages' scripts are kept.
        keep_tokens: file of tokens whose rows are kept, one a line or a JSON list.
        keep_texts: file of texts whose tokens' rows are kept. Of the three, what any one asks for is kept.
        progress: told of each step.

    Returns:
        The parity report, which the bundle keeps as parity/report.json and report.html.

    Raises:
        ExportError: SourceError, UnsupportedModelError, ParityError (a gate was missed), or a full disk.
        OptionError: an argument does not fit.
    """
    request = ExportRequest(
        out=resolve_out(Path(out), replace=force),
        variants=known_variants(variants),
        pooling=pooling,
        max_tokens=max_tokens,
        prompts=None if prompts is None else Path(prompts),
        calibration=None if calibration is None else Path(calibration),
        int8_recipe=int8_recipe,
        name=name,
        num_threads=num_threads or available_threads(),
        pictures_from=None if pictures_from is None else str(pictures_from),
        kept=Kept(
            tuple(keep_languages),
            None if keep_tokens is None else Path(keep_tokens),
            None if keep_texts is None else Path(keep_texts),
        ),
    )
    listener = progress or NullProgress()
    with listener.step("find the model"):
        source = resolve(
            model,
            revision,
            show_progress=not isinstance(listener, NullProgress),
            trust_remote_code=trust_remote_code,
        )
        if adapter is not None:
            source = put_adapter(source, str(adapter), show_progress=not isinstance(listener, NullProgress))
        if not source.is_static:
            check_variants(source.name, source.config, request.variants)
    with staging(request.out) as root, disk_errors(request.out):
        torch.set_num_threads(request.num_threads)
        if source.output == "scores":
            report = export_scores(root, source, request, listener)
        elif source.is_static:
            report = export_static(root, source, request, listener)
        else:
            report = _export_into(root, source, request, listener)
        publish(root, request.out)
    return report


def _export_into(root: Path, source: ModelSource, request: ExportRequest, progress: Progress) -> ParityReport:
    with progress.step("load the PyTorch reference in fp32"):
        reference = _load(source, request)
        pictures = _load_pictures(reference, request, progress)
    heads = OutputHeads() if isinstance(reference, TowerModel) else describe_heads(reference, root)
    manifest = _describe(root, reference, heads, request)
    prompt = choose_prompt(manifest.prompts, None, None)
    smaller = smaller_vocabulary(root, manifest, reference, request.kept)
    texts = builtin_texts() if smaller is None else surviving_texts(smaller, prompt)
    with progress.step("reference vectors", total=len(texts)) as advance:
        if manifest.pipeline is not None:
            write_parity_files(root, texts, reference.encode(texts, prompt, advance))
        if isinstance(reference, Reference):
            write_output_references(root, reference, manifest, texts)
    if isinstance(reference, Reference):
        reference.merge()
    with progress.step("make the graph"), tempfile.TemporaryDirectory(dir=root, prefix=".work") as work:
        graph = _build_graph(reference, Path(work))
    notes, words = (*manifest.notes, *graph.notes), heads.words
    has_towers = pictures is reference
    rules = pictures.rules if pictures is not None and has_towers else None
    del reference, heads
    give_back()
    tokenizer = TextTokenizer(root / TOKENIZER, manifest.max_tokens, rules=rules)
    job = Job(
        root=root,
        graph=graph,
        calibration=calibration_ids(request.calibration, tokenizer, prompt, graph.model),
        token=POOLED_TOKENS.get(manifest.pipeline.pooling) if manifest.pipeline is not None else None,
        int8=RECIPES[request.int8_recipe],
        rows=None if smaller is None else smaller.rows,
    )
    made = make_variants(job, request.variants, progress)
    if words is not None:
        with progress.step("write the words' head"):
            rows = word_rows(Session(graph.model), words, job.calibration)
            made = {name: write_words(root, name, one, words, rows, job.int8) for name, one in made.items()}
    spec = graph.spec
    del job, graph
    give_back()
    manifest = replace(manifest, encoder=spec, variants=made, notes=notes)
    if smaller is not None:
        manifest = with_fewer_tokens(root, manifest, smaller)
    if pictures is not None:
        recipe = RECIPES[request.int8_recipe]
        manifest = add_pictures(root, manifest, pictures, with_rules=has_towers, int8=recipe, progress=progress)
    manifest = replace(manifest, format_version=format_for(manifest), files=shared_files(root))
    write_manifest(root, manifest)
    return prove(root, manifest, request.num_threads, progress)


def _load(source: ModelSource, request: ExportRequest) -> Reference | TowerModel:
    if find_towers(source.config) is None:
        return load_reference(source, pooling=request.pooling, max_tokens=request.max_tokens, name=request.name)
    if request.pooling is not None:
        raise OptionError(f"{source.name} says how its texts and pictures are pooled; --pooling has nothing to replace")
    return load_towers(source, max_tokens=request.max_tokens)


def _load_pictures(reference: Reference | TowerModel, request: ExportRequest, progress: Progress) -> TowerModel | None:
    """The model whose tower of pictures goes into the bundle."""
    if request.pictures_from is None:
        return reference if isinstance(reference, TowerModel) else None
    if isinstance(reference, TowerModel):
        raise OptionError("--pictures-from goes with a model of texts alone; this one has a tower for pictures")
    return load_towers(resolve(request.pictures_from, show_progress=not isinstance(progress, NullProgress)))


def _build_graph(reference: Reference | TowerModel, work: Path) -> EncoderGraph:
    """The fp32 graph: emitted where a family's file reads the config, else traced."""
    if isinstance(reference, TowerModel):
        return reference.graph(reference.text)
    return build_graph(encoder_of(reference.model), reference.source.config, reference.source.name, work)


def _describe(root: Path, reference: Reference | TowerModel, heads: OutputHeads, request: ExportRequest) -> Manifest:
    """Everything of the manifest that is known before there are graphs; writes tokenizer and pipeline arrays."""
    pipeline: Pipeline | None
    if isinstance(reference, TowerModel):
        model, family = reference.as_pipeline, None
        encoder, pipeline = model, text_pipeline(reference, root)
    else:
        model, family = reference.model, reference.family
        encoder = encoder_of(model)
        pipeline = write_pipeline(model, root) if reference.source.output == "vectors" else None
    write_tokenizer(tokenizer_of(model), root / TOKENIZER)
    own = {name: text for name, text in (model.prompts or {}).items() if text is not None}
    return replace(
        describe_model(reference.source, describe_architecture(encoder), request),
        max_tokens=reference.max_tokens,
        pipeline=pipeline,
        code_width=None if pipeline is None else CODE_WIDTH,
        prompts=choose_prompts(own, model.default_prompt_name, family, request.prompts),
        similarity=_similarity(model, heads),
        notes=(*reference.notes, *unreachable_tokens(reference.source.name, encoder, tokenizer_of(model))),
        sparse=heads.sparse,
        tokens=heads.tokens,
    )


def _similarity(model: Any, heads: OutputHeads) -> str:
    """Of dense vectors; a model of vectors of tokens alone has none."""
    name = str(getattr(model.similarity_fn_name, "value", model.similarity_fn_name))
    return "cosine" if heads.tokens is not None and name == heads.tokens.similarity else name
