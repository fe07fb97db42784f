"""The group of commands: loaded when called, so that `embedrt --help` does not wait for numpy."""

from __future__ import annotations

import importlib

import click

from embedrt.cli.base import HELP_OPTIONS, Group, version_text

# Command -> module, in the order of --help. A module called `list` would hide the builtin in this package.
_COMMANDS = {
    name: {"list": "listing"}.get(name, name.replace("-", "_"))
    for name in (
        "export", "verify", "info", "embed", "embed-dataset", "check-dataset", "similarity", "search", "rerank",
        "index", "cluster", "dedup", "map", "mine", "eval",
        "serve", "front", "bench", "pull", "push", "list", "rm", "help",
    )
}  # fmt: skip


class _LazyGroup(Group):
    """Imports a command's module when the command is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"embedrt.cli.{_COMMANDS[cmd_name]}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"embedrt.cli.{cmd_name}.command is no command")
        return command


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(version_text())
        ctx.exit()


@click.group(
    cls=_LazyGroup,
    context_settings=HELP_OPTIONS,
    examples=(
        ("export a model, with a parity report", "embedrt export sentence-transformers/all-MiniLM-L6-v2 minilm"),
        ("embed a file, one text per line", "embedrt embed minilm texts.txt -o vectors.npy"),
        ("find the nearest lines", 'embedrt search minilm texts.txt "how do I reset it?"'),
    ),
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show versions."
)
def app() -> None:
    """Text embeddings on CPUs from ONNX bundles: fast, lean, and measured against PyTorch.

    Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong usage, 130 interrupted.
    EMBEDRT_THREADS, EMBEDRT_VARIANT and EMBEDRT_DEVICE set the defaults of --threads, --variant and
    --device; EMBEDRT_DEBUG=1 shows tracebacks.
    """
