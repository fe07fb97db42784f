"""`embedrt export`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import make_command

_VARIANTS = ("fp32", "fp16", "int8")
INT8_RECIPES = ("default", "accurate", "rounded")  # the exporter's, which --help cannot import: it has torch


def _codes(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(code.strip() for code in value.split(",") if code.strip())


@make_command(
    "export",
    "Turn a model into a bundle, and measure it against PyTorch.",
    examples=(
        ("a model of the Hugging Face hub", "embedrt export sentence-transformers/all-MiniLM-L6-v2 minilm"),
        ("a local directory, one variant", "embedrt export ./my-model bundle --variants int8"),
        ("texts of many languages beside CLIP's pictures",
         "embedrt export sentence-transformers/clip-ViT-B-32-multilingual-v1 clip \\\n"
         "      --pictures-from sentence-transformers/clip-ViT-B-32"),
        ("CLS pooling instead of the model's own", "embedrt export intfloat/multilingual-e5-large-instruct e5 \\\n"
         "      --pooling cls --prompts prompts.json"),
    ),
)  # fmt: skip
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--variants", default=",".join(_VARIANTS), show_default=True, callback=o.split_list(_VARIANTS),
              help="Which precisions to make.")  # fmt: skip
@click.option("--pooling", help="cls, mean, max, mean_sqrt_len_tokens, weightedmean, lasttoken, or several "
              "joined by +.  [default: what the model's files say]")  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(min=1), help="Limit of tokens.  [default: the model's]")
@click.option("--revision", help="Branch, tag or commit of a hub model.")
@click.option("--prompts", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="JSON file of prompts by name, e.g. {\"query\": \"Q: \"}; overrides the model's.")  # fmt: skip
@click.option("--calibration", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Texts to calibrate int8 on, one per line.  [default: built in]")  # fmt: skip
@click.option("--int8-recipe", type=click.Choice(INT8_RECIPES), default=INT8_RECIPES[0], show_default=True,
              help="How int8 is made; docs/accuracy.md has what each gives and costs.")  # fmt: skip
@click.option("--name", help="Name of the bundle, by which a family's prompts are found too.  "
              "[default: the model's, from the hub, its directory or its card]")  # fmt: skip
@click.option("--pictures-from", metavar="MODEL", help="A model of CLIP's kind, whose encoder of pictures goes along "
              "with texts that were trained for its vectors.")  # fmt: skip
@click.option("--adapter", metavar="ADAPTER", help="LoRA adapter, a directory or a hub id, to merge into MODEL.")
@click.option("--keep-languages", default="", metavar="CODES", callback=_codes,
              help="Leave out tokens of other scripts than these languages': ko,en.")  # fmt: skip
@click.option("--keep-tokens", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Leave out all tokens but these, one per line.")  # fmt: skip
@click.option("--keep-texts", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Leave out all tokens but those that these texts become.")  # fmt: skip
@o.trust_option
@o.force_option
@o.quiet_option
def command(model: str, out: Path, quiet: bool, **given: Any) -> None:
    """Export MODEL, a hub id or a directory, to the bundle OUT, and measure it against PyTorch.

    Every variant is compared with sentence-transformers in fp32; one that misses its gates fails the export. OUT
    appears whole or not at all. Needs the extra: pip install 'embedrt[export]'.
    """
    from embedrt.exporter import import_exporter
    from embedrt.parity.report import picture_report, render_table

    # torch's OpenMP reads it as it is loaded. Threads that spin while they wait take 9 times the CPU beside other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    exporter = import_exporter()
    signal.signal(signal.SIGTERM, _end)
    report = exporter.export(model, out, progress=o.step_progress(quiet), **given)
    if quiet:
        return
    for part in (report, picture_report(report)):
        if part is not None:
            o.stdout_console().print(render_table(part))
    click.echo(f"bundle: {out}\nreport: {out / 'parity' / 'report.html'}")


def _end(number: int, _frame: object) -> None:
    """End with the shell's code for the signal, and clean up on the way: half a bundle may be gigabytes."""
    raise SystemExit(128 + number)
