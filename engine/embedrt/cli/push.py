"""`embedrt push`."""

from __future__ import annotations

from pathlib import Path

import click

from embedrt.cli import options as o
from embedrt.cli.base import make_command


@make_command(
    "push",
    "Put a bundle into a repository of the hub, with a card that shows its parity.",
    examples=(
        ("a bundle for yourself", "embedrt push minilm you/minilm-embedrt --private"),
        ("what a name stands for here", "embedrt push intfloat/multilingual-e5-small you/e5-small-embedrt"),
    ),
)
@o.bundle_argument
@click.argument("name")
@click.option("--private", is_flag=True, help="Make the repository private, where it is made.")
@o.quiet_option
def command(bundle: Path, name: str, private: bool, quiet: bool) -> None:
    """Upload BUNDLE to the repository NAME (OWNER/NAME, or OWNER/NAME@BRANCH), in one commit.

    Everybody who may read it then has it by its name: Embedder("OWNER/NAME"). Needs a token that may write: 'hf auth
    login', or HF_TOKEN. A README.md in the repository is replaced by the bundle's card.
    """
    from embedrt.opening import open_bundle
    from embedrt.store.hub import upload
    from embedrt.store.names import parse_name

    where = parse_name(name)
    click.echo(upload(open_bundle(bundle), where, private=private, show_progress=not quiet))
