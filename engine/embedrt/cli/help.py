"""`embedrt help`."""

from __future__ import annotations

import click

from embedrt.cli.base import make_command


@make_command(
    "help",
    "Show the help of a command.",
    examples=(("what embed takes", "embedrt help embed"),),
)
@click.argument("name", metavar="[COMMAND]", required=False)
@click.pass_context
def command(ctx: click.Context, name: str | None) -> None:
    """Show the help of COMMAND, or of embedrt: the same as `embedrt COMMAND --help`."""
    top = ctx.find_root()
    if name is None:
        click.echo(top.get_help())
        return
    if not isinstance(top.command, click.Group):
        raise TypeError("the top of the command line is no group")
    _, found, _ = top.command.resolve_command(top, [name])
    if found is not None:
        click.echo(found.get_help(click.Context(found, info_name=name, parent=top)))
