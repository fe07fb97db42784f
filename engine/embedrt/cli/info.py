"""`embedrt info`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import make_command
from embedrt.cli.tables import compact_table, facts_table, size_text

if TYPE_CHECKING:
    from rich.table import Table

    from embedrt.commands.info import BundleInfo
    from embedrt.heads import Stage
    from embedrt.manifest import Manifest


_FEW_ITEMS = 12  # of a recipe's list or table; more are counted
_PLAIN = (
    "LayerNormalization",
    "SimplifiedLayerNormalization",
    "MatMul",
    "Gather",
)  # operators that fusion leaves alone


@make_command(
    "info",
    "Show what is in a bundle, and what would run it here.",
    examples=(
        ("what is in a bundle, and is it whole", "embedrt info minilm"),
        ("without reading every byte of it", "embedrt info minilm --fast"),
        ("its identity, for a script", "embedrt info minilm --json | jq -r .running.identity.encode"),
    ),
)
@o.bundle_argument
@click.option("--fast", is_flag=True, help="Check sizes only, not hashes.")
@o.json_flag
@o.engine_options
def command(bundle: Path, fast: bool, as_json: bool, **given: Any) -> None:
    """Show a bundle: model, pipeline, prompts, variants, parity, and what would run it on this machine.

    All files are compared with their hashes; a bundle that is damaged, incomplete or of a newer format is
    refused with the reason.
    """
    from embedrt.commands.info import describe
    from embedrt.opening import open_bundle

    info = describe(open_bundle(bundle), check_hashes=not fast, **o.engine(given))
    if as_json:
        click.echo(json.dumps(info.to_json(), ensure_ascii=False, indent=1))
        return
    console = o.stdout_console()
    console.print("[bold]Bundle[/]")
    console.print(_bundle_table(info))
    console.print("\n[bold]Variants[/] [dim](* runs here; size with the shared files; parity with PyTorch in fp32)[/]")
    console.print(_variants_table(info))
    console.print("\n[bold]Recipes[/]")
    console.print(_recipes_table(info))
    console.print("\n[bold]This machine[/]")
    console.print(_machine_table(info))


def _bundle_table(info: BundleInfo) -> Table:
    from embedrt.commands.info import encoder_lines, gives, head_rows, pictures_text, uses

    manifest = info.bundle.manifest
    architecture = manifest.architecture
    layers = f"{architecture.num_layers} layers, " if manifest.table is None else "a table of token vectors, "
    shape = (
        f"{architecture.model_type}, {layers}{architecture.hidden_size} wide, vocabulary {architecture.vocab_size:,}"
    )
    checked = "sha256 of every file checked" if info.hashes_checked else "sizes checked, hashes not (--fast)"
    rows: list[tuple[str, Any]] = [
        ("name", f"{manifest.name} (format {manifest.format_version}, made {manifest.created})"),
        ("files", checked),
        ("model", manifest.source.model),
        ("revision", manifest.source.revision or "none (a local directory)"),
        ("weights", f"sha256 {manifest.source.sha256[:16]}..."),
        ("encoder", shape),
        *(("", line) for line in (() if manifest.encoder is None else encoder_lines(manifest.encoder))),
        ("gives", ", ".join(gives(manifest))),
        *_vector_rows(manifest),
        *head_rows(manifest),
        *(("used by" if k == 0 else "", line) for k, line in enumerate(uses(manifest))),
        *([] if manifest.pictures is None else [("pictures", pictures_text(manifest.pictures))]),
        ("max tokens", manifest.max_tokens),
        ("prompts", _prompts_text(info)),
        *_identity_rows(info.running.identity),
        ("made with", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
        *(("note", note) for note in manifest.notes),
    ]
    return facts_table(rows)


def _vector_rows(manifest: Manifest) -> list[tuple[str, str]]:
    pipeline = manifest.pipeline
    if pipeline is None:
        return []
    return [
        ("pipeline", " -> ".join(["+".join(pipeline.pooling), *_stage_texts(pipeline.stages)])),
        ("vectors", f"{pipeline.dimension} dimensions, similarity {manifest.similarity}"),
    ]


def _stage_texts(stages: Sequence[Stage]) -> list[str]:
    return [
        stage.kind + (f" {stage.in_features}->{stage.out_features} {stage.activation}" if stage.out_features else "")
        for stage in stages
    ]


def _identity_rows(identity: dict[str, str]) -> list[tuple[str, str]]:
    """One row where all kinds of calls give the same vectors, else one each."""
    if len(set(identity.values())) == 1:
        return [("identity", next(iter(identity.values())))]
    return [(f"identity, {kind}", value) for kind, value in identity.items()]


def _prompts_text(info: BundleInfo) -> str:
    prompts = info.bundle.manifest.prompts
    if not prompts.texts:
        return "none"
    lines = [f"{name}: {json.dumps(text, ensure_ascii=False)}" for name, text in prompts.texts.items()]
    if prompts.default_name is not None:
        lines.append(f"encode() uses {prompts.default_name!r}")
    if prompts.default_task is not None:
        lines.append(f"default task: {prompts.default_task}")
    return "\n".join([*lines, f"(from {prompts.source})"])


def _variants_table(info: BundleInfo) -> Table:
    from embedrt.commands.info import parity_text, variant_size

    parity_of = "Kendall's tau" if info.bundle.manifest.scores is not None else "least cosine"
    table = compact_table(("variant", "left"), ("size", "right"), (parity_of, "right"), ("fused", "left"))
    tower = info.bundle.manifest.pictures
    for name, variant in info.bundle.manifest.variants.items():
        fused = {operator: count for operator, count in variant.fused.items() if operator not in _PLAIN}
        how = ", ".join(f"{count} {name.replace('Normalization', 'Norm')}" for name, count in fused.items())
        mark = "*" if name == info.running.variant else " "
        size = size_text(variant_size(info.bundle, name))
        parity = parity_text(variant)
        if tower is not None:
            parity += f"\n{parity_text(tower.variants[name])} (pictures)"
        table.add_row(f"{name} {mark}", size, parity, how or "nothing")
    return table


def _recipes_table(info: BundleInfo) -> Table:
    lines = {
        name: "\n".join(f"{key.replace('_', ' ')}: {_recipe_text(value)}" for key, value in variant.recipe.items())
        for name, variant in info.bundle.manifest.variants.items()
    }
    return facts_table([(name, text or "none") for name, text in lines.items()])


def _recipe_text(value: object) -> str:
    """A value of the recipe in a few words; `--json` has it whole."""
    if isinstance(value, bool | str) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return f"{value:.7g}"
    if isinstance(value, dict):
        pairs = [f"{key} {_recipe_text(item)}" for key, item in value.items()]
        return ", ".join(pairs) or "none" if len(pairs) <= _FEW_ITEMS else f"{len(pairs)} values, see --json"
    if isinstance(value, list | tuple):
        if len(value) > _FEW_ITEMS:
            return f"{len(value)} items, see --json"
        return "; ".join(_recipe_text(item) for item in value) or "none"
    return str(value)


def _machine_table(info: BundleInfo) -> Table:
    machine, running = info.machine, info.running
    quota = "none" if machine.cgroup_quota_cpus is None else f"{machine.cgroup_quota_cpus:g} CPUs"
    rows = [
        ("cpu", machine.cpu),
        ("isa", " ".join(machine.isa) or "none that matters"),
        ("cpus", f"{machine.logical_cpus} in all, affinity {machine.affinity_cpus}, cgroup quota {quota}"),
        ("threads", running.threads),
        ("memory", size_text(machine.memory_bytes)),
        ("executor", f"{running.executor}\n({running.executor_reason})"),
        ("providers", ", ".join(running.providers)),
    ]
    return facts_table(rows)
