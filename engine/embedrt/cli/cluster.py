"""`embedrt cluster`."""

from __future__ import annotations

import json
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
    from rich.console import Console

    from embedrt.commands.cluster import Described
    from embedrt.commands.clusters import Clusters

_METHODS = ("kmeans", "hdbscan")


@make_command(
    "cluster",
    "Group the texts of a file by meaning.",
    examples=(
        ("groups of the lines of a file, their number chosen", "embedrt cluster minilm notes.txt"),
        ("twelve groups of a column, with the rows and their ids",
         "embedrt cluster minilm faq.csv --column question -k 12 \\\n      -o groups.csv --keep id"),
        ("by meaning, whatever the language", "embedrt cluster e5 faq.csv --column question --center lang"),
        ("dense groups only; texts that are in none get -1",
         "embedrt cluster minilm notes.txt --method hdbscan --min-size 20 \\\n      -o groups.parquet"),
    ),
)  # fmt: skip
@o.bundle_argument
@click.argument("source", metavar="IN", type=o.HomePath())
@cluster_options
@click.option("--method", type=click.Choice(_METHODS), default="kmeans", show_default=True,
              help="How groups are found.")  # fmt: skip
@click.option("--min-size", type=click.IntRange(min=2), default=10, show_default=True,
              help="Texts that a group has at least, with hdbscan.")  # fmt: skip
@click.option("-o", "--output", type=o.HomePath(path_type=Path), callback=o.output_path(*o.TABLES), metavar="OUT",
              help="Write each row's cluster: .csv, .tsv, .jsonl, .parquet.")  # fmt: skip
@o.keep_option
@o.json_flag
@o.force_option
@corpus_options
def command(bundle: Path, source: str, output: Path | None, **given: Any) -> None:
    """Put the texts of IN (.txt, .jsonl, .csv, .tsv, .parquet) into clusters, and say what each is about.

    Vectors are scaled to length 1, so that groups are by cosine. Key words are what a group has more of than the
    others (class-based TF-IDF); central texts are the nearest to its middle. Cluster 0 is the largest. Needs
    scikit-learn: pip install 'embedrt[analyze]'.
    """
    from embedrt.commands.cluster import cluster, describe, write_rows
    from embedrt.commands.clusters import import_sklearn
    from embedrt.commands.tables import refuse_existing
    from embedrt.embedder import Embedder

    import_sklearn()
    how = how_to_cluster(given)
    texts = o.open_input(source, given)
    refuse_existing(output, (texts,), force=given["force"])
    check_centre(source, given)
    with Embedder(bundle, **o.engine(given)) as embedder:
        index = vectors_of(embedder, texts, given)
    texts_or_error(index, texts)
    clusters = cluster(texts, centred_vectors(index, source, given), how, o.step_progress(given["quiet"]))
    if output is not None:
        write_rows(output, texts, clusters)
        if not given["quiet"]:
            click.echo(f"written: {output}", err=True)
    described = describe(texts, clusters)
    if given["as_json"]:
        found = [one.to_json() for one in described]
        value = {
            "identity": index.identity,
            "method": clusters.told,
            "center": given["centre"],
            "rows": len(clusters.labels),
            "clusters": found,
        }
        click.echo(json.dumps(value, ensure_ascii=False))
    else:
        _print(described, clusters, o.stdout_console())


def _print(described: list[Described], clusters: Clusters, console: Console) -> None:
    from rich.text import Text

    from embedrt.cli.tables import compact_table
    from embedrt.commands.cluster import num_noise
    from embedrt.commands.labels import label

    none = num_noise(clusters)
    count, total = counted(len(described), "cluster"), counted(len(clusters.labels), "text")
    console.print(f"{count} of {total}{f', {none:,} in none' if none else ''}")
    console.print(Text(clusters.told, "dim"))
    console.print()
    table = compact_table(("cluster", "right"), ("texts", "right"), ("key words, and the most central texts", "left"))
    room = max(20, console.width - 18)
    for one in described:
        about = Text(label(", ".join(one.words) or "(no words of its own)", 2 * room), "bold")
        for text in one.texts:
            about.append(f"\n{label(text, room)}", "not bold")
        table.add_row(str(one.cluster), f"{one.size:,}", about, end_section=True)
    console.print(table)
