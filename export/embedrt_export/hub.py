"""Downloads from the Hugging Face hub: small files first, which say what the model is, then what it is read from."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from embedrt.errors import SourceError
from embedrt.store.hub import network_errors, progress_bars
from embedrt_export.checkpoint import FORMATS

SMALL_FILES = (
    "modules.json",
    "config_sentence_transformers.json",
    "router_config.json",
    "artifact.metadata",
    "README.md",
)
"""Files of a model's root that say what it is; its config lies in the first module's folder."""

MORE_HEADS = ("sparse_linear.pt", "colbert_linear.pt")
"""BGE-M3's, in the folder of its encoder."""

_TEXT_FILES = ("*.json", "*.txt", "*.model")  # configs and tokenizers
_STRAY = (
    "*.index.json",  # taken with their shards
    "trainer_state.json", "*results*.json", "requirements.txt", "license*.txt",
)  # fmt: skip
_T = TypeVar("_T")


@dataclass(frozen=True)
class Repository:
    """A model on the hub, or of it what an offline cache holds."""

    model: str
    revision: str | None  # as it was asked for
    files: tuple[str, ...] | None  # None: the hub was not asked, take what the cache holds
    show_progress: bool = False

    def fetch(self, wanted: Sequence[str]) -> Path:
        """The folder of the revision's files, where those of `wanted` that there are lie.

        Raises:
            SourceError: no access, no network, or a full disk.
        """
        from huggingface_hub import snapshot_download

        names = [glob.escape(name) for name in wanted]
        offline = self.files is None
        with progress_bars(self.show_progress):
            return Path(
                _translated(
                    self,
                    lambda: snapshot_download(
                        self.model, revision=self.revision, allow_patterns=names, local_files_only=offline
                    ),
                )
            )


def open_repository(model: str, revision: str | None, *, show_progress: bool = False) -> Repository:
    """Ask the hub which files the model has; without a network, the cache must hold it.

    Raises:
        SourceError: no such model or revision, no access, or neither network nor cache.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    unreachable: tuple[type[Exception], ...] = (OSError, *network_errors())
    unasked = Repository(model, revision, None, show_progress)
    try:
        siblings = HfApi().model_info(model, revision=revision).siblings or ()
    except (HfHubHTTPError, HFValidationError) as exc:
        raise _refusal(unasked, exc) from exc
    except unreachable:  # no network, or HF_HUB_OFFLINE
        unasked.fetch(())  # raises where the cache has no such model
        return unasked
    return Repository(model, revision, tuple(sibling.rfilename for sibling in siblings), show_progress)


def select_files(names: Sequence[str], folders: Sequence[str] = ("",), *, code: bool = False) -> tuple[str, ...]:
    """Of a repository's files, those that a model with its modules in `folders` is read from: one format of weights,
    the texts beside it, its own code where that is to be run, and nothing of other programs.
    """
    chosen = {name for name in names if name in (*SMALL_FILES, *MORE_HEADS)}
    for folder in {"", *folders}:
        here = {PurePosixPath(name).name: name for name in names if _folder_of(name) == folder}
        chosen |= {here[name] for name in _texts(here)}
        chosen |= {here[name] for name in here if code and name.endswith(".py")}
        if folder in folders:
            chosen |= {here[name] for name in _weights(here)}
    return tuple(sorted(chosen))


def _texts(names: Sequence[str] | dict[str, str]) -> list[str]:
    return [name for name in names if _matches(name, _TEXT_FILES) and not _matches(name.lower(), _STRAY)]


def _weights(names: Sequence[str] | dict[str, str]) -> list[str]:
    """The files of the first format that is there, one file before shards, as transformers looks for them."""
    for one, shards in FORMATS:
        if one in names:
            return [one]
        if f"{one}.index.json" in names:
            return [f"{one}.index.json", *(name for name in names if fnmatch.fnmatchcase(name, shards))]
    return []


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _folder_of(name: str) -> str:
    folder = PurePosixPath(name).parent.as_posix()
    return "" if folder == "." else folder


def _translated(repository: Repository, call: Callable[[], _T]) -> _T:
    from huggingface_hub.errors import HFValidationError

    try:
        return call()
    except (OSError, HFValidationError, *network_errors()) as exc:  # most of the client's are OSErrors, as a full disk
        raise _refusal(repository, exc) from exc


def _why_not_there() -> str:
    """Why nothing but the cache was asked, and what to do."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids to ask the hub; unset it"
    return "the hub cannot be reached; check the network or the proxy"


def _refusal(repository: Repository, exc: Exception) -> SourceError:
    """What the hub's client says, as what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cures = {
        HFValidationError: "there is no such directory, and it is no hub id either (OWNER/NAME)",
        GatedRepoError: "its owner asks for consent: accept on its page, then 'hf auth login'",
        RevisionNotFoundError: f"it has no revision {repository.revision!r}",
        RepositoryNotFoundError: "neither a local directory nor on the hub; check the spelling, or 'hf auth login'",
        LocalEntryNotFoundError: f"no such directory, and {_why_not_there()}, or give a directory that holds the model",
    }
    cure = next((text for kind, text in cures.items() if isinstance(exc, kind)), f"cannot be downloaded: {exc}")
    return SourceError(f"model {repository.model!r}: {cure}")
