"""How a table's vectors were made, out of an embedder; and whether another embedder's may stand beside them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from embedrt._schema import SchemaError, decode
from embedrt.databases.columns import TITLES
from embedrt.databases.model import FORMAT, Recipe
from embedrt.errors import DatabaseError, IdentityError, OptionError
from embedrt.store.names import Name
from embedrt.store.store import folder

if TYPE_CHECKING:
    from embedrt.bundle import Bundle
    from embedrt.embedder import Embedder


def recipe_of(
    embedder: Embedder,
    prompt: str | None,
    prompt_name: str | None,
    truncate_dim: int | None,
    ids: str | None,
    long: str | None = None,
) -> Recipe:
    """The recipe of documents as this embedder makes them; without columns."""
    manifest = embedder.bundle.manifest
    keywords = _keywords(prompt, prompt_name, truncate_dim, long)
    return Recipe(
        identity=embedder.identify(**keywords),
        bundle=_reference(embedder.bundle),
        model=manifest.source.model,
        variant=embedder.variant,
        similarity=manifest.similarity,
        dimension=int(embedder.encode_detailed([], **keywords).embeddings.shape[1]),
        prompt=prompt,
        prompt_name=prompt_name,
        truncate_dim=truncate_dim,
        long=long,
        ids=ids,
    )


def written_recipe(recipe: Recipe) -> str:
    """The recipe as databases keep it: JSON."""
    return json.dumps(asdict(recipe), ensure_ascii=False)


def read_recipe(text: str | bytes, name: str) -> Recipe:
    """The recipe out of what the database `name` kept.

    Raises:
        DatabaseError: it is none, or another version's.
    """
    try:
        found = json.loads(text)
        if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
            raise DatabaseError(f"{name} has format {found['format']}; this version of embedrt reads {FORMAT}")
        recipe = decode(Recipe, found)
    except (ValueError, SchemaError) as exc:
        raise DatabaseError(f"{name} was not made by 'embedrt index' ({exc})") from exc
    if not set(recipe.columns.values()) <= set(TITLES):
        raise DatabaseError(f"{name} was not made by this version of 'embedrt index' (its columns: {recipe.columns})")
    return recipe


def keywords_of(recipe: Recipe) -> dict[str, Any]:
    """Keywords of Embedder.encode_stream and Embedder.identify for the table's documents."""
    return _keywords(recipe.prompt, recipe.prompt_name, recipe.truncate_dim, recipe.long)


def _keywords(
    prompt: str | None, prompt_name: str | None, truncate_dim: int | None, long: str | None
) -> dict[str, Any]:
    given = {"prompt": prompt, "prompt_name": prompt_name, "truncate_dim": truncate_dim}
    given["on_overflow"] = "windows" if long == "windows" else None
    return {"kind": "document", **{name: value for name, value in given.items() if value is not None}}


def _reference(bundle: Bundle) -> str:
    """How the bundle is found again: its name if it is in the store, else its path."""
    root = bundle.root.absolute()
    if root.parent == folder().absolute():
        repo, _, revision = root.name.replace("--", "/", 1).partition("@")
        return str(Name(repo, revision or None))
    return str(root)


def refuse_other(wanted: Recipe, there: Recipe, name: str) -> None:
    """Keep other vectors, and other ids, out of a table.

    Raises:
        IdentityError: the vectors would be of another identity.
        OptionError: rows would be known by something else, or be other parts of texts.
    """
    if wanted.long != there.long:
        was, now = (recipe.long or "whole texts" for recipe in (there, wanted))
        raise OptionError(f"{name} holds {was}, this would add {now}; --rebuild makes it anew")
    if wanted.identity != there.identity:
        raise IdentityError(
            f"{name} holds vectors of identity {there.identity} ({_made(there)}), and this would add {wanted.identity} "
            f"({_made(wanted)}); take another database, or make this one anew with --rebuild"
        )
    if wanted.ids != there.ids:
        was, now = (f"the column {ids!r}" if ids is not None else "their texts" for ids in (there.ids, wanted.ids))
        raise OptionError(f"{name} knows its rows by {was}, not by {now}; --rebuild makes it anew")


def check_identity(embedder: Embedder, there: Recipe, name: str) -> None:
    """Refuse to compare queries of one model with documents of another.

    Raises:
        IdentityError: the embedder would give documents another identity.
    """
    given = recipe_of(embedder, there.prompt, there.prompt_name, there.truncate_dim, there.ids, there.long)
    if given.identity != there.identity:
        raise IdentityError(
            f"{name} holds vectors of identity {there.identity} ({_made(there)}); {given.bundle} gives "
            f"{given.identity} ({_made(given)}), and the two are not to be compared"
        )


def _made(recipe: Recipe) -> str:
    """What made vectors, short."""
    prompt = recipe.prompt_name if recipe.prompt is None else recipe.prompt
    parts = [recipe.model, recipe.variant]
    parts += [f"prompt {prompt!r}"] if prompt is not None else []
    parts += [f"{recipe.truncate_dim} dimensions"] if recipe.truncate_dim is not None else []
    return ", ".join(parts)
