"""`embedrt search DB QUERY...`: what `search` does when it is given a database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from embedrt.cli import options as o

if TYPE_CHECKING:
    from rich.console import Console

    from embedrt.databases import Answer, Recipe

MODES = ("vector", "words", "both")
OF_A_DATABASE = (
    "bundle_of_database",
    "where",
    "mode",
    "exact",
    "refine",
    "api_key",
)  # options that only a database has


def database_options(function: o.F) -> o.F:
    """--where, --mode, --exact, --refine, --bundle."""
    return o.stack(
        function,
        click.option("--where", metavar="CONDITION",
                     help="DB: only rows that fulfil it, e.g. \"lang = 'ko' AND year >= 2020\"."),
        click.option("--mode", type=click.Choice(MODES), default="vector", show_default=True,
                     help="DB: what to compare; both are fused by their ranks."),
        click.option("--exact", is_flag=True, help="DB: leave an approximate index aside."),
        click.option("--refine", type=click.IntRange(min=1), default=10, show_default=True, metavar="N",
                     help="DB: candidates per hit that the full vectors are asked of."),
        click.option("--bundle", "bundle_of_database", type=o.HomePath(path_type=Path), metavar="BUNDLE",
                     help="DB: the bundle, where it is not where it was when DB was made."),
        o.api_key_option,
    )  # fmt: skip


def search_database(url: str, queries: tuple[str, ...], k: int, given: dict[str, Any]) -> None:
    """Print the rows of a database that are nearest to each query."""
    from embedrt.databases import SearchOptions, open_database, search
    from embedrt.errors import DatabaseError

    asked = o.encode_request({"query": True, **{name: given[name] for name in ("task", "prompt", "prompt_name")}})
    database = open_database(url, key=given["api_key"])
    try:
        table = database.describe()
        if table is None:
            raise DatabaseError(f"{url} holds no table; 'embedrt index' makes one")
        prompts: dict[str, Any] = {"task": asked.task, "prompt": asked.prompt, "prompt_name": asked.prompt_name}
        options = SearchOptions(k, **{name: given[name] for name in ("where", "mode", "exact", "refine")}, **prompts)
        with _embedder(table.recipe, given, url) as embedder:
            answers = search(embedder, database, queries, options)
    finally:
        database.close()
    keep = given["keep"]
    names = [name for name in table.recipe.columns if keep in ((), "all") or name in keep]
    if given["as_json"]:
        value = {"corpus_identity": table.recipe.identity, "answers": [answer.to_json() for answer in answers]}
        click.echo(json.dumps(value, ensure_ascii=False))
    else:
        _print(answers, table.recipe, names, o.stdout_console())


def _embedder(recipe: Recipe, given: dict[str, Any], url: str) -> Any:
    """The bundle that the table was made with, where that is, or where --bundle says."""
    from embedrt.embedder import Embedder
    from embedrt.errors import BundleNotFoundError

    variant = recipe.variant if given["variant"] == "auto" else given["variant"]
    try:
        return Embedder(given["bundle_of_database"] or recipe.bundle, **o.engine({**given, "variant": variant}))
    except BundleNotFoundError as exc:
        if given["bundle_of_database"] is not None:
            raise
        raise BundleNotFoundError(f"the bundle that {url} was made with: {exc}; or say where it is: --bundle") from exc


def _print(answers: list[Answer], recipe: Recipe, names: list[str], console: Console) -> None:
    from embedrt.cli.hits import ShownHit, print_hits

    where: tuple[str, Literal["left"]] | None = None if recipe.ids is None else (recipe.ids, "left")
    for answer in answers:
        shown = [ShownHit(hit.rank, hit.score, hit.id, hit.columns, hit.text) for hit in answer.hits]
        others = [name for name in names if name != recipe.ids]
        print_hits(answer.query if len(answers) > 1 else None, shown, where, others, console, "no hits")
