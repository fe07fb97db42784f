"""The sentence of export: find -> load the reference -> graph -> variants -> prove -> manifest -> rename."""

from __future__ import annotations

import datetime
import functools
import gc
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from embedrt.bundle import MANIFEST_NAME, Bundle, describe_file
from embedrt.errors import OptionError, ParityError, UnsupportedModelError
from embedrt.executors.native import runs_natively
from embedrt.heads import SIMILARITY_NAMES, Pipeline
from embedrt.loading import LoadOptions, load_model
from embedrt.machine import available_threads
from embedrt.manifest import VARIANT_NAMES, Architecture, BundleFile, Manifest, Source, format_for
from embedrt.manifest_json import FORMAT_VERSION, dump_manifest
from embedrt.parity.files import write_parity_files
from embedrt.parity.gates import find_failures
from embedrt.parity.loading import default_embedder, default_model
from embedrt.parity.report import ParityReport, VariantReport
from embedrt.parity.texts import builtin_texts
from embedrt.parity.verify import save_report, verify_bundle
from embedrt.precision import CODE_WIDTH
from embedrt.progress import NullProgress, Progress
from embedrt.prompting import choose_prompt
from embedrt.text_rules import TableRules, TextRules
from embedrt.tokenization import TextTokenizer
from embedrt_export.architectures import check_variants
from embedrt_export.calibration import read_calibration
from embedrt_export.emit.encoder import emit_encoder
from embedrt_export.families import own_code_of
from embedrt_export.families.towers import find_towers
from embedrt_export.graph import EncoderGraph, build_fp32
from embedrt_export.int8 import RECIPES
from embedrt_export.int8.calibration import POOLED_TOKENS, Session
from embedrt_export.output_heads import OutputHeads, describe_heads, write_output_references
from embedrt_export.picture_tower import add_pictures, text_pipeline
from embedrt_export.pipeline import describe_architecture, encoder_of, write_pipeline, write_tokenizer
from embedrt_export.prompts import NO_PROMPTS, choose_prompts
from embedrt_export.reference import Reference, load_reference, tokenizer_of
from embedrt_export.source import ModelSource, put_adapter, resolve, sha256_of_weights
from embedrt_export.staging import disk_errors, publish, resolve_out, staging
from embedrt_export.tower_source import TowerModel, load_towers
from embedrt_export.trim import Kept, Trimmed, trimmed
from embedrt_export.variants import Job, make_variants
from embedrt_export.vocabulary import check_vocabulary
from embedrt_export.word_head import word_rows, write_words

_TOOLS = ("embedrt", "numpy", "onnx", "onnxruntime", "sentence-transformers", "tokenizers",
          "torch", "transformers")  # fmt: skip
TOKENIZER = "tokenizer.json"
_OWN_TEXTS, _FEWEST_TEXTS = 200, 20  # of the user's own that a trimmed bundle is proven on; of all that it takes
# ONNX is the definition, and gives the same figures on machines with and without the native executor: the manifest's.
_ON_ONNXRUNTIME = functools.partial(default_embedder, executor="onnxruntime")
_MODEL_ON_ONNXRUNTIME = functools.partial(default_model, executor="onnxruntime")


@dataclass(frozen=True)
class ExportRequest:
    """What to export; checked before any work is done."""

    model: str
    out: Path
    variants: tuple[str, ...]
    pooling: str | None
    max_tokens: int | None
    revision: str | None
    prompts: Path | None
    calibration: Path | None
    int8_recipe: str
    name: str | None
    force: bool
    num_threads: int
    pictures_from: str | None
    trust_remote_code: bool = False
    adapter: str | None = None
    kept: Kept = field(default_factory=Kept)


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
        model=str(model),
        out=resolve_out(Path(out), replace=force),
        variants=_check_variants(variants),
        pooling=pooling,
        max_tokens=max_tokens,
        revision=revision,
        prompts=None if prompts is None else Path(prompts),
        calibration=None if calibration is None else Path(calibration),
        int8_recipe=_check_int8_recipe(int8_recipe),
        name=name,
        force=force,
        num_threads=num_threads or available_threads(),
        trust_remote_code=trust_remote_code,
        pictures_from=None if pictures_from is None else str(pictures_from),
        adapter=None if adapter is None else str(adapter),
        kept=Kept(
            tuple(keep_languages),
            None if keep_tokens is None else Path(keep_tokens),
            None if keep_texts is None else Path(keep_texts),
        ),
    )
    _check_request(request)
    listener = progress or NullProgress()
    with listener.step("find the model"):
        source = resolve(
            model,
            revision,
            show_progress=not isinstance(listener, NullProgress),
            trust_remote_code=trust_remote_code,
        )
        if request.adapter is not None:
            source = put_adapter(source, request.adapter, show_progress=not isinstance(listener, NullProgress))
        if not source.is_static:
            check_variants(source.name, source.config, request.variants)
    with staging(request.out) as root, disk_errors(request.out):
        torch.set_num_threads(request.num_threads)
        if source.output == "scores":
            from embedrt_export.score_export import export_scores

            report = export_scores(root, source, request, listener)
        elif source.is_static:
            from embedrt_export.static_export import export_static

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
    smaller = _trim(root, manifest, reference, request)
    texts = builtin_texts() if smaller is None else _surviving_texts(smaller, prompt)
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
    gc.collect()
    job = Job(
        root=root,
        graph=graph,
        calibration=calibration_ids(root, manifest, prompt, request, rules),
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
    gc.collect()
    manifest = replace(manifest, encoder=spec, variants=made, notes=notes)
    if smaller is not None:
        manifest = _with_fewer_tokens(root, manifest, smaller)
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


def _trim(root: Path, manifest: Manifest, reference: Reference | TowerModel, request: ExportRequest) -> Trimmed | None:
    """The vocabulary that was asked for, where one was."""
    if not request.kept:
        return None
    if isinstance(reference, TowerModel):
        raise UnsupportedModelError("tokens of a model that embeds pictures too cannot be left out yet")
    if manifest.sparse is not None or manifest.tokens is not None:
        raise UnsupportedModelError("tokens of a model with sparse vectors or vectors of tokens cannot be left out")
    tokenizer = (root / TOKENIZER).read_text(encoding="utf-8")
    rows = encoder_of(reference.model).get_input_embeddings().weight.shape[0]
    prompts = [text.replace("{task}", "") for text in manifest.prompts.texts.values()]
    return trimmed(tokenizer, request.kept, [*prompts, manifest.prompts.default_task or ""], rows)


def _surviving_texts(smaller: Trimmed, prompt: str) -> list[str]:
    """What a trimmed bundle is proven on: built-in texts of its tokens, and the user's own."""
    texts = list(dict.fromkeys([*smaller.survivors(builtin_texts(), prompt), *smaller.texts[:_OWN_TEXTS]]))
    if len(texts) < _FEWEST_TEXTS:
        raise OptionError(
            f"only {len(texts)} texts keep their tokens, too few to prove the bundle on: give {_FEWEST_TEXTS} or more "
            "of your own by --keep-texts"
        )
    return texts


def _with_fewer_tokens(root: Path, manifest: Manifest, smaller: Trimmed) -> Manifest:
    """The manifest of a bundle with the smaller vocabulary, whose tokenizer takes the other's place."""
    (root / TOKENIZER).write_text(smaller.tokenizer, encoding="utf-8")
    count, old = len(smaller.rows), manifest.architecture
    pad = smaller.new_id(old.pad_token_id) if old.pad_token_id in smaller.rows else 0
    spec = manifest.encoder
    return replace(
        manifest,
        architecture=replace(old, vocab_size=count, pad_token_id=pad),
        encoder=None if spec is None else replace(spec, vocab_size=count),
        notes=(*manifest.notes, smaller.note),
    )


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
    return build_graph(encoder_of(reference.model), reference.source, work)


def build_graph(encoder: Any, source: ModelSource, work: Path) -> EncoderGraph:
    """The fp32 graph of a loaded encoder: emitted where a family's file reads the config, else traced."""
    found = emit_encoder(source.config, encoder, source.name)
    if isinstance(found, EncoderGraph):
        return found
    graph = build_fp32(encoder, work, own_code=own_code_of(source.config) is not None)
    return replace(graph, notes=(*graph.notes, found)) if found else graph


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


def unreachable_tokens(name: str, encoder: Any, tokenizer: Any) -> tuple[str, ...]:
    """A note on tokens that the encoder has no row for, if there are any."""
    found = check_vocabulary(name, tokenizer, encoder.get_input_embeddings().weight.shape[0])
    return (found,) if found else ()


def describe_model(source: ModelSource, architecture: Architecture, request: ExportRequest) -> Manifest:
    """What a manifest says of any model, without its heads, its limit and its notes."""
    return Manifest(
        format_version=FORMAT_VERSION,  # until the encoder is known
        name=request.name or source.name.rpartition("/")[2],
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        source=Source(source.name, source.revision, sha256_of_weights(source)),
        architecture=architecture,
        max_tokens=1,
        tokenizer=TOKENIZER,
        pipeline=None,
        prompts=NO_PROMPTS,
        similarity=SIMILARITY_NAMES[0],
        variants={},
        files=(),
        tools=tool_versions(),
    )


def _similarity(model: Any, heads: OutputHeads) -> str:
    """Of dense vectors; a model of vectors of tokens alone has none."""
    name = str(getattr(model.similarity_fn_name, "value", model.similarity_fn_name))
    return "cosine" if heads.tokens is not None and name == heads.tokens.similarity else name


def calibration_ids(
    root: Path, manifest: Manifest, prompt: str, request: ExportRequest, rules: TextRules | TableRules | None
) -> list[list[int]]:
    """The calibration texts as the model will see texts: behind its default prompt."""
    tokenizer = TextTokenizer(root / TOKENIZER, manifest.max_tokens, rules=rules)
    texts = [prompt + text for text in read_calibration(request.calibration)]
    return [tokenizer.shaped(ids).tolist() for ids in tokenizer(texts).token_ids]


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


def shared_files(root: Path) -> tuple[BundleFile, ...]:
    """The staged bundle's files beside its variants'."""
    kept = sorted(path for path in (root / "parity").rglob("*") if path.is_file())
    paths = [root / TOKENIZER, *sorted((root / "pipeline").glob("*")), *kept]
    return tuple(describe_file(root, path.relative_to(root).as_posix()) for path in paths)


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write or replace the staged bundle's manifest."""
    (root / MANIFEST_NAME).write_text(dump_manifest(manifest), encoding="utf-8")


def _check_variants(variants: Sequence[str]) -> tuple[str, ...]:
    for name in variants:
        if name not in VARIANT_NAMES:
            raise OptionError(f"variants must be of {', '.join(VARIANT_NAMES)}, not {name!r}")
    if not variants:
        raise OptionError(f"no variants given; choose from {', '.join(VARIANT_NAMES)}")
    return tuple(name for name in VARIANT_NAMES if name in variants)


def _check_int8_recipe(name: str) -> str:
    if name not in RECIPES:
        raise OptionError(f"int8_recipe must be one of {', '.join(RECIPES)}, not {name!r}")
    return name


def _check_request(request: ExportRequest) -> None:
    if request.prompts is not None:
        choose_prompts({}, None, None, request.prompts)
    if request.calibration is not None:
        read_calibration(request.calibration)
    request.kept.check()


def tool_versions() -> dict[str, str]:
    """Of what an export uses."""
    versions = {}
    for tool in _TOOLS:
        try:
            versions[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            continue
    return versions
