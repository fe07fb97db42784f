"""`embedrt dedup`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import counted, make_command
from embedrt.cli.corpora import corpus_options, tell_time, texts_or_error, vectors_of

if TYPE_CHECKING:
    from rich.console import Console

    from embedrt.commands.dedup import Duplicates
    from embedrt.commands.source import TextSource

_MOST_GROUPS = 5  # that are shown


@make_command(
    "dedup",
    "Drop the near duplicates of a file.",
    examples=(
        ("see what would go", "embedrt dedup minilm notes.txt"),
        ("keep the first of each group, and say what went",
         "embedrt dedup minilm faq.csv --column question -o faq-clean.csv \\\n      --report dropped.csv"),
        ("only what all but repeats, and the longest of it",
         "embedrt dedup minilm notes.txt --threshold 0.98 --keep-longest \\\n      -o rest.txt"),
    ),
)  # fmt: skip
@o.bundle_argument
@click.argument("source", metavar="IN", type=o.HomePath())
@click.option("--threshold", type=click.FloatRange(-1, 1), default=0.95, show_default=True,
              help="Cosine from which on two texts count as the same.")  # fmt: skip
@click.option("--keep-longest", is_flag=True, help="Keep the longest text of a group.  [default: the first]")
@click.option("-o", "--output", type=o.HomePath(path_type=Path), callback=o.output_path(), metavar="OUT",
              help="Write what stays, in the format of the input.")  # fmt: skip
@click.option("--report", type=o.HomePath(path_type=Path), callback=o.output_path(*o.TABLES), metavar="FILE",
              help="Write what is dropped, and for what: .csv, .tsv, .jsonl, .parquet.")  # fmt: skip
@o.json_flag
@o.force_option
@corpus_options
def command(bundle: Path, source: str, output: Path | None, report: Path | None, **given: Any) -> None:
    """Find the texts of IN (.txt, .jsonl, .csv, .tsv, .parquet) that repeat others, and write the file without them.

    Equal texts are found by hash, near ones by the cosine of their vectors; no two texts that stay are as near as the
    threshold. Lines that stay are copied as they are, with all their columns. Without -o nothing is written but
    the vectors, which are kept beside IN as 'embedrt search' keeps them.
    """
    from embedrt.commands.dedup import find_duplicates, write_report, write_rest
    from embedrt.commands.kept_rows import check_suffix
    from embedrt.commands.tables import refuse_existing
    from embedrt.commands.waiting import seconds_to_deduplicate
    from embedrt.embedder import Embedder

    texts = o.open_input(source, given)
    if output is not None:
        check_suffix(texts, output)
    if output is not None and output == report:
        raise click.UsageError("-o and --report are the same file")
    for path in (output, report):
        refuse_existing(path, (texts,), force=given["force"])
    with Embedder(bundle, **o.engine(given)) as embedder:
        index = vectors_of(embedder, texts, given)
    texts_or_error(index, texts)
    tell_time(lambda: seconds_to_deduplicate(index.vectors, given["threshold"]), len(index.vectors), given["quiet"])
    found = find_duplicates(
        texts, index.vectors, given["threshold"], o.step_progress(given["quiet"]), keep_longest=given["keep_longest"]
    )
    if report is not None:
        write_report(report, texts, found)
    if output is not None:
        write_rest(output, texts, found)
    if given["as_json"]:
        click.echo(json.dumps({"identity": index.identity, "threshold": given["threshold"], **found.counts()}))
    else:
        _print(found, texts, o.stdout_console())
    for path in () if given["quiet"] else (output, report):
        if path is not None:
            click.echo(f"written: {path}", err=True)


def _print(found: Duplicates, source: TextSource, console: Console) -> None:
    from rich.text import Text

    from embedrt.cli.tables import compact_table
    from embedrt.commands.labels import label

    counts = found.counts()
    console.print(
        f"{counted(counts['rows'], 'text')}: {counts['kept']:,} {'stays' if counts['kept'] == 1 else 'stay'}, "
        f"{counts['exact']:,} repeat one letter for letter, {counts['near']:,} nearly"
    )
    groups = found.largest(_MOST_GROUPS)
    if not groups:
        return
    members = {row: _members(found, row) for row, _ in groups}
    wanted = {row for row, _ in groups} | {row for rows in members.values() for row in rows}
    records = {record.row: record for record in source.records() if record.row in wanted}
    table = compact_table(("cosine", "right"), (source.unit, "right"), ("text", "left"))
    for row, count in groups:
        table.add_row("stays", f"{records[row].line:,}", Text(label(records[row].text or "", 160), "bold"))
        for other in members[row]:
            told = "equal" if found.exact[other] else f"{found.scores[other]:.3f}"
            table.add_row(told, f"{records[other].line:,}", Text(label(records[other].text or "", 160)))
        if count > len(members[row]):
            table.add_row("", "", Text(f"and {count - len(members[row]):,} more", "dim"))
    console.print(
        f"[dim]the {len(groups)} largest of {counted(counts['groups'], 'group')}, the least alike of each first[/]\n"
    )
    console.print(table)


def _members(found: Duplicates, row: int, most: int = 3) -> list[int]:
    """Rows that `row` stands for: the least alike, because whether those are the same is the question."""
    import numpy as np

    rows = np.flatnonzero((found.stands == row) & ~found.stay)
    return [int(other) for other in rows[np.argsort(found.scores[rows], kind="stable")][:most]]
