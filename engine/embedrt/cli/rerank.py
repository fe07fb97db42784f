"""`embedrt rerank`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import make_command
from embedrt.cli.tables import compact_table


@make_command(
    "rerank",
    "Order the texts of a file by a reranker's score with a query.",
    examples=(
        ("the ten best lines of a file", 'embedrt rerank reranker "how do I reset it?" passages.txt'),
        ("the best three, for a script", 'embedrt rerank reranker "서울의 날씨" news.jsonl --column body -k 3 --json'),
    ),
)
@o.bundle_argument
@click.argument("query")
@click.argument("file", type=o.HomePath(allow_dash=True), metavar="FILE")
@o.reading_options
@click.option("-k", "--top-k", "k", type=click.IntRange(1), default=10, show_default=True, help="So many of the best.")
@o.json_flag
@o.engine_options
def command(bundle: Path, query: str, file: str, k: int, as_json: bool, **given: Any) -> None:
    """Score the query with each text, read together by a model of pairs, and print the best; FILE - is stdin."""
    from embedrt.commands.picture_source import PictureSource

    o.told_queries((query,))
    source = o.open_input(file, given)
    if isinstance(source, PictureSource):
        raise click.UsageError(f"{file} holds pictures, and rerankers read texts only; embedrt search finds pictures")
    texts = list(source.texts())
    if not texts:
        raise click.UsageError(f"{file} holds no texts")
    from embedrt.reranker import Reranker

    with Reranker(bundle, **o.engine(given)) as reranker:
        found = reranker.rank(query, texts, top_k=k, return_documents=True)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    table = compact_table(("score", "right"), ("row", "right"), ("text", "left"))
    for one in found:
        table.add_row(f"{one['score']:.4f}", str(one["corpus_id"]), " ".join(one["text"].split()))
    o.stdout_console().print(table)
