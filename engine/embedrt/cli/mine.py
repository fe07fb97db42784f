"""`embedrt mine`."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import counted, make_command
from embedrt.cli.corpora import corpus_options, tell_time, texts_or_error, vectors_of

if TYPE_CHECKING:
    from rich.console import Console

    from embedrt.commands.mine import MinedPair
    from embedrt.commands.source import TextSource
    from embedrt.embedder import Embedder
    from embedrt.vectors.pairs import Pairs

_SHOWN = 10  # pairs


@make_command(
    "mine",
    "Find the pairs of texts that mean the same.",
    examples=(
        ("the most alike pairs within a file", "embedrt mine minilm questions.txt"),
        ("all pairs from a cosine of 0.9 on, into a table",
         "embedrt mine minilm faq.csv --column question --threshold 0.9 \\\n      -o pairs.csv --keep id"),
        ("translations between two files, by margin",
         'embedrt mine e5 ko.txt en.txt --prompt "query: " --threshold 1.02 \\\n      -o ko-en.tsv'),
    ),
)  # fmt: skip
@o.bundle_argument
@click.argument("source", metavar="A", type=o.HomePath())
@click.argument("other", metavar="[B]", type=o.HomePath(), required=False)
@click.option("-o", "--output", type=o.HomePath(path_type=Path), callback=o.output_path(*o.TABLES), metavar="OUT",
              help="Write the pairs: .csv, .tsv, .jsonl, .parquet.")  # fmt: skip
@click.option("--threshold", type=float, help="Least score: a cosine within a file, a margin (1 and more) between two.")
@click.option("-k", "--top-k", "k", type=click.IntRange(min=1),
              help="Neighbours of each text to look at.  [default: 10 within a file, 4 between two]")  # fmt: skip
@click.option("--max-pairs", type=click.IntRange(min=1), default=500_000, show_default=True,
              help="Keep the best so many; bounds the memory.")  # fmt: skip
@click.option("--column-b", help="Column or JSON field with B's texts.  [default: as in A]")
@o.keep_option
@o.json_flag
@o.force_option
@corpus_options
def command(bundle: Path, source: str, other: str | None, output: Path | None, **given: Any) -> None:
    """Find paraphrases within A, or translations between A and B (.txt, .jsonl, .csv, .tsv, .parquet).

    Within a file the score is the cosine, and each text is paired with its nearest. Between two files it is the
    margin: the cosine over the mean cosine of both texts to their nearest of the other file, over 1 where the two are
    nearer to each other than to their surroundings; each text is in one pair at most.
    """
    from embedrt.commands.mine import Bounds, with_texts, write_pairs
    from embedrt.commands.tables import refuse_existing
    from embedrt.embedder import Embedder

    sources = _sources(source, other, given)
    refuse_existing(output, sources, force=given["force"])
    bounds = Bounds(given["k"], given["threshold"], given["max_pairs"])
    if other is None and (bounds.threshold or 0) > 1:
        raise click.UsageError(f"--threshold {bounds.threshold:g}: within a file it is a cosine, 1 at most")
    with Embedder(bundle, **o.engine(given)) as embedder:
        pairs, identity = _mined(embedder, sources, given, bounds)
    if output is not None:
        write_pairs(output, with_texts(pairs, sources))
        if not given["quiet"]:
            click.echo(f"{output}: {counted(len(pairs), 'pair')}, identity {identity}", err=True)
    if given["as_json"]:
        from embedrt.commands.mine import COLUMNS

        found = [dict(zip(COLUMNS, pair.values(), strict=True)) for pair in with_texts(pairs, sources)]
        score = "cosine" if len(sources) == 1 else "margin"
        click.echo(json.dumps({"identity": identity, "score": score, "pairs": found}, ensure_ascii=False))
    elif output is None:
        best = pairs.best(_SHOWN)
        _print(list(islice(with_texts(best, sources), _SHOWN)), len(pairs), sources, o.stdout_console())


def _sources(source: str, other: str | None, given: dict[str, Any]) -> list[TextSource]:
    first = o.open_input(source, given)
    if other is None:
        if given["column_b"] is not None:
            raise click.UsageError("--column-b goes with a second file")
        return [first]
    if given["vectors"] is not None:
        raise click.UsageError("--vectors goes with one file; two have their vectors beside them")
    return [first, o.open_input(other, {**given, "column": given["column_b"] or given["column"]})]


def _mined(embedder: Embedder, sources: list[TextSource], given: dict[str, Any], bounds: Any) -> tuple[Pairs, str]:
    from embedrt.commands.mine import PARAPHRASES_K, mine, mine_between
    from embedrt.commands.waiting import seconds_to_compare

    indexes = []
    for place, source in enumerate(sources):
        indexes.append(vectors_of(embedder, source, given, folder=_folder(sources, place, given["folder"])))
        texts_or_error(indexes[-1], source)
    progress = o.step_progress(given["quiet"])
    first, last = indexes[0].vectors, indexes[-1].vectors
    tell_time(
        lambda: seconds_to_compare(first, last, bounds.top_k or PARAPHRASES_K) * len(sources),  # two files: both ways
        sum(len(index.vectors) for index in indexes),
        given["quiet"],
    )
    if len(sources) == 1:
        return mine(indexes[0].vectors, bounds, progress), indexes[0].identity
    return mine_between(indexes[0].vectors, indexes[1].vectors, bounds, progress), indexes[0].identity


def _folder(sources: list[TextSource], place: int, chosen: Path | None) -> Path | None:
    """Where a file's vectors are; two files, and two columns of one, do not take the place of each other's."""
    source = sources[place]
    if len(sources) == 1 or source.path is None:
        return None
    twin = place == 1 and sources[0].is_file(source.path)
    name = f"{source.path.name}{f'.{source.how.column}' if twin else ''}.embedrt"
    if chosen is None:
        return source.path.with_name(name)
    chosen.mkdir(exist_ok=True)
    return chosen / f"{'ab'[place]}-{name}"


def _print(pairs: list[MinedPair], count: int, sources: list[TextSource], console: Console) -> None:
    from rich.text import Text

    from embedrt.cli.tables import compact_table
    from embedrt.commands.labels import label

    console.print(f"{counted(count, 'pair')}{f'; the best {len(pairs)}' if count > len(pairs) else ''}\n")
    if not pairs:
        return
    score = "cosine" if len(sources) == 1 else "margin"
    table = compact_table((score, "right"), (sources[0].unit, "right"), ("text", "left"))
    for pair in pairs:
        table.add_row(f"{pair.score:.3f}", f"{pair.a.line:,}", Text(label(pair.a.text or "", 160)))
        table.add_row("", f"{pair.b.line:,}", Text(label(pair.b.text or "", 160)), end_section=True)
    console.print(table)
