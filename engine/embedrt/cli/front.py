"""`embedrt front`."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from embedrt.cli.base import make_command
from embedrt.cli.serve import given_flags, setting_options
from embedrt.routing.policy import POLICIES
from embedrt.routing.settings import SHARED, FrontSettings
from embedrt.server.pins import parse_pins


@make_command(
    "front",
    "One address before several servers.",
    examples=(
        ("two servers behind http://127.0.0.1:8080", "embedrt front http://10.0.0.5:8080 http://10.0.0.6:8080"),
        (
            "every pod of a headless service, as Kubernetes has it",
            "embedrt front http://embedrt-pods:8080 --resolve --host 0.0.0.0",
        ),
    ),
)
@click.argument("servers", nargs=-1, required=True, metavar="URL...")
@click.option(
    "--policy",
    type=click.Choice(POLICIES),
    default="tokens",
    show_default=True,
    help="Send a request to the server with the fewest outstanding tokens, or requests, or to each in turn.",
)
@click.option(
    "--identity", "identities", multiple=True, metavar="NAME=IDENTITY",
    help="What a model's name must be; a server that serves something else gets no requests. Without it the servers "
    "must agree.",
)  # fmt: skip
@click.option(
    "--resolve/--no-resolve", default=False, help="Every address of a URL's host is a server; looked up all the time."
)
@click.option(
    "--check-every-s", type=click.FloatRange(0.05), default=1.0, show_default=True,
    help="Seconds between two looks at each server.",
)  # fmt: skip
@click.option(
    "--check-timeout-s", type=click.FloatRange(0.05), default=5.0, show_default=True,
    help="Seconds in which a server must take a connection, and say whether it is ready.",
)  # fmt: skip
@partial(setting_options, SHARED)
def command(
    servers: tuple[str, ...],
    policy: Any,
    identities: tuple[str, ...],
    resolve: bool,
    check_every_s: float,
    check_timeout_s: float,
    **flags: Any,
) -> None:
    """Send requests on, unchanged, to the server that has the fewest tokens to do.

    URL is http://HOST:PORT, https://HOST:PORT or unix:PATH of an `embedrt serve`. All servers must serve the same
    models under the same names: one with another identity gets no requests. Keys, limits and rates are the servers'.
    """
    from embedrt.server.config import load_settings

    edge = load_settings(given_flags(flags), {}, None, wants_bundles=False).settings
    settings = FrontSettings(servers, policy, parse_pins(identities), resolve, check_every_s, check_timeout_s, edge)
    try:
        from embedrt.routing.run import run_front
    except ImportError as exc:
        from embedrt.errors import DependencyError

        raise DependencyError(f"{exc.name} is missing; pip install 'embedrt[server]'") from exc
    sys.exit(run_front(settings))
