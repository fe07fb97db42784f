"""`embedrt search`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from embedrt.cli import options as o
from embedrt.cli.base import make_command
from embedrt.cli.corpora import index_options, vectors_of

if TYPE_CHECKING:
    from rich.console import Console

    from embedrt.commands.corpus_index import Wish
    from embedrt.commands.encoding import EncodeRequest
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
@click.option("--prompt-name", help="Use the bundle's prompt of this name for the queries.")
@click.option("--prompt", help="Put this before every query.")
@click.option("--document-prompt-name", help="Use the bundle's prompt of this name for the corpus.")
@click.option("--document-prompt", help="Put this before every text of the corpus.")
@o.reading_options
@o.keep_option
@index_options
@o.json_flag
@o.engine_options
@o.quiet_option
def command(bundle: Path, corpus: str, queries: tuple[str, ...], k: int, **given: Any) -> None:
    """Print the records of CORPUS (.txt, .jsonl, .csv, .tsv, .parquet) nearest to each QUERY.

    The corpus is embedded once, with the document prompt, and its vectors are kept beside it, one set per
    identity: another model, variant or prompt makes its own. When the corpus changes, only new texts are
    embedded; after an interruption the next search goes on where it ended.
    """
    asked, wish = _requests(given)
    from embedrt.commands.search import search
    from embedrt.embedder import Embedder

    source = o.open_input(corpus, given)
    with Embedder(bundle, **o.engine(given)) as embedder:
        index = vectors_of(embedder, source, given, wish)
        answers = search(embedder, index, source, queries, asked, k)
    if given["as_json"]:
        value = {"corpus_identity": index.identity, "answers": [answer.to_json() for answer in answers]}
        click.echo(json.dumps(value, ensure_ascii=False))
    else:
        _print_answers(answers, source, o.stdout_console())


def _requests(given: dict[str, Any]) -> tuple[EncodeRequest, Wish]:
    """How queries are embedded, and the corpus.

    Raises:
        click.UsageError: prompts contradict each other.
    """
    if given["document_prompt"] is not None and given["document_prompt_name"] is not None:
        raise click.UsageError("--document-prompt and --document-prompt-name exclude each other")
    asked = o.encode_request({"query": True, **{name: given[name] for name in ("task", "prompt", "prompt_name")}})
    from embedrt.commands.corpus_index import Wish
    from embedrt.commands.encoding import EncodeRequest

    documents = EncodeRequest("document", prompt=given["document_prompt"], prompt_name=given["document_prompt_name"])
    return asked, Wish(documents)


def _print_answers(answers: list[Answer], corpus: TextSource, console: Console) -> None:
    from rich.text import Text

    from embedrt.cli.tables import compact_table
    from embedrt.commands.labels import label

    for answer in answers:
        if len(answers) > 1:
            console.print(Text(label(answer.query, console.width), "bold"))
        names = list(dict.fromkeys(name for hit in answer.hits for name in hit.kept))
        kept: list[tuple[str, Literal["left"]]] = [(name, "left") for name in names]
        table = compact_table(("", "right"), ("score", "right"), (corpus.unit, "right"), *kept, ("text", "left"))
        for hit in answer.hits:
            values = [Text(label(_shown(hit.kept.get(name)), 60)) for name in names]
            table.add_row(str(hit.rank), f"{hit.score:.4f}", f"{hit.line:,}", *values, Text(label(hit.text, 240)))
        console.print(table if answer.hits else "no hits: the corpus is empty")


def _shown(value: Any) -> str:
    """A kept value in a table."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
