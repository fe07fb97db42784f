"""`embedrt embed-dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import Failure, counted, make_command

if TYPE_CHECKING:
    from embedrt.datasets.run import DatasetJob, Heard, Outcome

_ENGINES = ("local", "ray", "spark")
_PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")
_SHOWN = 5  # problems on the screen


@make_command(
    "embed-dataset",
    "Embed a folder or bucket, exactly once.",
    examples=(
        ("a folder of Parquet files", "embedrt embed-dataset minilm corpus/ vectors/ --text body --id id"),
        ("8-bit vectors from a bucket into another, on a Ray cluster",
         "embedrt embed-dataset minilm s3://texts/2026 s3://vectors/2026 --engine ray \\\n"
         "      --text body --id url --precision int8"),
        ("go on after a kill, or do what has changed since",
         "embedrt embed-dataset minilm corpus/ vectors/ --text body --id id --resume"),
        ("the proof", "embedrt check-dataset vectors/"),
    ),
)  # fmt: skip
@o.bundle_argument
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT")
@click.option("--engine", type=click.Choice(_ENGINES), default="local", show_default=True, help="What runs it.")
@click.option("--text", metavar="NAME", help="Column with the texts.  [default: 'text', or the only one]")
@click.option("--id", "id_", metavar="NAME", help="Column that names a row.  [default: file and row are written]")
@click.option("--keep", metavar="NAMES", help="Columns that go along, e.g. url,date.")
@click.option("--precision", type=click.Choice(_PRECISIONS), default="float32", show_default=True,
              help="Type of the numbers.")  # fmt: skip
@click.option("--output-format", type=click.Choice(("parquet", "lance")),
              help="[default: lance if OUT ends in .lance, else parquet]")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on, and do what has changed in the input.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: 1; on Ray what fits]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each.  [default: what the engine gives]")
@click.option("--shard-tokens", type=click.IntRange(min=1), default=2_000_000, show_default=True,
              help="Tokens, by estimate, that are done and written together.")  # fmt: skip
@click.option("--dedup-store", type=o.HomePath(dir_okay=False), metavar="FILE",
              help="A file of each node that keeps vectors by text: finds repeats in other shards.")  # fmt: skip
@click.option(
    "--price-per-hour", type=click.FloatRange(min=0), metavar="MONEY", help="Of all machines: shows the cost so far."
)
@click.option("--input-format", type=click.Choice(o.INPUT_FORMATS), help="Format of the input.  [default: by suffix]")
@click.option("--encoding", metavar="NAME", help="Encoding of the input.  [default: UTF-8]")
@click.option("--delimiter", metavar="CHAR", help="What separates fields.")
@click.option("--quoting", type=click.Choice(o.QUOTINGS), help="Whether fields may stand in double quotes.")
@o.variant_option
@o.executor_option
@o.prompt_options
@click.option("--truncate-dim", type=click.IntRange(min=1), help="Keep the first so many dimensions.")
@click.option("--normalize", is_flag=True, help="Scale vectors to length 1 even if the model does not.")
@o.packed_cache_option
@o.packed_dir_option
@o.quiet_option
def command(bundle: Path, source: str, output: str, **given: Any) -> None:
    """Embed every row of IN into OUT, exactly once.

    IN is a file, a folder, a glob or a URL (s3://, gs://, ...) of .parquet, .jsonl, .csv, .tsv or .txt, or a Lance
    dataset; OUT a folder or URL. Rows are done in shards, each of which appears in OUT whole or not at all. Whatever is
    killed, --resume goes on; a row that cannot be embedded is listed in OUT/_embedrt/aside with the reason.
    """
    from embedrt.datasets.run import embed_dataset

    job = _job(bundle, source, output, given)
    screen = None if given["quiet"] else _Screen(given["price_per_hour"])
    try:
        outcome = embed_dataset(job, screen or (lambda _heard: None))
    except KeyboardInterrupt:
        click.echo("finished shards are kept; go on with --resume", err=True)
        raise
    _report(outcome, given["quiet"])
    if not outcome.complete:
        raise Failure(
            f"error: {outcome.stopped or 'not every row could be done'}; once it is mended, go on with --resume"
        )


def _job(bundle: Path, source: str, output: str, given: dict[str, Any]) -> DatasetJob:
    from embedrt.commands.reading.records import How
    from embedrt.commands.source import checked_how
    from embedrt.datasets.run import DatasetJob

    keep = tuple(part.strip() for part in (given["keep"] or "").split(",") if part.strip())
    engine = o.engine({**given, "device": "auto", "isa": "auto"})
    model: dict[str, Any] = {name: engine[name] for name in ("variant", "executor")}
    if given["packed_cache"] is not None or given["packed_dir"] is not None:
        model["packed_cache"] = engine["packed_cache"]
    return DatasetJob(
        input=source, output=output, bundle=str(bundle), text=given["text"], id=given["id_"], keep=keep,
        request=o.encode_request({**given, "precision": "float32"}), model=model,
        how=checked_how(How(None, given["encoding"], given["delimiter"], given["quoting"])),
        **{name: given[name] for name in ("precision", "input_format", "output_format", "engine", "workers", "threads",
                                          "shard_tokens", "dedup_store", "resume")},
    )  # fmt: skip


class _Screen:
    """A line on stderr as shards are done: rates, time left, cost so far."""

    def __init__(self, price_per_hour: float | None) -> None:
        self._price = price_per_hour
        self._start: Heard | None = None
        self._written = 0.0

    def __call__(self, heard: Heard) -> None:
        """Show what is heard."""
        if heard.said:
            click.echo(heard.said, err=True)
            return
        self._start = self._start or heard
        if heard.report is None:
            left = heard.totals.rows - heard.done.rows
            click.echo(f"{counted(heard.totals.shards, 'shard')} of {counted(heard.totals.files, 'file')}, "
                       f"{counted(heard.totals.rows, 'row')}; {left:,} to do", err=True)  # fmt: skip
        elif heard.seconds - self._written >= 1 or heard.done.shards == heard.totals.shards:
            self._written = heard.seconds
            from embedrt.datasets.progress import progress_line

            click.echo(progress_line(self._start, heard, self._price), err=True)
        if heard.report is not None and heard.report.problem and not heard.report.ends_run:
            click.echo(f"warning: {heard.report.problem}", err=True)


def _report(outcome: Outcome, quiet: bool) -> None:
    problems = [problem for problem in outcome.problems if problem != outcome.stopped]  # that is the last line
    for problem in problems[:_SHOWN]:
        click.echo(f"  {problem}", err=True)
    if len(problems) > _SHOWN:
        click.echo(f"  and {len(problems) - _SHOWN:,} more", err=True)
    if outcome.aside:
        listed = f"{outcome.output.rstrip('/')}/_embedrt/aside"
        click.echo(f"warning: {counted(outcome.aside, 'row')} without a vector; see {listed}", err=True)
    if quiet:
        return
    told = f"{counted(outcome.written, 'vector')} in {outcome.seconds:,.1f} s, identity {outcome.identity}"
    if outcome.repeats:
        told += f"; {outcome.repeats:,} texts came again"
    if outcome.cut:
        told += f"; {outcome.cut:,} were cut at the model's limit"
    done = f"{outcome.done:,} of {counted(outcome.totals.shards, 'shard')}"
    if outcome.earlier:
        done += f" ({outcome.earlier:,} by earlier runs)"
    click.echo(f"{outcome.output}: {done}; {told}", err=True)
