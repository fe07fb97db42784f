"""`embedrt index`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import counted, make_command
from embedrt.cli.long_texts import long_options, piece_size

if TYPE_CHECKING:
    from embedrt.commands.source import TextSource
    from embedrt.databases import Description, Indexed, IndexOptions
    from embedrt.embedder import Embedder

APPROXIMATIONS = ("exact", "hnsw", "ivf-pq", "int8", "binary")
TOKENIZERS = ("none", "ngram", "icu", "simple")


@make_command(
    "index",
    "Make a database of a file's texts, or bring it up to date.",
    examples=(
        ("a database in a folder, and a search in it", "embedrt index minilm notes.txt notes.db\n"
         '  embedrt search notes.db "how to reset it"'),
        ("rows known by a column, with columns to filter by", "embedrt index e5 faq.csv faq.db --column answer --id id "
         "\\\n      --keep lang,year --full-text ngram"),
        ("a compact index for many rows", "embedrt index e5 wiki.parquet wiki.db --approximate hnsw"),
    ),
)  # fmt: skip
@o.bundle_argument
@click.argument("corpus", type=o.HomePath())
@click.argument("url", metavar="DB")
@click.option("--id", "ids", metavar="COLUMN", help="Column that rows are known by.  [default: their texts]")
@o.keep_option
@o.reading_options
@click.option("--approximate", type=click.Choice(APPROXIMATIONS),
              help="Index over the vectors; exact is none.  [default: as it is; exact in a new table]")  # fmt: skip
@click.option("--full-text", "words", type=click.Choice(TOKENIZERS),
              help="Index over the words, by this tokenizer.  [default: as it is; none in a new table]")  # fmt: skip
@click.option("--prompt-name", help="Use the bundle's prompt of this name for the texts.  [default: for documents]")
@click.option("--prompt", help="Put this before every text.")
@click.option("--truncate-dim", type=click.IntRange(min=1), help="Keep so many dimensions, normalized anew.")
@click.option("--on-overflow", type=click.Choice(("truncate", "error")), default="truncate", show_default=True,
              help="What to do with texts over the model's limit.")  # fmt: skip
@long_options
@click.option("--no-delete", is_flag=True, help="Leave rows that the corpus does not have.")
@click.option("--rebuild", is_flag=True, help="Embed the whole corpus anew, into a new table.")
@o.api_key_option
@o.json_flag
@o.engine_options
@o.quiet_option
def command(bundle: Path, corpus: str, url: str, **given: Any) -> None:
    """Make the table DB hold what CORPUS (.txt, .jsonl, .csv, .tsv, .parquet) does, one row per record (or per piece).

    DB is a folder, by LanceDB; or qdrant://HOST:PORT/COLLECTION; or postgresql://USER@HOST/DATABASE?table=NAME, with
    pgvector. Only texts that the table does not hold are embedded; rows that the corpus has no more are deleted. After
    an interruption the same command goes on where it ended. The table keeps the identity of its vectors, and the
    names of bundle and columns.
    """
    options = _options(given)
    from embedrt.commands.entries import entries_of
    from embedrt.databases import index, open_database
    from embedrt.embedder import Embedder

    source = o.open_input(corpus, {**given, "keep": ()})
    database = open_database(url, write=True, key=given["api_key"])
    try:
        table = None if given["rebuild"] else database.describe()
        ids, keep = _columns(given, table)
        options = _as_the_table(options, ids, table)
        entries = entries_of(source, ids, keep)
        with Embedder(bundle, **o.engine(_as_made(given, table))) as embedder:
            source.check_fits(embedder)
            if options.long not in (None, "windows"):
                entries = dataclasses.replace(entries, source=_pieces(entries.source, embedder, options))
            done = index(
                embedder, database, entries, options, progress=o.step_progress(given["quiet"], f"{source.noun}s")
            )
            limit = embedder.max_tokens
    except KeyboardInterrupt:
        click.echo("what is embedded is kept; the same command goes on from it", err=True)
        raise
    finally:
        database.close()
    _report(url, done, limit, given, source.noun)


def _options(given: dict[str, Any]) -> IndexOptions:
    """What does not need the table.

    Raises:
        click.UsageError: options contradict each other.
    """
    if given["prompt"] is not None and given["prompt_name"] is not None:
        raise click.UsageError("--prompt and --prompt-name exclude each other")
    if given["long"] and given["on_overflow"] == "error":
        raise click.UsageError("--long and --on-overflow error exclude each other")
    size = piece_size(given)
    from embedrt.databases import IndexOptions

    long = given["long"] if size is None else size.name
    names = ("prompt", "prompt_name", "truncate_dim", "on_overflow", "approximate", "words", "rebuild")
    return IndexOptions(delete=not given["no_delete"], long=long, **{name: given[name] for name in names})


def _as_the_table(options: IndexOptions, ids: str | None, table: Description | None) -> IndexOptions:
    """The options, with the table's own where none are given."""
    options = dataclasses.replace(options, ids=ids)
    if table is None:
        return options
    recipe = table.recipe
    if options.prompt is None and options.prompt_name is None:
        options = dataclasses.replace(options, prompt=recipe.prompt, prompt_name=recipe.prompt_name)
    if options.long is None and options.on_overflow != "error":
        options = dataclasses.replace(options, long=recipe.long)
    if options.truncate_dim is None:
        options = dataclasses.replace(options, truncate_dim=recipe.truncate_dim)
    return options


def _pieces(source: TextSource, embedder: Embedder, options: IndexOptions) -> TextSource:
    """The pieces of the corpus' texts, as the options say."""
    from embedrt.commands.encoding import EncodeRequest
    from embedrt.commands.piece_source import PieceSize, pieces_of

    request = EncodeRequest("document", prompt=options.prompt, prompt_name=options.prompt_name)
    return pieces_of(source, embedder, request, PieceSize.named(options.long or ""))


def _columns(given: dict[str, Any], table: Description | None) -> tuple[str | None, Any]:
    """--id and --keep: those of the table where none are given."""
    if table is None:
        return given["ids"], given["keep"]
    from embedrt.commands.piece_source import PLACES

    own = PLACES if (table.recipe.long or "windows") != "windows" else ()
    columns = tuple(name for name in table.recipe.columns if name not in own)
    return given["ids"] or table.recipe.ids, given["keep"] or columns


def _as_made(given: dict[str, Any], table: Description | None) -> dict[str, Any]:
    """The engine's options, with the table's variant where none is given."""
    if table is None or given["variant"] != "auto":
        return given
    return {**given, "variant": table.recipe.variant}


def _report(url: str, done: Indexed, limit: int, given: dict[str, Any], noun: str) -> None:
    """Warnings always, the rest unless quiet; all on stderr but JSON."""
    if done.num_cut:
        click.echo(f"warning: {counted(done.num_cut, 'text')} of the corpus cut at {limit} tokens", err=True)
    if done.too_few:
        click.echo(f"{counted(done.table.num_rows, 'row')}: too few for an index, and searched exactly", err=True)
    if given["as_json"]:
        click.echo(json.dumps({"database": url, **done.to_json()}, ensure_ascii=False))
    if given["quiet"]:
        return
    changes = {"added": done.num_added, "changed": done.num_changed, "deleted": done.num_deleted}
    what = ", ".join(f"{number:,} {verb}" for verb, number in changes.items() if number) or "nothing changed"
    click.echo(
        f"{url}: {counted(done.table.num_rows, 'row')}; {what}, {counted(done.num_embedded, noun)} embedded "
        f"(identity {done.table.recipe.identity})",
        err=True,
    )
