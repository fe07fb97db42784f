"""The thin door to the Hugging Face hub: bundles in and out, and its errors in our words.

Everything of huggingface_hub's own settings is honoured: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the like.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedrt.bundle import MANIFEST_NAME, Bundle, read_bundle
from embedrt.errors import DependencyError, HubError, OptionError
from embedrt.manifest_json import dump_manifest, parse_manifest
from embedrt.store.card import model_card
from embedrt.store.names import Name

_ANSWER_S = 30.0
_LOCAL_NOTES = ".cache"  # where huggingface_hub keeps what it knows of a folder that it fills
CARD_NAME = "README.md"


def import_hub() -> Any:
    """The package huggingface_hub.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as exc:
        raise DependencyError("the hub needs huggingface_hub: pip install 'embedrt[hub]'") from exc
    return huggingface_hub


def download(name: Name, folder: Path, variants: tuple[str, ...] | None = None, *, show_progress: bool = False) -> None:
    """Fill `folder` with the bundle in the repository `name`; what lies there from an earlier try is gone on with.

    Args:
        name: the repository.
        folder: made if need be; whole when this returns, and only then.
        variants: take these only, which the manifest then says; all if None.
        show_progress: huggingface_hub's bars on stderr, if that is a terminal.

    Raises:
        HubError: there is no such repository, no bundle in it, or no way to it; `.missing` where there is none.
        BundleError: what came is no whole bundle.
        OptionError: a variant is not in it.
        DependencyError: huggingface_hub is not installed.
    """
    hub = import_hub()
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bars(show_progress), translated(str(name)):
        # All files of one commit, however often the branch moves meanwhile; and one try, where downloads have five.
        commit = hub.HfApi().repo_info(name.repo, revision=name.revision, timeout=_ANSWER_S).sha
        manifest_file = hub.hf_hub_download(name.repo, MANIFEST_NAME, revision=commit, local_dir=folder)
        text = Path(manifest_file).read_text(encoding="utf-8")
        manifest = parse_manifest(text, f"{name}: {MANIFEST_NAME}")
        if variants is not None:
            unknown = [variant for variant in variants if variant not in manifest.variants]
            if unknown:
                raise OptionError(f"{name} has the variants {', '.join(manifest.variants)}, not {', '.join(unknown)}")
            manifest = replace(manifest, variants={variant: manifest.variants[variant] for variant in variants})
        for file in Bundle(folder, manifest).files():
            hub.hf_hub_download(name.repo, file.path, revision=commit, local_dir=folder)
    if variants is not None:
        (folder / MANIFEST_NAME).write_text(dump_manifest(manifest), encoding="utf-8")
    shutil.rmtree(folder / _LOCAL_NOTES, ignore_errors=True)
    read_bundle(folder).check_hashes()


def upload(bundle: Bundle, name: Name, *, private: bool = False, show_progress: bool = False) -> str:
    """Put the bundle into the repository `name`, made if need be, with a card that shows its parity: one commit.

    Returns:
        The commit's address.

    Raises:
        HubError: it cannot be reached, or does not allow it.
        BundleError: the bundle is damaged.
        DependencyError: huggingface_hub is not installed.
    """
    hub = import_hub()
    bundle.check_hashes()
    files = [MANIFEST_NAME, *(file.path for file in bundle.files())]
    operations = [hub.CommitOperationAdd(path, str(bundle.path(path))) for path in files]
    operations.append(hub.CommitOperationAdd(CARD_NAME, model_card(bundle.manifest, name.repo).encode()))
    api = hub.HfApi()
    with progress_bars(show_progress), translated(str(name)):
        api.create_repo(name.repo, private=private, exist_ok=True)
        commit = api.create_commit(
            name.repo, operations, commit_message=f"{bundle.manifest.name}: an embedrt bundle", revision=name.revision
        )
    return str(commit.commit_url)


@contextlib.contextmanager
def progress_bars(shown: bool) -> Iterator[None]:
    """The hub draws its bars into log files too; there an error must be the only line."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    change = not (shown and sys.stderr.isatty()) and not are_progress_bars_disabled()
    if change:
        disable_progress_bars()
    try:
        yield
    finally:
        if change:
            enable_progress_bars()


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """huggingface_hub's errors as HubError, by what a user can do."""
    from huggingface_hub import errors

    # The first that fits: narrower kinds come before wider ones. (kind, cure, whether nothing is there)
    cures: tuple[tuple[type[Exception], str, bool], ...] = (
        (errors.HFValidationError, "it is no name of the hub (OWNER/NAME)", True),
        (errors.GatedRepoError, "its owner asks for consent: accept on its page, then 'hf auth login'", False),
        (errors.RevisionNotFoundError, "it has no such revision", True),
        (errors.RepositoryNotFoundError, "it is not on the hub; check the spelling, or 'hf auth login'", True),
        (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE forbids the network", False),
        (errors.LocalEntryNotFoundError, "the hub cannot be reached; check the network or the proxy", False),
        (errors.EntryNotFoundError, "it is no bundle: a file of it is not in the repository", True),
    )
    try:
        yield
    except tuple(kind for kind, _, _ in cures) as exc:
        _, cure, missing = next(row for row in cures if isinstance(exc, row[0]))
        raise HubError(f"{what}: {cure}", missing=missing) from exc
    except errors.HfHubHTTPError as exc:
        cure = "; the token may not: 'hf auth login'" if _status(exc) in ("401", "403") else ""
        raise HubError(f"{what}: the hub answered {_status(exc)}{cure}") from exc
    except network_errors() as exc:
        raise HubError(f"{what}: the hub cannot be reached; check the network or the proxy ({exc})") from exc
    except OSError as exc:  # a full disk
        raise HubError(f"{what}: {exc}") from exc


# The client's own HTTP library: requests before huggingface_hub 1.0, httpx since, httpx2 since 2.0.
_NETWORK_ERRORS = {
    "requests": ("ConnectionError", "Timeout"),
    "httpx": ("TransportError",),
    "httpx2": ("TransportError",),
}


def network_errors() -> tuple[type[Exception], ...]:
    """What says that the hub cannot be reached; not all of it is a ConnectionError, or an OSError."""
    modules = {module: sys.modules[module] for module in _NETWORK_ERRORS if module in sys.modules}
    own = [getattr(module, error) for name, module in modules.items() for error in _NETWORK_ERRORS[name]]
    return (ConnectionError, *own)


def _status(exc: Any) -> str:
    response = getattr(exc, "response", None)
    return str(getattr(response, "status_code", None) or exc)
