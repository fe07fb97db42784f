"""The folder that keeps bundles by name, and how one gets into it: found, taken from the hub, or exported.

::

    EMBEDRT_HOME/bundles/OWNER--NAME/      a whole bundle
    EMBEDRT_HOME/bundles/.OWNER--NAME.part/   one that is being fetched; the next try goes on with it
    EMBEDRT_HOME/bundles/.OWNER--NAME.lock    held by who fetches or exports it; ends with its process
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedrt import locks
from embedrt.bundle import MANIFEST_NAME, Bundle, read_bundle
from embedrt.errors import BundleError, BundleNotFoundError, DependencyError, HubError
from embedrt.progress import NullProgress, Progress
from embedrt.store import hub
from embedrt.store.names import Name, home

_EXPORTER_NEEDS = ("torch", "transformers", "sentence_transformers")


@dataclass(frozen=True)
class Kept:
    """A bundle of the store."""

    name: str  # "OWNER/NAME", with "@REVISION" where one was asked for
    path: Path
    num_bytes: int
    bundle: Bundle | None  # None: damaged
    problem: str = ""  # why it is damaged


def folder() -> Path:
    """Where bundles are kept."""
    return home() / "bundles"


def find(name: Name) -> Path | None:
    """The bundle called `name`, if the store has it."""
    path = folder() / name.folder
    return path if (path / MANIFEST_NAME).is_file() else None


def obtain(
    name: Name,
    *,
    variants: tuple[str, ...] | None = None,
    may_export: bool = True,
    progress: Progress | None = None,
) -> Path:
    """The bundle called `name`: of the store, else of the hub, else exported into the store.

    Several processes may ask at once: one works, the others wait and find what it made. What is interrupted leaves no
    bundle behind.

    Args:
        name: a repository with a bundle in it, or with a model.
        variants: of a bundle that must be fetched or made; all if None.
        may_export: whether an export may be begun, which can take minutes and gigabytes.
        progress: told of each step.

    Raises:
        BundleNotFoundError: none of the three ways worked; the message says what each needs.
        BundleError: what the hub has is no whole bundle.
        ExportError: the export failed.
    """
    found = find(name)
    if found is not None:
        return found
    listener = progress or NullProgress()
    with _locked(name):
        found = find(name)  # another process may have made it meanwhile
        if found is not None:
            return found
        try:
            with listener.step(f"fetch {name}"):
                return _fetch(name, variants, show_progress=not isinstance(listener, NullProgress))
        except (HubError, DependencyError) as exc:
            why = exc
        if not may_export or not _can_export():
            raise BundleNotFoundError(_three_ways(name, why)) from why
        return _export(name, variants, listener)


def kept() -> list[Kept]:
    """All bundles of the store, by name."""
    paths = [path for path in folder().glob("[!.]*--*") if path.is_dir()] if folder().is_dir() else []
    return [_kept(path) for path in sorted(paths)]


def remove(name: Name) -> int:
    """Delete the bundle called `name`, and what is left of an interrupted one; the bytes that were freed.

    Raises:
        BundleNotFoundError: there is none.
    """
    places = [place for place in (folder() / name.folder, _part(name)) if place.is_dir()]
    if not places:
        raise BundleNotFoundError(f"{name} is not in {folder()}; 'embedrt list' shows what is")
    with _locked(name):
        freed = sum(_size(place) for place in places)
        for place in places:
            gone = place.with_name(f".{place.name.lstrip('.')}.gone")  # first out of sight, then deleted
            place.replace(gone)
            shutil.rmtree(gone)
    return freed


def _fetch(name: Name, variants: tuple[str, ...] | None, *, show_progress: bool) -> Path:
    part = _part(name)
    try:
        hub.download(name, part, variants, show_progress=show_progress)
    except HubError as exc:
        if exc.missing:  # nothing to go on with
            shutil.rmtree(part, ignore_errors=True)
        raise
    except BundleError:  # what came is damaged, and a second look at it would not help
        shutil.rmtree(part, ignore_errors=True)
        raise
    path = folder() / name.folder
    part.rename(path)
    return path


def _export(name: Name, variants: tuple[str, ...] | None, progress: Progress) -> Path:
    from embedrt.exporter import import_exporter

    path = folder() / name.folder
    options = {} if variants is None else {"variants": variants}
    import_exporter().export(name.repo, path, revision=name.revision, progress=progress, **options)
    return path


def _can_export() -> bool:
    return all(importlib.util.find_spec(package) is not None for package in _EXPORTER_NEEDS)


def _three_ways(name: Name, why: Exception) -> str:
    return (
        f"there is no bundle called {name} in {folder()}, and it could not be fetched ({why}). Three ways to one: "
        f"give the directory of a bundle; 'embedrt pull OWNER/NAME' with a repository that holds one; or export it "
        f"where there is a network: pip install 'embedrt[export]', then 'embedrt export {name.repo} DIRECTORY'"
    )


def _part(name: Name) -> Path:
    return folder() / f".{name.folder}.part"


@contextmanager
def _locked(name: Name) -> Iterator[None]:
    """Hold the name's lock, which ends with its process however that ends."""
    folder().mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder() / f".{name.folder}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        locks.hold(descriptor)
        yield
    finally:
        os.close(descriptor)


def _kept(path: Path) -> Kept:
    name = path.name.replace("--", "/", 1)
    try:
        return Kept(name, path, _size(path), read_bundle(path))
    except BundleError as exc:
        return Kept(name, path, _size(path), None, str(exc))


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
