"""What every command shares: the shape of help texts, exit codes, and how errors are shown."""

from __future__ import annotations

import difflib
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import IO, Any

import click

from embedrt.errors import EmbedrtError, OptionError

Example = tuple[str, str]  # what it does, the command line
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Failure(click.ClickException):
    """Ends the program with one line on stderr and exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line."""
        if self.message:
            click.echo(self.message, file=file or sys.stderr)


class WrongValue(Failure):
    """Ends the program after an option whose value does not fit, found where its meaning is known."""

    exit_code = 2


class Interrupted(Failure):
    """Ends the program after Ctrl-C."""

    exit_code = 130  # 128 + SIGINT, as shells say it


class Option(click.Option):
    """An option whose earlier spellings are still taken, and not shown."""

    def __init__(self, declarations: Sequence[str], *, formerly: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__([*declarations, *formerly], **kwargs)
        self._formerly = frozenset(formerly)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The line of --help, without the earlier spellings."""
        everything = self.opts
        self.opts = [name for name in everything if name not in self._formerly]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = everything


class Command(click.Command):
    """A command with an example block at the end of its help."""

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.append(_debug_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; an argument that is given as an option is told where its place is."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            named = _argument_named(exc.option_name.lstrip("-"), self.params)
            if named is None:
                raise
            places = [piece for piece in self.collect_usage_pieces(ctx) if piece != "[OPTIONS]"]
            wanted = f"{named} is known by its place. {' '.join([ctx.command_path, *places])}"
            raise click.UsageError(f"{exc.option_name} is no option: {wanted}", ctx) from exc

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        del ctx
        _write_examples(formatter, self.examples)


def _argument_named(name: str, params: Sequence[click.Parameter]) -> str | None:
    """The argument that an option of this name is meant for: "output" for OUT, "in" for IN."""
    for param in params:
        if isinstance(param, click.Argument):
            place = param.human_readable_name
            if name and (name.startswith(place.lower()) or place.lower().startswith(name)):
                return place
    return None


# What people type that no command is near to in letters.
_INSTEAD = {
    "version": ("--version",),
    "encode": ("embed",),
    "server": ("serve",),
    "query": ("search",),
    "convert": ("export",),
    "download": ("pull",),
    "ls": ("list",),
    "delete": ("rm",),
    "remove": ("rm",),
    "benchmark": ("bench",),
    "evaluate": ("eval",),
    "deduplicate": ("dedup",),
}


class Group(click.Group):
    """The top of the command line: turns errors into one line and an exit code."""

    command_class = Command

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.append(_debug_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        del ctx
        _write_examples(formatter, self.examples)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names; the error about one that is not there says what is near it."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            near = _INSTEAD.get(args[0]) or difflib.get_close_matches(args[0], self.list_commands(ctx), cutoff=0.6)
            hint = f"did you mean: {', '.join(near)}?" if near else f"commands: {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f"{exc.message} {hint[0].upper()}{hint[1:]}", ctx) from exc

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see `_failure_of` for what becomes of an error."""
        ctx.ensure_object(dict)
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as exc:
            if ctx.obj.get("debug") and not isinstance(exc, KeyboardInterrupt):
                traceback.print_exc()
            raise _failure_of(exc) from exc


def version_text() -> str:
    """embedrt's version and those it depends on, on one line."""
    from importlib.metadata import PackageNotFoundError, version

    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "unknown"

    return f"embedrt {of('embedrt')} (Python {platform.python_version()}, onnxruntime {onnxruntime_version()})"


def onnxruntime_version() -> str:
    """The version of whichever onnxruntime wheel is installed, without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    for package in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "not installed"


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 text", "1,200 texts"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _failure_of(exc: BaseException) -> Failure:
    if isinstance(exc, KeyboardInterrupt):
        return Interrupted("interrupted")
    if isinstance(exc, OptionError):
        return WrongValue(f"error: {_one_line(exc)}")
    if isinstance(exc, EmbedrtError):
        return Failure(f"error: {_one_line(exc)}")
    if isinstance(exc, OSError):
        where = f"{exc.filename}: " if exc.filename else ""
        return Failure(f"error: {where}{exc.strerror or _one_line(exc)}")
    if isinstance(exc, MemoryError):
        return Failure(f"error: out of memory: {_one_line(exc) or 'no details'}")
    return Failure(
        f"error: unexpected {type(exc).__name__}: {_one_line(exc)} "
        "(a bug in embedrt: run again with --debug and report the traceback)"
    )


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())


def _debug_option() -> click.Option:
    def remember(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        root = ctx.find_root().ensure_object(dict)
        root["debug"] = root.get("debug", False) or value or os.environ.get("EMBEDRT_DEBUG", "0") not in ("", "0")

    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=remember, help="Show the traceback of an error."
    )


def _write_examples(formatter: click.HelpFormatter, examples: Sequence[Example]) -> None:
    if not examples:
        return
    with formatter.section("Examples"):
        for index, (what, line) in enumerate(examples):
            if index:
                formatter.write("\n")
            formatter.write(f"{'':>{formatter.current_indent}}# {what}\n")
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def make_command(name: str, short: str, examples: Sequence[Example]) -> Callable[[Callable[..., None]], Command]:
    """The decorator of every command; `short` is its line in the list of commands."""

    def decorate(function: Callable[..., None]) -> Command:
        return click.command(name, cls=Command, short_help=short, examples=examples, context_settings=HELP_OPTIONS)(
            function
        )

    return decorate
