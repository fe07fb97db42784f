"""`embedrt map`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import counted, make_command
from embedrt.cli.corpora import (
    centred_vectors,
    check_centre,
    cluster_options,
    corpus_options,
    how_to_cluster,
    texts_or_error,
    vectors_of,
)

if TYPE_CHECKING:
    from embedrt.commands.corpus_index import CorpusIndex
    from embedrt.commands.map import Map
    from embedrt.commands.source import TextSource

_METHODS = ("auto", "umap", "pca")


@make_command(
    "map",
    "Draw the texts of a file as a map.",
    examples=(
        ("a page to move about in, coloured by clusters", "embedrt map minilm notes.txt --plot map.html"),
        ("coloured by a column, with others shown at each point",
         "embedrt map e5 faq.csv --column question --color lang --keep id \\\n      --plot faq.html"),
        ("the coordinates, for a picture of one's own", "embedrt map minilm notes.txt -o points.csv --method pca"),
    ),
)  # fmt: skip
@o.bundle_argument
@click.argument("source", metavar="IN", type=o.HomePath())
@click.option("--plot", type=o.HomePath(path_type=Path), callback=o.output_path(*o.PLOTS), metavar="OUT",
              help="Draw the map: .html is a page that works offline; .svg and .png are pictures.")  # fmt: skip
@click.option("-o", "--output", type=o.HomePath(path_type=Path), callback=o.output_path(*o.TABLES), metavar="OUT",
              help="Write the points: .csv, .tsv, .jsonl, .parquet.")  # fmt: skip
@click.option("--method", type=click.Choice(_METHODS), default="auto", show_default=True,
              help="How the plane is found; auto is umap where it is installed, else pca.")  # fmt: skip
@click.option("--color", "colour", metavar="COLUMN",
              help="Colour by this column or JSON field.  [default: by clusters]")  # fmt: skip
@cluster_options
@o.keep_option
@o.force_option
@corpus_options
def command(bundle: Path, source: str, plot: Path | None, output: Path | None, **given: Any) -> None:
    """Draw the texts of IN (.txt, .jsonl, .csv, .tsv, .parquet) as points, near ones near each other.

    The page is one file that loads nothing: drag to move, turn the wheel to zoom, point to read, search, and hide
    groups in the legend. Clusters, and UMAP, need an extra: pip install 'embedrt[analyze]'; without it the map is made
    of principal components, in one colour or by --color. Of more than 50,000 texts so many are drawn by chance.
    """
    if plot is None and output is None:
        raise click.UsageError("say where to: --plot map.html, or -o points.csv")
    from embedrt.commands.map import write_points
    from embedrt.commands.map_picture import draw
    from embedrt.commands.tables import refuse_existing
    from embedrt.embedder import Embedder

    texts = _source(source, given)
    texts.refuse_output(plot)
    refuse_existing(output, (texts,), force=given["force"])
    check_centre(source, given)
    with Embedder(bundle, **o.engine(given)) as embedder:
        index = vectors_of(embedder, texts, given)
    texts_or_error(index, texts)
    drawn = _drawn(source, texts, index, given)
    if output is not None:
        write_points(output, drawn)
        click.echo(f"written: {output}", err=True)
    if plot is not None:
        draw(drawn, plot)
        click.echo(f"drawn: {plot}", err=True)


def _source(path: str, given: dict[str, Any]) -> TextSource:
    """The input, with the column that colours among those that are kept."""
    keep, colour = given["keep"] or (), given["colour"]
    if colour is None or keep == "all":
        return o.open_input(path, given)
    if keep:  # --keep is checked by its own name
        return o.open_input(path, {**given, "keep": tuple(dict.fromkeys([*keep, colour]))})
    return o.open_input(path, {**given, "keep": (colour,)}, keep_option="--color")


def _drawn(path: str, source: TextSource, index: CorpusIndex, given: dict[str, Any]) -> Map:
    from embedrt.commands.map import Map, coloured, project, records_of, sampled_rows

    progress = o.step_progress(given["quiet"])
    rows = sampled_rows(len(index.vectors), given["seed"])
    if len(rows) < len(index.vectors) and not given["quiet"]:
        click.echo(f"{len(rows):,} of {counted(len(index.vectors), 'text')} are drawn, taken by chance", err=True)
    vectors = centred_vectors(index, path, given)
    vectors = vectors[rows] if len(rows) < len(vectors) else vectors
    records = records_of(source, rows)
    if given["colour"] is not None:
        groups = coloured(records, given["colour"], source)
    else:
        groups = _clustered(records, vectors, given)
    plane = project(vectors, given["method"], given["seed"], progress)
    keep = given["keep"]
    if given["colour"] is not None and keep != "all" and given["colour"] not in keep:
        records = tuple(replace(one, kept={k: v for k, v in one.kept.items() if k in keep}) for one in records)
    return Map(Path(source.name).name, plane, records, groups, index.identity)


def _clustered(records: Any, vectors: Any, given: dict[str, Any]) -> Any:
    """Clusters with their key words; one group where scikit-learn is missing, unless -k asks for more."""
    from embedrt.commands.map import by_clusters, uncoloured
    from embedrt.errors import DependencyError

    try:
        return by_clusters(records, vectors, how_to_cluster(given), o.step_progress(given["quiet"]))
    except DependencyError:
        if given["k"] is not None:
            raise
        return uncoloured(len(records))
