"""`embedrt list`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import make_command
from embedrt.cli.tables import compact_table, size_text

if TYPE_CHECKING:
    from embedrt.store.store import Kept


@make_command(
    "list",
    "List the bundles that are in the store.",
    examples=(
        ("what is there", "embedrt list"),
        ("their names, for a script", "embedrt list --json | jq -r '.[].name'"),
    ),
)
@o.json_flag
def command(as_json: bool) -> None:
    """List the bundles that can be used by name: what 'embedrt pull' fetched, and what was exported by name."""
    from embedrt.store.store import folder, kept

    found = kept()
    if as_json:
        click.echo(json.dumps([_row(one) for one in found], ensure_ascii=False, indent=1))
        return
    if not found:
        click.echo(f"no bundles in {folder()}; 'embedrt pull OWNER/NAME' gets one", err=True)
        return
    table = compact_table(("name", "left"), ("variants", "left"), ("size", "right"), ("made", "left"))
    for one in found:
        row = _row(one)
        variants = row["problem"] or ", ".join(row["variants"])
        table.add_row(one.name, variants, size_text(one.num_bytes), (row["created"] or "")[:10])
    o.stdout_console().print(table)
    click.echo(f"in {folder()}", err=True)


def _row(one: Kept) -> dict[str, Any]:
    manifest = one.bundle.manifest if one.bundle is not None else None
    return {
        "name": one.name,
        "path": str(one.path),
        "num_bytes": one.num_bytes,
        "variants": list(manifest.variants) if manifest is not None else [],
        "created": manifest.created if manifest is not None else None,
        "problem": one.problem,
    }
