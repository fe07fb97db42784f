"""`embedrt search`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import make_command
from embedrt.cli.corpora import in_pieces, index_options, vectors_of
from embedrt.cli.long_texts import long_options, piece_size
from embedrt.cli.search_database import OF_A_DATABASE, database_options, search_database

if TYPE_CHECKING:
    from rich.console import Console

    from embedrt.commands.corpus_index import Wish
    from embedrt.commands.encoding import EncodeRequest
    from embedrt.commands.search import Answer, Hit
    from embedrt.commands.source import TextSource


@make_command(
    "search",
    "Find the records of a file, or of a database, that are nearest to a query.",
    examples=(
        ("the five nearest lines of a file", 'embedrt search minilm notes.txt "how to reset it"'),
        ("a task for an instruct model", 'embedrt search e5 faq.csv "환불" --column answer \\\n'
         '      --task "Retrieve the answer to a customer\'s question"'),
        ("the place within long texts", 'embedrt search e5 manuals.jsonl "reset" --long pieces'),
        ("in a database that 'embedrt index' made", "embedrt search faq.db \"환불\" --where \"lang = 'ko'\""),
        ("for a script", 'embedrt search minilm notes.txt "reset" -k 1 --json | jq ".answers[0].hits[0]"'),
    ),
)  # fmt: skip
@click.argument("arguments", metavar="(DB | BUNDLE CORPUS) QUERY...", nargs=-1, required=True)
@click.option("-k", "--top-k", "k", type=click.IntRange(min=1), default=5, show_default=True, help="Hits per query.")
@click.option("--task", help="Task that fills the query prompt, for instruct models.")
@click.option("--prompt-name", help="Use the bundle's prompt of this name for the queries.")
@click.option("--prompt", help="Put this before every query.")
@click.option("--document-prompt-name", help="Use the bundle's prompt of this name for the corpus.")
@click.option("--document-prompt", help="Put this before every text of the corpus.")
@o.keep_option
@long_options
@database_options
@o.reading_options
@index_options
@o.json_flag
@o.engine_options
@o.quiet_option
@click.pass_context
def command(ctx: click.Context, /, arguments: tuple[str, ...], k: int, **given: Any) -> None:
    """Print the records of CORPUS (.txt, .jsonl, .csv, .tsv, .parquet), or the rows of DB, nearest to each QUERY.

    CORPUS may be a folder of pictures, and a QUERY the path of one, where the bundle is of CLIP or its kin.

    DB is what 'embedrt index' made, a folder or a server's URL; it knows its bundle.

    CORPUS is embedded once, with the document prompt, and its vectors are kept beside it, one set per identity:
    another model, variant or prompt makes its own. When the corpus changes, only new texts are embedded; after an
    interruption the next search goes on where it ended.
    """
    from embedrt.databases.names import is_database

    first = arguments[0]
    if is_database(first):
        _refuse(ctx, _OF_A_FILE, f"{first} is a database")
        if len(arguments) < 2:
            raise click.UsageError("Missing argument 'QUERY...'.")
        search_database(first, o.told_queries(arguments[1:]), k, given)
        return
    if len(arguments) > 1 and is_database(arguments[1]):
        raise click.UsageError(
            f"{arguments[1]} is a database, which knows its bundle: embedrt search {arguments[1]} QUERY..."
        )
    if len(arguments) < 3:
        raise _too_few(arguments)
    _refuse(ctx, OF_A_DATABASE, f"{first} is no database")
    queries = o.told_queries(arguments[2:])
    _search_file(o.bundle_path(first), o.HomePath().convert(arguments[1], None, ctx), queries, k, given)


_OF_A_FILE = (
    "document_prompt", "document_prompt_name", "column", "input_format", "encoding", "delimiter", "quoting", "folder",
    "vectors", "rebuild", "long", "piece_tokens", "piece_overlap",
)  # fmt: skip


def _refuse(ctx: click.Context, names: tuple[str, ...], why: str) -> None:
    """Wrong usage if options are given that mean nothing here."""
    for param in ctx.command.params:
        source = ctx.get_parameter_source(param.name or "")
        if param.name in names and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{param.opts[-1]} does not go with this: {why}")


def _too_few(arguments: tuple[str, ...]) -> click.UsageError:
    """What is missing, or what the first argument is not."""
    if len(arguments) == 2 and not Path(arguments[1]).exists():
        return click.UsageError(
            f"{arguments[0]} is no database that 'embedrt index' made, so there must be BUNDLE, CORPUS and QUERY..."
        )
    return click.UsageError(f"Missing argument '{'CORPUS' if len(arguments) == 1 else 'QUERY...'}'.")


def _search_file(bundle: Path, corpus: str, queries: tuple[str, ...], k: int, given: dict[str, Any]) -> None:
    (asked, wish), size = _requests(given), piece_size(given)
    from embedrt.commands.search import search
    from embedrt.embedder import Embedder

    source = o.open_input(corpus, given)
    with Embedder(bundle, **o.engine(given)) as embedder:
        if size is not None:
            source, given = in_pieces(embedder, source, given, wish.request, size)
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

    documents = EncodeRequest(
        "document",
        prompt=given["document_prompt"],
        prompt_name=given["document_prompt_name"],
        on_overflow="windows" if given["long"] == "windows" else "truncate",
    )
    return asked, Wish(documents)


def _print_answers(answers: list[Answer], corpus: TextSource, console: Console) -> None:
    from embedrt.cli.hits import ShownHit, print_hits

    for answer in answers:
        kept = [_with_place(hit) for hit in answer.hits]
        names = list(dict.fromkeys(name for columns in kept for name in columns))
        shown = [
            ShownHit(hit.rank, hit.score, f"{hit.line:,}", columns, hit.text)
            for hit, columns in zip(answer.hits, kept, strict=True)
        ]
        query = answer.query if len(answers) > 1 else None
        print_hits(query, shown, (corpus.unit, "right"), names, console, "no hits: the corpus is empty")


def _with_place(hit: Hit) -> dict[str, Any]:
    """What a hit keeps, behind the characters of a piece."""
    place = {} if hit.piece is None else {"characters": "{}-{}".format(*hit.piece)}
    return {**place, **hit.kept}
