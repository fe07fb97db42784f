"""--long: what becomes of texts that are longer than the model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o

if TYPE_CHECKING:
    from embedrt.commands.piece_source import PieceSize

WAYS = ("windows", "pieces")


def long_options(function: o.F) -> o.F:
    """--long, --piece-tokens, --piece-overlap."""
    return o.stack(
        function,
        click.option("--long", type=click.Choice(WAYS),
                     help="Texts over the limit: one vector over windows of them, or a vector per piece of every text."
                          "  [default: they are cut]"),
        click.option("--piece-tokens", type=click.IntRange(min=1), metavar="N",
                     help="Tokens that a piece may have, prompt included.  [default: 256, or the model's limit]"),
        click.option("--piece-overlap", type=click.IntRange(min=0), metavar="N",
                     help="Tokens that a piece may repeat of the one before, in whole sentences.  [default: 32]"),
    )  # fmt: skip


def piece_size(given: dict[str, Any]) -> PieceSize | None:
    """How long pieces are; None where texts are not cut into pieces.

    Raises:
        click.UsageError: a size without pieces.
    """
    sizes = {name: given[f"piece_{name}"] for name in ("tokens", "overlap") if given[f"piece_{name}"] is not None}
    if given["long"] != "pieces":
        if sizes:
            raise click.UsageError(f"--piece-{next(iter(sizes))} goes with --long pieces")
        return None
    from embedrt.commands.piece_source import PieceSize

    return PieceSize(**sizes)
