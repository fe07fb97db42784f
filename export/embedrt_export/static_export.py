"""The sentence of export for static embeddings: load the reference -> table -> variants -> prove -> manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from embedrt.errors import OptionError, UnsupportedModelError
from embedrt.heads import SIMILARITY_NAMES, Pipeline, Stage
from embedrt.manifest import format_for
from embedrt.parity.files import write_parity_files
from embedrt.parity.report import ParityReport
from embedrt.parity.texts import builtin_texts
from embedrt.precision import CODE_WIDTH
from embedrt.progress import Progress
from embedrt.prompting import choose_prompt
from embedrt.text_rules import TableRules
from embedrt.tokenization import TextTokenizer
from embedrt_export.calibration import calibration_ids
from embedrt_export.emit import emit
from embedrt_export.graph import EncoderGraph, count_operators
from embedrt_export.int8 import RECIPES, Int8Recipe
from embedrt_export.output_heads import name_of
from embedrt_export.pipeline import write_stages
from embedrt_export.prompts import choose_prompts
from embedrt_export.proving import prove
from embedrt_export.request import ExportRequest
from embedrt_export.source import ModelSource
from embedrt_export.staged_manifest import TOKENIZER, describe_model, shared_files, tool_versions, write_manifest
from embedrt_export.static_reference import StaticReference, load_static
from embedrt_export.variants import Job, make_variants

_REFERENCES = ("sentence-transformers", "torch", "transformers")
_NO_LIMIT = 1 << 20  # tokens of a text where the model has no limit: a bundle says one


def export_static(root: Path, source: ModelSource, request: ExportRequest, progress: Progress) -> ParityReport:
    """Export static embeddings into the staged bundle at `root`, and prove it.

    Raises:
        ExportError: UnsupportedModelError, SourceError, or ParityError, where a gate was missed.
        OptionError: `request` has an option that is of encoders alone.
    """
    _check(source, request)
    with progress.step("load the reference in fp32"):
        reference = load_static(source, max_tokens=request.max_tokens)
    table = reference.table
    (root / TOKENIZER).write_text(table.tokenizer_json(), encoding="utf-8")
    model = reference.pipeline
    prompts = choose_prompts(
        {} if model is None else {name: text for name, text in (model.prompts or {}).items() if text is not None},
        None if model is None else model.default_prompt_name,
        None,
        request.prompts,
    )
    manifest = replace(
        describe_model(source, table.architecture(), request),
        max_tokens=min(table.max_tokens or _NO_LIMIT, _NO_LIMIT),
        prompts=prompts,
        pipeline=_pipeline(reference, root),
        code_width=CODE_WIDTH,
        similarity=SIMILARITY_NAMES[0] if model is None else name_of(model.similarity_fn_name),
        notes=(*reference.notes, f"static embeddings, read as {table.library} reads them"),
        encoder=table.spec(),
        tools=_tools(reference),
        table=TableRules(table.num_tokens, table.skipped_id, table.characters_per_token),
    )
    texts, prompt = builtin_texts(), choose_prompt(prompts, None, None)
    with progress.step("reference vectors", total=len(texts)) as advance:
        write_parity_files(root, texts, reference.encode(texts, prompt, advance))
    with progress.step("make the graph"):
        graph = emit(table.spec(), {"embeddings.word": table.folded()})
    tokenizer = TextTokenizer(root / TOKENIZER, manifest.max_tokens, rules=manifest.table)
    job = Job(
        root=root,
        graph=EncoderGraph(graph, None, count_operators(graph), (), table.spec()),
        calibration=calibration_ids(request.calibration, tokenizer, prompt, graph),
        token=None,
        int8=_recipe(request.int8_recipe),
    )
    manifest = replace(manifest, variants=make_variants(job, request.variants, progress))
    manifest = replace(manifest, format_version=format_for(manifest), files=shared_files(root))
    write_manifest(root, manifest)
    return prove(root, manifest, request.num_threads, progress)


def _check(source: ModelSource, request: ExportRequest) -> None:
    if request.pooling is not None:
        raise OptionError(f"{source.name} is static embeddings, whose pooling is the mean; --pooling is for encoders")
    if request.pictures_from is not None:
        raise OptionError(f"{source.name} is static embeddings; --pictures-from goes with an encoder of texts")
    if request.kept:
        raise UnsupportedModelError("tokens of static embeddings cannot be left out yet")


def _tools(reference: StaticReference) -> dict[str, str]:
    """Of what an export uses, without libraries that this reference is not made by."""
    others = {name: version for name, version in tool_versions().items() if name not in _REFERENCES}
    return others | reference.made_by


def _recipe(name: str) -> Int8Recipe:
    """A recipe that keeps some products float32 has none here: each row gets the second one that few get else."""
    recipe = RECIPES[name]
    return replace(recipe, table_rest_share=1.0) if recipe.float32_share else recipe


def _pipeline(reference: StaticReference, root: Path) -> Pipeline:
    model, table = reference.pipeline, reference.table
    width = int(table.vectors.shape[1])
    if model is None:
        return Pipeline(("mean",), True, (Stage("normalize"),) if table.normalize else (), width)
    return Pipeline(("mean",), True, write_stages(list(model), 1, root), int(model.get_embedding_dimension()))
