"""`embedrt similarity`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import Option, make_command

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from embedrt.commands.similarity import SimilarityMatrix

_MAX_TEXTS = 200
_LABEL_COLUMNS = 24  # at least so many are left for the texts
_GAP = 2  # columns between two of a table
_CELL_COLUMNS = 6 + _GAP  # "-0.123"


@make_command(
    "similarity",
    "Print, and draw, how similar texts are to each other.",
    examples=(
        ("three sentences", 'embedrt similarity minilm "a cat" "a kitten" "a tax form"'),
        ("the lines of a file, drawn", "embedrt similarity minilm --texts lines.txt --plot map.html"),
        ("a prompt in front of every text", 'embedrt similarity e5 --prompt "query: " "a cat" "고양이"'),
    ),
)
@o.bundle_argument
@click.argument("texts", metavar="TEXT...", nargs=-1)
@click.option("--texts", "file", cls=Option, formerly=["--file"], type=o.HomePath(allow_dash=True), metavar="FILE",
              help="Take the texts from a file; - is stdin.")  # fmt: skip
@o.reading_options
@click.option("--plot", type=o.HomePath(path_type=Path), callback=o.output_path(*o.PLOTS), metavar="OUT",
              help="Draw the matrix: .svg and .html use the viewer's fonts, .png one that is installed.")  # fmt: skip
@o.json_flag
@o.prompt_options
@o.engine_options
def command(bundle: Path, texts: tuple[str, ...], **given: Any) -> None:
    """Print how similar texts are, each to each, by the model's own similarity function."""
    if bool(texts) == (given["file"] is not None):
        raise click.UsageError("give texts as arguments, or a file with --texts, one of the two")
    request = o.encode_request(given)
    from embedrt.commands.similarity import compare
    from embedrt.embedder import Embedder

    if given["file"] is not None:
        source = o.open_input(given["file"], given)
        source.refuse_output(given["plot"])
        texts = tuple(source.texts())
    if not 1 <= len(texts) <= _MAX_TEXTS:
        raise click.UsageError(f"1 to {_MAX_TEXTS} texts make a matrix that can be read, not {len(texts):,}")
    with Embedder(bundle, **o.engine(given)) as embedder:
        matrix = compare(embedder, texts, request)
        limit = embedder.max_tokens
    if matrix.num_cut:
        click.echo(f"warning: {matrix.num_cut} of {len(texts)} texts were cut at {limit} tokens", err=True)
    if given["as_json"]:
        click.echo(json.dumps(matrix.to_json(), ensure_ascii=False))
    else:
        _print_matrix(matrix, o.stdout_console())
    if given["plot"] is not None:
        from embedrt.commands.heatmap import draw

        draw(matrix, given["plot"])
        click.echo(f"drawn: {given['plot']}", err=True)


def _print_matrix(matrix: SimilarityMatrix, console: Console) -> None:
    """In blocks of as many columns as the terminal has room for."""
    from embedrt.commands.heatmap import note_of
    from embedrt.commands.labels import width

    count = len(matrix.texts)
    room = console.width - len(str(count)) - _GAP
    per_block = max(1, min(count, (room - _LABEL_COLUMNS) // _CELL_COLUMNS))
    label_columns = min(
        max(7, *(width(text) for text in matrix.texts)), max(12, room - per_block * _CELL_COLUMNS - _GAP)
    )
    for start in range(0, count, per_block):
        console.print(_block(matrix, range(start, min(start + per_block, count)), label_columns))
        console.print()
    console.print(f"[dim]{note_of(matrix)}[/]")
    console.print(f"[dim]{matrix.function} similarity, identity {matrix.identity}[/]")


def _block(matrix: SimilarityMatrix, columns: range, label_columns: int) -> Table:
    from rich.text import Text

    from embedrt.cli.tables import compact_table
    from embedrt.commands.heatmap import DARK, colour, share_of
    from embedrt.commands.labels import label

    low, high = matrix.scale()
    table = compact_table(("", "right"), ("", "left"), *((str(j + 1), "right") for j in columns))
    for i, text in enumerate(matrix.texts):
        cells = []
        for j in columns:
            value = float(matrix.values[i, j])
            share = share_of(value, low, high)
            red, green, blue = colour(share)
            ink = "white" if share > DARK else "black"
            style = "dim" if i == j else f"{ink} on rgb({red},{green},{blue})"
            cells.append(Text(f"{value:.3f}", style))
        table.add_row(str(i + 1), Text(label(text, label_columns), no_wrap=True), *cells)
    return table
