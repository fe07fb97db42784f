"""`embedrt check-dataset`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import Failure, counted, make_command


@make_command(
    "check-dataset",
    "Prove that embed-dataset left nothing out.",
    examples=(
        ("every row once, and every id as the input has it", "embedrt check-dataset vectors/"),
        ("where the input is gone", "embedrt check-dataset vectors/ --no-input"),
    ),
)
@click.argument("output", metavar="OUT")
@click.option("--input/--no-input", "with_input", default=True, show_default=True,
              help="Read the input too, and compare ids and files with it.")  # fmt: skip
@o.json_flag
def command(output: str, **given: Any) -> None:
    """Read an output of 'embedrt embed-dataset' and say whether it is whole.

    Checked are: a record per shard; hash and rows of each output; each row's place in the input, in order and without a
    gap but for those set aside; one identity, one type and width of vectors; no NaN; no file of another run. Exit
    code 1 if anything is missing, double or wrong.
    """
    from embedrt.datasets.check import check_dataset

    proof = check_dataset(output, with_input=given["with_input"])
    if given["as_json"]:
        click.echo(json.dumps({**asdict(proof), "holds": proof.holds}, ensure_ascii=False))
    else:
        for finding in proof.findings:
            click.echo(finding, err=True)
        click.echo(
            f"{counted(proof.shards, 'shard')}, {counted(proof.rows, 'row')}: {proof.written:,} with a vector, "
            f"{proof.aside:,} set aside; identity {proof.identity}; "
            + ("every row once" if proof.holds else f"{counted(proof.found, 'finding')}")
        )
    if not proof.holds:
        raise Failure("" if given["as_json"] else "error: the output is not whole; --resume does what is missing")
