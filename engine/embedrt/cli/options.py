"""Options that several commands share, and the consoles they write to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from embedrt.commands.encoding import EncodeRequest
    from embedrt.commands.source import TextSource
    from embedrt.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])

VARIANTS = ("auto", "fp32", "fp16", "int8", "bf16")
DEVICES = ("auto", "cpu", "cuda")
EXECUTORS = ("auto", "native", "onnxruntime")
PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
INPUT_FORMATS = ("txt", "jsonl", "json", "csv", "tsv", "parquet")

PLOTS = (".html", ".svg", ".png")  # what --plot can write, in every command
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")  # what results with a row per text are written to
QUOTINGS = ("double", "none")


class HomePath(click.Path):
    """A path in which a leading "~" is the home folder: a shell does not see to it in "--option=~/x" or in quotes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, checked as click.Path does."""
        from embedrt.commands.paths import at_home

        given = os.fspath(value)
        return super().convert(given if given == "-" else str(at_home(Path(given))), param, ctx)


def bundle_path(value: str) -> Path:
    """ "./a/b" is a path, "a/b" may be a name; a Path makes both the same."""
    from embedrt.commands.paths import at_home

    return Path(value).absolute() if value.startswith(("./", "../")) else at_home(Path(value))


def told_queries(queries: tuple[str, ...]) -> tuple[str, ...]:
    """The queries; click.UsageError where one is empty, as an unset variable of the shell makes it."""
    if not all(query.strip() for query in queries):
        raise click.UsageError("a QUERY is empty")
    return queries


bundle_argument = click.argument("bundle", metavar="BUNDLE", callback=lambda _ctx, _param, value: bundle_path(value))
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress and no summary.")
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
trust_option = click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Run Python code that lies beside the model's weights; it may do whatever you may.",
)
force_option = click.option("--force", is_flag=True, help="Replace what is there.")
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    envvar="EMBEDRT_THREADS",
    help="Threads to compute with.  [default: what affinity and cgroup quota allow]",
)
device_option = click.option(
    "--device", type=click.Choice(DEVICES), default="auto", envvar="EMBEDRT_DEVICE", show_default=True,
    help="Where to compute.",
)  # fmt: skip
variant_option = click.option(
    "--variant", type=click.Choice(VARIANTS), default="auto", envvar="EMBEDRT_VARIANT", show_default=True,
    help="Precision of the model; bf16 is fp32 or fp16 rounded at load, where there is AVX512-BF16.",
)  # fmt: skip
executor_option = click.option(
    "--executor", type=click.Choice(EXECUTORS), default="auto", envvar="EMBEDRT_EXECUTOR", show_default=True,
    help="What computes; auto is native where it runs the variant.",
)  # fmt: skip
isa_option = click.option(
    "--isa", default="auto", metavar="NAME", envvar="EMBEDRT_ISA", show_default=True,
    help="Instruction set of the native executor: amx, avx512bf16, avx512vnni, avxvnni, avx2, portable.",
)  # fmt: skip
packed_cache_option = click.option(
    "--packed-cache/--no-packed-cache", default=None, envvar="EMBEDRT_PACKED_CACHE",
    help="Keep what the native executor packs in a file beside the bundle: faster loads, shared memory.",
)  # fmt: skip
packed_dir_option = click.option(
    "--packed-dir", type=HomePath(file_okay=False, path_type=Path), metavar="DIR", envvar="EMBEDRT_PACKED_DIR",
    help="Keep it in this folder instead, for bundles that are read-only.",
)  # fmt: skip


def reading_options(function: F) -> F:
    """--column, --input-format, --encoding, --delimiter, --quoting, --pictures."""
    return stack(
        function,
        click.option("--column", help="Column or JSON field with the texts.  [default: 'text', or the only one]"),
        click.option("--input-format", type=click.Choice(INPUT_FORMATS),
                     help="Format of the input.  [default: by its suffix; txt for -]"),
        click.option("--encoding", metavar="NAME",
                     help="Encoding of the input, e.g. cp949.  [default: UTF-8, or what a byte order mark says]"),
        click.option("--delimiter", metavar="CHAR", help="What separates fields: a character, or comma, tab, "
                     "semicolon, pipe, space.  [default: comma in .csv, tab in .tsv]"),
        click.option("--quoting", type=click.Choice(QUOTINGS),
                     help="Whether fields may stand in double quotes.  [default: double in .csv, none in .tsv]"),
        click.option("--pictures", is_flag=True,
                     help="The texts are paths of pictures, from the file's folder on. (A folder is its pictures.)"),
    )  # fmt: skip


def _read_keep(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | str:
    names = tuple(dict.fromkeys(part.strip() for part in (value or "").split(",") if part.strip()))
    return "all" if names == ("all",) else names


keep_option = click.option(
    "--keep", callback=_read_keep, metavar="NAMES",
    help="Columns or JSON fields that go along, e.g. id,url; or all.",
)  # fmt: skip


api_key_option = click.option(
    "--api-key", envvar="QDRANT_API_KEY", metavar="KEY", help="Key of a Qdrant server; better by QDRANT_API_KEY."
)


def open_input(path: str, given: dict[str, Any], keep_option: str = "--keep") -> TextSource:
    """The source at `path`, as `reading_options` (and --keep, by the name that messages give it) describe it.

    Raises:
        FileFormatError, OptionError: as `open_source`.
    """
    from embedrt.commands.reading.records import How
    from embedrt.commands.source import open_source

    how = How(
        given["column"], given["encoding"], given["delimiter"], given["quoting"], given.get("keep") or (), keep_option
    )
    return open_source(path, given["input_format"], how=how, pictures=bool(given.get("pictures")))


def engine_options(function: F) -> F:
    """--variant, --device, --executor, --isa, --threads, --packed-cache, --packed-dir."""
    return stack(
        function, variant_option, device_option, executor_option, isa_option, threads_option, packed_cache_option,
        packed_dir_option,
    )  # fmt: skip


def engine(given: dict[str, Any]) -> dict[str, Any]:
    """What `engine_options` were given, as Embedder takes them."""
    names = ("variant", "device", "executor", "isa")
    wanted, folder = given["packed_cache"], given["packed_dir"]
    kept = bool(wanted) if folder is None or wanted is False else folder  # a folder says it, --no-packed-cache wins
    return {"num_threads": given["threads"], "packed_cache": kept, **{name: given[name] for name in names}}


def named_list(allowed: Sequence[str], what: str, default: str | None = None) -> dict[str, Any]:
    """Keywords of an option that takes some of the names `allowed`, separated by commas."""
    shown = "" if default is None else f"  [default: {default}]"
    text = f"{what}, of {', '.join(allowed)}.{shown}"
    return {"metavar": "LIST", "callback": split_list(allowed), "default": default, "help": text}


def json_option(what: str) -> Callable[[F], F]:
    """--json [OUT]: to a file, or alone to stdout."""
    return click.option(
        "--json", "json_path", type=HomePath(path_type=Path), is_flag=False, flag_value="-", callback=output_path(),
        metavar="[OUT]", help=f"Write {what} as JSON to OUT; alone, or with -, print it.",
    )  # fmt: skip


def stack(function: F, *decorators: Callable[[F], F]) -> F:
    """Apply decorators so that help shows them in the order given."""
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def prompt_options(function: F) -> F:
    """--query, --document, --task, --prompt-name, --prompt."""
    return stack(
        function,
        click.option("--query", is_flag=True, help="The texts are queries: use the model's query prompt."),
        click.option("--document", is_flag=True, help="The texts are documents: use the model's document prompt."),
        click.option("--task", help="Task that fills the query prompt; with --query."),
        click.option("--prompt-name", help="Use the bundle's prompt of this name (see 'embedrt info')."),
        click.option("--prompt", help="Put this before every text."),
    )


def split_list(allowed: Sequence[str] | None = None) -> Callable[..., tuple[str, ...] | None]:
    """A callback that reads "a,b,c"; names outside `allowed` are wrong usage."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        unknown = [name for name in names if allowed is not None and name not in allowed]
        if unknown or not names:
            choices = ", ".join(allowed or ())
            raise click.BadParameter(f"{', '.join(unknown) or 'empty'}; choose from: {choices}", ctx, param)
        return names

    return read


def split_numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """A callback that reads "1,8,32"."""
    if value is None:
        return None
    try:
        numbers = tuple(sorted({int(part) for part in value.split(",")}))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 1,8,32", ctx, param) from None
    if numbers[0] < 1:
        raise click.BadParameter("numbers start at 1", ctx, param)
    return numbers


def output_path(*suffixes: str) -> Callable[..., Path | None]:
    """A callback for an output whose suffix says the format, and whose folder must be there; "-" is stdout.

    What takes minutes to make should not fail when it is written.
    """

    def check(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
        if value is None or str(value) == "-":
            return value
        if suffixes and value.suffix.lower() not in suffixes:
            raise click.BadParameter(f"{value} must end in {', '.join(suffixes)}", ctx, param)
        if not value.parent.is_dir():
            raise click.BadParameter(f"the folder {value.parent} is not there; mkdir -p {value.parent}", ctx, param)
        if value.is_dir():
            raise click.BadParameter(f"{value} is a directory", ctx, param)
        return value

    return check


def stderr_console() -> Console:
    """Where progress, summaries and warnings go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=False)


def stdout_console() -> Console:
    """Where results go."""
    from rich.console import Console

    return Console(highlight=False)


def step_progress(quiet: bool, unit: str | None = None) -> Progress:
    """The listener of a long command; `unit` is what its steps count, such as "texts"."""
    from embedrt.progress import NullProgress, RichProgress

    return NullProgress() if quiet else RichProgress(stderr_console(), unit=unit)


def encode_request(given: dict[str, Any]) -> EncodeRequest:
    """What the prompt and output options ask for; those a command does not have keep their defaults.

    Raises:
        click.UsageError: options contradict each other.
    """
    from embedrt.commands.encoding import EncodeRequest

    chosen = [name for name in ("query", "document") if given.get(name)]
    if len(chosen) > 1:
        raise click.UsageError("--query and --document exclude each other")
    if given.get("task") is not None and chosen != ["query"]:
        raise click.UsageError("--task goes with --query")
    if given.get("prompt") is not None and given.get("prompt_name") is not None:
        raise click.UsageError("--prompt and --prompt-name exclude each other")
    return EncodeRequest(
        kind=chosen[0] if chosen else "encode",
        task=given.get("task"),
        prompt=given.get("prompt"),
        prompt_name=given.get("prompt_name"),
        truncate_dim=given.get("truncate_dim"),
        precision=given.get("precision", "float32"),
        normalize_embeddings=given.get("normalize", False),
        max_active_dims=given.get("max_active_dims"),
        on_overflow="windows" if given.get("long") == "windows" else given.get("on_overflow", "truncate"),
    )
