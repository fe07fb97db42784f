"""`embedrt verify`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import Failure, Option, make_command

if TYPE_CHECKING:
    from embedrt.bundle import Bundle
    from embedrt.progress import Progress

_VARIANTS = ("fp32", "fp16", "int8", "bf16")


@make_command(
    "verify",
    "Compare a bundle's vectors with the PyTorch model's.",
    examples=(
        ("on the machine that will run it, without torch", "embedrt verify minilm"),
        ("one variant, with a page of plots", "embedrt verify minilm --variants int8 --html parity.html"),
        ("against the model itself, on your own texts",
         "embedrt verify minilm --against sentence-transformers/all-MiniLM-L6-v2 \\\n      --texts mine.txt"),
    ),
)  # fmt: skip
@o.bundle_argument
@click.option("--against", metavar="MODEL", help="Compute the reference anew with PyTorch (needs embedrt[export]).")
@click.option("--texts", type=o.HomePath(), metavar="FILE",
              help="Texts to compare on, with --against.  [default: the bundle's]")  # fmt: skip
@o.trust_option
@o.reading_options
@click.option("--variants", cls=Option, formerly=["--variant"],
              **o.named_list(_VARIANTS, "Which variants; without it all"))  # fmt: skip
@o.device_option
@o.executor_option
@o.isa_option
@o.threads_option
@o.json_option("the report")
@click.option("--html", "html_path", type=o.HomePath(path_type=Path), callback=o.output_path(), metavar="OUT",
              help="Write the report as one HTML page.")  # fmt: skip
@o.quiet_option
def command(bundle: Path, json_path: Path | None, html_path: Path | None, quiet: bool, **given: Any) -> None:
    """Compare a bundle's vectors with the PyTorch model's, on this machine.

    The bundle keeps texts and reference vectors, so that this needs no torch. It also embeds the texts alone, in
    batches and in other orders, which must not matter. Exit code 1 if a gate is missed.
    """
    if given["texts"] is not None and given["against"] is None:
        raise click.UsageError("--texts needs --against MODEL: the bundle has no reference vectors for them")
    if given["trust_remote_code"] and given["against"] is None:
        raise click.UsageError("--trust-remote-code needs --against MODEL: without it no code of a model's is run")
    from embedrt.commands.tables import write_whole
    from embedrt.opening import open_bundle
    from embedrt.parity.html import render_page
    from embedrt.parity.loading import default_embedder, default_model, default_reranker
    from embedrt.parity.report import picture_report, render_table
    from embedrt.parity.verify import verify_bundle

    opened = open_bundle(bundle)
    engine = {"executor": given["executor"], "isa": given["isa"]}
    progress = o.step_progress(quiet)
    report = verify_bundle(
        opened,
        variants=given["variants"],
        device=given["device"],
        num_threads=given["threads"],
        progress=progress,
        make_embedder=functools.partial(default_embedder, **engine),
        make_reranker=functools.partial(default_reranker, **engine),
        make_model=functools.partial(default_model, **engine),
        **_reference(opened, {**given, "json_path": json_path, "html_path": html_path}, progress),
    )
    if html_path is not None:
        write_whole(html_path, render_page(report))
    if json_path is not None and str(json_path) != "-":
        write_whole(json_path, report.to_json())
    if json_path is not None and str(json_path) == "-":
        click.echo(report.to_json(), nl=False)
    elif not quiet:
        for part in (report, picture_report(report)):
            if part is not None:
                o.stdout_console().print(render_table(part))
    if not report.passed:
        raise Failure("error: parity missed: " + "; ".join(report.failures))


def _reference(bundle: Bundle, given: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The texts and what the model says of them; nothing where the bundle's own are meant."""
    model = given["against"]
    if model is None:
        return {}
    from embedrt.exporter import import_exporter
    from embedrt.manifest import pipeline_of
    from embedrt.parity.files import read_parity_files
    from embedrt.prompting import choose_prompt

    import_exporter()
    from embedrt_export.reference import reference_vectors

    manifest = bundle.manifest
    if given["texts"] is None:
        texts = list(read_parity_files(bundle).texts)
    else:
        source = o.open_input(given["texts"], given)
        source.refuse_output(given["json_path"], given["html_path"])
        texts = list(source.texts())
        if not texts:
            raise click.UsageError(f"{given['texts']} holds no texts")
    with progress.step(f"Reference vectors of {Path(model).name}", len(texts)) as advance:
        vectors = reference_vectors(
            model,
            texts,
            pooling="+".join(pipeline_of(manifest).pooling),
            max_tokens=manifest.max_tokens,
            prompt=choose_prompt(manifest.prompts, None, None),
            trust_remote_code=given["trust_remote_code"],
            advance=advance,
        )
    return {"texts": texts, "reference": vectors, "reference_description": f"PyTorch fp32, {model}"}
