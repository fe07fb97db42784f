"""The vectors that a command needs of a file: read where they are, made where they are not, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from embedrt.cli import options as o
from embedrt.cli.base import counted

if TYPE_CHECKING:
    from embedrt.commands.clusters import How
    from embedrt.commands.corpus_index import CorpusIndex, Wish
    from embedrt.commands.encoding import EncodeRequest
    from embedrt.commands.piece_source import PieceSize
    from embedrt.commands.source import TextSource
    from embedrt.embedder import Embedder
    from embedrt.vectors.rows import Floats

F = TypeVar("F", bound=Callable[..., Any])


def index_options(function: F) -> F:
    """--index, --vectors, --rebuild."""
    return o.stack(
        function,
        click.option("--index", "folder", type=o.HomePath(path_type=Path, file_okay=False), metavar="DIR",
                     help="Where to keep the vectors.  [default: IN.embedrt, beside the file]"),
        click.option("--vectors", type=o.HomePath(path_type=Path, dir_okay=False), metavar="FILE",
                     help="Take vectors from this output of 'embedrt embed' (.npy, .parquet)."),
        click.option("--rebuild", is_flag=True, help="Embed the whole file anew."),
    )  # fmt: skip


def corpus_options(function: F) -> F:
    """Options of a command that asks something of a whole file: how it is read and embedded, and --quiet."""
    return o.stack(
        function, o.reading_options, index_options, o.prompt_options, o.engine_options, o.quiet_option,
    )  # fmt: skip


def _read_k(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    """A number of clusters, or None for "auto"."""
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number of clusters nor auto", ctx, param)
    return int(value)


def cluster_options(function: F) -> F:
    """--center, --clusters, --seed."""
    return o.stack(
        function,
        click.option("--center", "centre", metavar="COLUMN",
                     help="Take away what the texts with the same value of this column have in common, for example "
                          "their language, so that meaning decides."),
        click.option("-k", "--clusters", "k", metavar="N|auto", default="auto", show_default=True, callback=_read_k,
                     help="Number of clusters; auto chooses the one with the best silhouette."),
        click.option("--seed", type=click.IntRange(min=0, max=2**32 - 1), default=0, show_default=True,
                     help="Another seed, other random draws."),
    )  # fmt: skip


def how_to_cluster(given: dict[str, Any]) -> How:
    """What the options of `cluster_options`, and --method with its --min-size, ask for.

    Raises:
        click.UsageError: they do not go together.
    """
    from embedrt.commands.clusters import How

    if given.get("method") == "hdbscan" and given["k"] is not None:
        raise click.UsageError("-k goes with --method kmeans; hdbscan finds the number itself (see --min-size)")
    return How(**{name: given[name] for name in ("method", "k", "min_size", "seed") if name in given})


def check_centre(path: str, given: dict[str, Any]) -> None:
    """Refuse a --center that the file does not have, before anything is embedded.

    Raises:
        FileFormatError: the file has no such column.
    """
    if given["centre"] is not None:
        next(o.open_input(path, {**given, "keep": (given["centre"],)}, keep_option="--center").records(), None)


def centred_vectors(index: CorpusIndex, path: str, given: dict[str, Any]) -> Floats:
    """The file's vectors, as --center says.

    Raises:
        FileFormatError: the file has no such column.
    """
    column = given["centre"]
    if column is None:
        return index.vectors
    from embedrt.commands.cluster import without_groups

    source = o.open_input(path, {**given, "keep": (column,)}, keep_option="--center")
    vectors, count = without_groups(source, index.vectors, column)
    if not given["quiet"]:
        click.echo(f"took away what is common to each of {counted(count, 'value')} of {column!r}", err=True)
    return vectors


def vectors_of(
    embedder: Embedder, source: TextSource, given: dict[str, Any], wish: Wish | None = None, folder: Path | None = None
) -> CorpusIndex:
    """The vectors of a file's texts, as `index_options` say; warnings and what was done go to stderr.

    Args:
        wish: how the texts are embedded; as `prompt_options` say if not given.
        folder: where they are kept; as --index says if not given.

    Raises:
        EmbedrtError: as `open_index`.
    """
    from embedrt.commands.corpus_index import Wish, open_index

    wish = wish or Wish(o.encode_request(given))
    wish = replace(wish, rebuild=given["rebuild"], made=given["vectors"])
    folder = folder or given["folder"] or Path(f"{source.name}.embedrt")
    progress = o.step_progress(given["quiet"], f"{source.noun}s")
    try:
        index = open_index(embedder, source, folder, progress, wish)
    except KeyboardInterrupt:
        click.echo("what is embedded is kept; the next run goes on from it", err=True)
        raise
    _report(index, embedder.max_tokens, given["quiet"])
    return index


def in_pieces(
    embedder: Embedder, source: TextSource, given: dict[str, Any], request: EncodeRequest, size: PieceSize
) -> tuple[TextSource, dict[str, Any]]:
    """The pieces of a file's texts, and the options with a folder for their vectors within that of the file's.

    Raises:
        FileFormatError: the folder cannot be made.
    """
    from embedrt.commands.piece_source import pieces_of
    from embedrt.errors import FileFormatError

    folder = (given["folder"] or Path(f"{source.name}.embedrt")) / size.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise FileFormatError(
            f"the vectors cannot be kept in {folder} ({exc.strerror}); choose another place with --index DIR"
        ) from exc
    return pieces_of(source, embedder, request, size, folder), {**given, "folder": folder}


def tell_time(seconds: Callable[[], float], num_texts: int, quiet: bool) -> None:
    """Say how long comparing so many texts with each other will take, where it is worth saying.

    Args:
        seconds: finds it out by comparing some, which takes seconds itself; not called where nothing would be said.
    """
    from embedrt.commands.waiting import told

    if not quiet and (time := told(seconds())) is not None:
        click.echo(
            f"comparing {counted(num_texts, 'text')} with each other takes about {time} here, and four times as long "
            "for twice as many",
            err=True,
        )


def texts_or_error(index: CorpusIndex, source: TextSource) -> None:
    """FileFormatError if the file holds no texts at all."""
    from embedrt.errors import FileFormatError

    if not len(index.vectors):
        raise FileFormatError(f"{source.name} holds no texts")


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
