"""`embedrt serve`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from embedrt.cli.base import make_command
from embedrt.server.settings import DEFAULTS, NAMES, SECRET, Settings


def setting_options(names: Sequence[str], function: Callable[..., None]) -> Callable[..., None]:
    """One flag per setting; a flag that is not given is None, so that the other sources count."""
    for name in reversed(names):
        if name == "bundles" or name in SECRET:  # a command line is seen by everybody on the machine
            continue
        entry = Settings.__dataclass_fields__[name]
        default, flag = getattr(DEFAULTS, name), name.replace("_", "-")
        shown = ", ".join(default) if isinstance(default, tuple) else default
        text = f"{entry.metadata['help'][0].upper()}{entry.metadata['help'][1:]}."
        text += f"  [default: {str(shown).lower() if isinstance(shown, bool) else shown}]" if shown != "" else ""
        if isinstance(default, bool):
            function = click.option(f"--{flag}/--no-{flag}", name, default=None, help=text)(function)
        elif isinstance(default, tuple):
            function = click.option(f"--{flag}", name, multiple=True, help=text, metavar="A,B")(function)
        else:
            function = click.option(f"--{flag}", name, default=None, help=text, metavar=_metavar(default))(function)
    return function


def _metavar(default: object) -> str:
    return {int: "N", float: "NUMBER", str: "TEXT"}[type(default)]


def given_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """Those that were given, lists in one string as the environment has them."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    return given | {name: ",".join(value) for name, value in given.items() if isinstance(value, tuple)}


@make_command(
    "serve",
    "Serve bundles over HTTP, as OpenAI and TEI do.",
    examples=(
        ("serve a bundle at http://127.0.0.1:8080", "embedrt serve minilm"),
        ("two models, for the network, with keys", "embedrt serve a=minilm b=e5 --host 0.0.0.0 --api-key-file keys"),
        ("what would it run with", "embedrt serve minilm --config serve.toml --print-config"),
    ),
)
@click.argument("bundles", nargs=-1, metavar="BUNDLE...")
@click.option("--config", type=click.Path(path_type=Path), envvar="EMBEDRT_CONFIG", help="TOML file of settings.")
@click.option("--print-config", is_flag=True, help="Print the settings and where each is from, and exit.")
@partial(setting_options, NAMES)
def command(bundles: tuple[str, ...], config: Path | None, print_config: bool, **flags: Any) -> None:
    """Serve bundles over HTTP: OpenAI's embeddings API, text-embeddings-inference's, metrics and a playground.

    BUNDLE is a directory, or NAME=DIRECTORY. Every setting can also be given as EMBEDRT_<NAME> in the environment
    or as a key of the TOML file; flags win over the environment, the environment over the file.
    """
    from embedrt.server.config import load_settings, to_toml

    given = given_flags(flags) | ({"bundles": bundles} if bundles else {})
    loaded = load_settings(given, os.environ, config)
    if print_config:
        click.echo(to_toml(loaded), nl=False)
        return
    try:
        from embedrt.server.notify import Notifier
        from embedrt.server.run import serve
    except ImportError as exc:
        from embedrt.errors import DependencyError

        raise DependencyError(f"{exc.name} is missing; pip install 'embedrt[server]'") from exc
    sys.exit(serve(loaded.settings, Notifier.of(os.environ)))
