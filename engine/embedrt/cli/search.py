"""`embedrt search`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import counted, make_command

if TYPE_CHECKING:
    from rich.console import Console

    from embedrt.commands.corpus_index import CorpusIndex
    from embedrt.commands.search import Answer
    from embedrt.commands.source import TextSource


@make_command(
    "search",
    "Find the records of a file that are nearest to a query.",
    examples=(
        ("the five nearest lines of a file", 'embedrt search minilm notes.txt "how to reset it"'),
        ("a task for an instruct model", 'embedrt search e5 faq.csv "환불" --column answer \\\n'
         '      --task "Retrieve the answer to a customer\'s question"'),
        ("for a script", 'embedrt search minilm notes.txt "reset" -k 1 --json | jq ".answers[0].hits[0]"'),
    ),
)  # fmt: skip
@o.bundle_argument
@click.argument("corpus", type=o.HomePath())
@click.argument("queries", metavar="QUERY...", nargs=-1, required=True)
@click.option("-k", "--top-k", "k", type=click.IntRange(min=1), default=5, show_default=True, help="Hits per query.")
@click.option("--task", help="Task that fills the query prompt, for instruct models.")
@o.reading_options
@click.option("--index", "folder", type=o.HomePath(path_type=Path, file_okay=False), metavar="DIR",
              help="Where to keep the corpus' vectors.  [default: CORPUS.embedrt]")  # fmt: skip
@click.option("--rebuild", is_flag=True, help="Embed the whole corpus anew.")
@o.json_flag
@o.engine_options
@o.quiet_option
def command(bundle: Path, corpus: str, queries: tuple[str, ...], k: int, task: str | None, **given: Any) -> None:
    """Print the records of CORPUS (.txt, .jsonl, .csv, .tsv, .parquet) nearest to each QUERY.

    The corpus is embedded once, with the document prompt, and its vectors are kept beside it, one set per
    identity: another model or variant makes its own. When the corpus changes, only new texts are embedded.
    """
    from embedrt.commands.corpus_index import open_index
    from embedrt.commands.search import search
    from embedrt.embedder import Embedder
    from embedrt.progress import NullProgress, RichProgress

    source = o.open_input(corpus, given)
    folder = given["folder"] or Path(f"{corpus}.embedrt")
    progress = NullProgress() if given["quiet"] else RichProgress(o.stderr_console(), unit="texts")
    with Embedder(bundle, **o.engine(given)) as embedder:
        index = open_index(embedder, source, folder, progress, rebuild=given["rebuild"])
        _report(index, embedder.max_tokens, given["quiet"])
        answers = search(embedder, index, source, queries, k=k, task=task)
    if given["as_json"]:
        value = {"corpus_identity": index.identity, "answers": [answer.to_json() for answer in answers]}
        click.echo(json.dumps(value, ensure_ascii=False))
    else:
        _print_answers(answers, source, o.stdout_console())


def _report(index: CorpusIndex, limit: int, quiet: bool) -> None:
    if index.num_cut:
        click.echo(f"warning: {counted(index.num_cut, 'text')} of the corpus cut at {limit} tokens", err=True)
    if quiet:
        return
    if not index.num_embedded:
        what = f"reused {counted(index.num_reused, 'vector')}"
    elif not index.num_reused:
        what = f"embedded {counted(index.num_embedded, 'row')}"
    else:
        what = f"embedded {counted(index.num_embedded, 'changed row')}, reused {counted(index.num_reused, 'vector')}"
    click.echo(f"{what} ({index.folder}, identity {index.identity})", err=True)


def _print_answers(answers: list[Answer], corpus: TextSource, console: Console) -> None:
    from rich.text import Text

    from embedrt.cli.tables import compact_table
    from embedrt.commands.labels import label

    for answer in answers:
        if len(answers) > 1:
            console.print(Text(label(answer.query, console.width), "bold"))
        table = compact_table(("", "right"), ("score", "right"), (corpus.unit, "right"), ("text", "left"))
        for hit in answer.hits:
            table.add_row(str(hit.rank), f"{hit.score:.4f}", f"{hit.line:,}", Text(label(hit.text, 240)))
        console.print(table if answer.hits else "no hits: the corpus is empty")
