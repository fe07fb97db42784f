"""`embedrt embed`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import counted, make_command
from embedrt.cli.long_texts import long_options, piece_size

if TYPE_CHECKING:
    from embedrt.manifest import Manifest

_OUTPUTS = (".npy", ".parquet", ".jsonl")
_KINDS = ("dense", "sparse", "tokens")
_ONLY_DENSE = ("truncate_dim", "precision", "normalize", "long", "task")


@make_command(
    "embed",
    "Embed the texts of a file.",
    examples=(
        ("one text per line, vectors as a numpy array", "embedrt embed minilm texts.txt -o vectors.npy"),
        (
            "a column of a CSV file, as documents, into parquet with the texts",
            "embedrt embed minilm shop.csv -o shop.parquet --column title \\\n      --document --with-text --keep id",
        ),
        ("go on after a kill or a power cut", "embedrt embed minilm texts.txt -o vectors.npy --resume"),
        (
            "long texts in pieces, each with its place",
            "embedrt embed minilm books.jsonl -o pieces.parquet --long pieces --with-text",
        ),
        ("a folder of pictures, with a bundle of CLIP", "embedrt embed clip photos -o photos.parquet --with-text"),
        ("all that BGE-M3 gives", "embedrt embed m3 texts.txt -o texts.parquet --outputs dense,sparse,tokens"),
        ("in a pipe", "cat texts.txt | embedrt embed minilm - -o - | jq -c '.embedding[0]'"),
    ),
)
@o.bundle_argument
@click.argument("source", metavar="IN", type=o.HomePath(allow_dash=True))
@click.option(
    "-o", "--output", type=o.HomePath(path_type=Path), required=True, metavar="OUT", callback=o.output_path(*_OUTPUTS),
    help="Output: .npy, .parquet or .jsonl; - writes JSON lines to stdout.",
)  # fmt: skip
@o.reading_options
@o.engine_options
@o.prompt_options
@click.option(
    "--outputs", metavar="LIST", callback=o.split_list(_KINDS),
    help="What to write of each text, of dense, sparse, tokens.  [default: dense if the bundle gives it]",
)  # fmt: skip
@click.option("--max-active-dims", type=click.IntRange(min=1),
              help="Keep so many of the largest weights of a sparse vector.")  # fmt: skip
@click.option("--truncate-dim", type=click.IntRange(min=1), help="Keep the first so many dimensions.")
@click.option("--precision", type=click.Choice(o.PRECISIONS), default="float32", show_default=True,
              help="Type of the numbers.")  # fmt: skip
@click.option("--normalize", is_flag=True, help="Scale vectors to length 1 even if the model does not.")
@click.option("--on-overflow", type=click.Choice(("truncate", "error")), default="truncate", show_default=True,
              help="What to do with texts over the model's limit.")  # fmt: skip
@long_options
@click.option("--on-error", type=click.Choice(("raise", "skip")), default="raise", show_default=True,
              help="What to do with texts that cannot be embedded.")  # fmt: skip
@click.option("--with-text", is_flag=True, help="Keep the texts in the output (.parquet, .jsonl).")
@o.keep_option
@click.option("--block-size", type=click.IntRange(min=1), default=256, show_default=True,
              help="Texts that are sorted by length and written together.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on where a killed run with the same options stopped.")
@o.force_option
@o.quiet_option
def command(bundle: Path, source: str, output: Path, **given: Any) -> None:
    """Embed the texts of IN (.txt, .jsonl, .csv, .tsv, .parquet, or - for stdin), or a folder's pictures, into OUT.

    Every line of a .txt is a text, empty ones too, so that row i of the output is line i + 1. OUT.meta.json keeps
    identity and options. Work is done in OUT.part* and renamed at the end.

    With --on-error skip, rows are left out, never filled: OUT.skipped.jsonl lists them with line and reason,
    and each row's place in the input is in OUT.rows.npy (for .npy) or in its "row" (other formats).

    Models of sparse vectors and of vectors of tokens write columns "sparse" (indices and values) and "tokens" (a list
    of vectors) beside "embedding", which dense vectors have; --outputs says which.
    """
    to_stdout = str(output) == "-"
    if to_stdout and given["resume"]:
        raise click.UsageError("--resume needs an output file; stdout cannot be continued")
    if given["with_text"] and output.suffix.lower() == ".npy":
        raise click.UsageError("--with-text goes with .parquet and .jsonl; a .npy holds numbers only")
    if given["keep"] and output.suffix.lower() == ".npy":
        raise click.UsageError("--keep goes with .parquet and .jsonl; a .npy holds numbers only")
    if given["long"] and given["on_overflow"] == "error":
        raise click.UsageError("--long and --on-overflow error exclude each other")
    if given["long"] == "pieces" and output.suffix.lower() == ".npy":
        raise click.UsageError("--long pieces goes with .parquet and .jsonl, which say where a piece lies")
    _embed(bundle, source, None if to_stdout else output, given)


def _embed(bundle: Path, source: str, output: Path | None, given: dict[str, Any]) -> None:
    request, size = o.encode_request(given), piece_size(given)
    from embedrt.commands.embed import EmbedJob, run
    from embedrt.commands.piece_source import pieces_of
    from embedrt.embedder import Embedder
    from embedrt.model import Model
    from embedrt.opening import open_bundle

    job = EmbedJob(o.open_input(source, given), output, request)
    job = dataclasses.replace(
        job, **{name: given[name] for name in ("on_error", "with_text", "block_size", "resume", "force")}
    )
    job.check_output()
    opened = open_bundle(bundle)
    outputs = _chosen(opened.manifest, output, given)
    job = dataclasses.replace(job, request=dataclasses.replace(request, outputs=outputs))
    progress = o.step_progress(given["quiet"], f"{job.source.noun}s")
    kind: Any = Embedder if outputs is None else Model
    with kind(opened, **o.engine(given)) as model:
        if size is not None:
            job = dataclasses.replace(job, source=pieces_of(job.source, model, job.request, size))
        try:
            summary = run(model, job, progress)
        except KeyboardInterrupt:
            if output is not None:
                o.stderr_console().print("finished rows are kept; go on with --resume")
            raise
    _report(summary, given["quiet"])


def _chosen(manifest: Manifest, output: Path | None, given: dict[str, Any]) -> tuple[str, ...] | None:
    """Which outputs of a bundle to write; None for dense vectors alone, by Embedder and all of its options.

    Raises:
        click.UsageError: another option, or the format, does not go with them.
        OptionError: the bundle does not give them.
    """
    from embedrt.errors import OptionError
    from embedrt.outputs import output_names

    there = output_names(manifest)
    asked = given["outputs"] or (("dense",) if "dense" in there or not there else there)
    if given["max_active_dims"] and "sparse" not in asked:
        raise click.UsageError("--max-active-dims goes with sparse vectors (--outputs sparse)")
    if asked == ("dense",):
        return None
    for name in asked:
        if name not in there:
            raise OptionError(f"{manifest.name} gives {' and '.join(there) or 'no vectors'}, not {name}")
    if output is not None and output.suffix.lower() == ".npy":
        raise click.UsageError(
            f"a .npy holds as many numbers of every text, which {' and '.join(asked)} have not; "
            "write .parquet or .jsonl"
        )
    only_dense = [name for name in _ONLY_DENSE if given[name] not in (None, False, "float32")]
    if only_dense:
        raise click.UsageError(f"--{only_dense[0].replace('_', '-')} goes with dense vectors alone (--outputs dense)")
    return tuple(name for name in _KINDS if name in asked)


def _report(summary: Any, quiet: bool) -> None:
    """Warnings always, the rest unless quiet; all on stderr."""
    state = summary.state
    if state.texts_cut:
        tokens, line = state.longest
        click.echo(
            f"warning: {state.texts_cut:,} of {counted(state.rows_written, 'text')} cut at {summary.limit:,} tokens "
            f"(the longest, {summary.unit} {line:,}, has {tokens:,}); "
            "--long windows reads them whole, --long pieces in pieces, --on-overflow error refuses them",
            err=True,
        )
    if state.rows_skipped:
        where = f"; see {summary.files[-1]}" if summary.files else ""
        click.echo(f"warning: {counted(state.rows_skipped, summary.noun)} skipped{where}", err=True)
        for example in summary.skipped:
            click.echo(f"  {example}", err=True)
        if summary.skipped and state.rows_skipped > len(summary.skipped):
            click.echo("  ...", err=True)
    if quiet:
        return
    name = str(summary.files[0]) if summary.files else "stdout"
    if summary.was_complete:
        click.echo(f"{name} is complete already: same input, options and identity {summary.identity}", err=True)
        return
    click.echo(f"{name}: {state.rows_written:,} x {summary.shape.title}, identity {summary.identity}", err=True)
