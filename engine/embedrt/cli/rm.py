"""`embedrt rm`."""

from __future__ import annotations

import click

from embedrt.cli.base import make_command
from embedrt.cli.tables import size_text


@make_command(
    "rm",
    "Delete bundles from the store.",
    examples=(("a bundle that is not needed any more", "embedrt rm intfloat/multilingual-e5-small"),),
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def command(names: tuple[str, ...]) -> None:
    """Delete the bundles called NAME from the store; 'embedrt list' shows their names. Directories elsewhere stay."""
    from embedrt.store.names import parse_name
    from embedrt.store.store import remove

    for name in [parse_name(text) for text in names]:  # all are names before any is deleted
        click.echo(f"deleted {name}, {size_text(remove(name))}")
