"""`embedrt pull`."""

from __future__ import annotations

from typing import Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import make_command


@make_command(
    "pull",
    "Get a bundle by its name into the store: from the hub, else by an export.",
    examples=(
        ("a model that you will use by name", "embedrt pull intfloat/multilingual-e5-small"),
        ("only int8 of a bundle on the hub", "embedrt pull you/your-bundle --variants int8"),
        ("where the store is elsewhere", "EMBEDRT_HOME=/srv/embedrt embedrt pull you/your-bundle"),
    ),
)
@click.argument("name")
@click.option("--variants", callback=o.split_list(("fp32", "fp16", "int8")),
              help="Get only these precisions, such as int8 or fp32,int8.  [default: all]")  # fmt: skip
@click.option("--export/--no-export", "may_export", default=True, show_default=True,
              help="Whether to export the model where the hub has no bundle of that name.")  # fmt: skip
@o.quiet_option
def command(name: str, variants: tuple[str, ...] | None, may_export: bool, quiet: bool) -> None:
    """Get the bundle NAME, such as OWNER/NAME or OWNER/NAME@REVISION, and print where it is.

    Every command takes NAME in place of a directory afterwards, and so does Embedder("OWNER/NAME"). What is there
    already is not fetched again; 'embedrt rm NAME' makes room for a newer one. Settings of the hub's client are
    honoured: HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE.
    """
    from embedrt.store.names import parse_name
    from embedrt.store.store import obtain

    path = obtain(parse_name(name), variants=variants, may_export=may_export, progress=_progress(quiet))
    click.echo(path)


def _progress(quiet: bool) -> Any:
    return None if quiet else o.step_progress(quiet)
