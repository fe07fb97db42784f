"""Models in other processes: what is pickled is what opens the same bundle again, never the loaded model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from embedrt.bundle import PARITY_VECTORS
from embedrt.encoding import Encoding, make_encoding
from embedrt.errors import BundleIntegrityError, ExecutorError
from embedrt.loading import LoadedModel, LoadOptions, find_bundle, load_model
from embedrt.options import hash_of, identity_parts
from embedrt.pooling import load_dense
from embedrt.settings import Settings

E = TypeVar("E")


@dataclass(frozen=True)
class Recipe:
    """How to make the same object again."""

    what: str  # it was: "embedder", "reranker" or "model"
    root: Path  # absolute
    fingerprint: str  # of the bundle as it was
    asked: LoadOptions
    settings: Settings

    def check(self, model: LoadedModel, printed: str) -> None:
        """Refuse, and close, a `model` for which what its calls depend on has another hash.

        Raises:
            BundleIntegrityError: there is another bundle in that place now.
        """
        if printed != self.fingerprint:
            model.close()
            raise BundleIntegrityError(
                f"{self.root} is not the bundle that the pickled {self.what} was made of: it was exported or changed "
                f"since; make the {self.what} again"
            )


def recipe_of(encoding: Encoding) -> Recipe:
    """What `reopen` needs.

    Raises:
        ExecutorError: it was closed.
    """
    model = encoding.model
    return recipe_for("embedder", model, encoding.settings, fingerprint(model, encoding.dense.pooling))


def recipe_for(what: str, model: LoadedModel, settings: Settings, printed: str) -> Recipe:
    """How to load `model` again, whatever is asked of it; `printed` is over all that its calls depend on.

    The variant is the one that ran, not "auto": another machine might choose another. Where it runs and on how many
    threads is chosen anew unless it was asked for.

    Raises:
        ExecutorError: it was closed.
    """
    if model.closed.is_set():
        raise ExecutorError(f"the {what} was closed, so it cannot be pickled or copied; make a new one")
    cache = model.asked.packed_cache
    folder = cache if isinstance(cache, bool) else Path(cache).absolute()
    asked = replace(model.asked, variant=model.variant, packed_cache=folder)
    return Recipe(what, model.bundle.root.absolute(), printed, asked, settings)


def reopen(kind: type[E], recipe: Recipe, own: Mapping[str, Any]) -> E:
    """An embedder of class `kind` as `recipe` says; `own` are attributes that a subclass has added.

    Raises:
        BundleIntegrityError: there is another bundle in that place now.
    """
    bundle = find_bundle(recipe.root)
    dense = load_dense(bundle, recipe.asked.pooling)
    model = load_model(bundle, recipe.asked)
    recipe.check(model, fingerprint(model, dense.pooling))
    return made(kind, make_encoding(model, dense, recipe.settings), own)


def made(kind: type[E], encoding: Encoding, own: Mapping[str, Any]) -> E:
    """An embedder of class `kind` around `encoding`, past its `__init__`."""
    embedder = object.__new__(kind)
    vars(embedder).update(own, _encoding=encoding)
    return embedder


def fingerprint(model: LoadedModel, pooling: tuple[str, ...]) -> str:
    """Hash over all of the bundle that a call may depend on: what decides vectors, prompts, similarity, ranges."""
    manifest = model.bundle.manifest
    ranges = [file.sha256 for file in manifest.files if file.path == PARITY_VECTORS]
    parts = identity_parts(manifest, model.variant, pooling, manifest.max_tokens)
    return hash_of([parts, asdict(manifest.prompts), manifest.similarity, ranges])
