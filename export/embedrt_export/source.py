"""The model to export: a local directory, or a hub id that is downloaded; checked before any work is done on it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedrt.bundle import sha256_of
from embedrt.errors import SourceError

_WANTED = (
    "*.json",
    "*.txt",
    "*.model",
    "*.safetensors",
    "pytorch_model*.bin",
    "**/*.json",
    "**/*.safetensors",
    "**/*.bin",
)
_UNWANTED = ("onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "training_args.bin", "optimizer.*")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class ModelSource:
    """A model's files on disk."""

    path: Path
    name: str  # hub id, or the directory's name
    revision: str | None  # commit, where the hub tells it
    config: dict[str, Any]  # config.json of the encoder
    is_pipeline: bool  # has sentence-transformers' modules.json


def resolve(model: str | Path, revision: str | None = None, *, show_progress: bool = False) -> ModelSource:
    """Find the model, download it if it is a hub id, and check that its files are whole.

    `show_progress` shows the hub's bars on stderr, if that is a terminal.

    Raises:
        SourceError: not found, no network, or a file is missing or truncated; the message says what to do.
    """
    path = Path(model)
    if path.is_dir():
        if revision is not None:
            raise SourceError(f"{model} is a local directory; --revision goes with a hub id")
        name = path.resolve().name
    else:
        with _hub_bars(show_progress and sys.stderr.isatty()):
            path, revision = _download(str(model), revision)
        name = str(model)
    is_pipeline = (path / "modules.json").is_file()
    root = _encoder_root(path) if is_pipeline else path
    config = _read_json(root / "config.json")
    _check_weights(root)
    return ModelSource(path, name, revision, config, is_pipeline)


def sha256_of_weights(source: ModelSource) -> str:
    """One sha256 over the names and hashes of all weight files, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in _WEIGHTS for file in source.path.rglob(pattern)}):
        digest.update(f"{file.relative_to(source.path).as_posix()} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def read_modules(path: Path) -> list[dict[str, Any]]:
    """modules.json, in the order of idx."""
    modules = _read_json(path / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(m, dict) and "type" in m for m in modules):
        raise SourceError(f"{path / 'modules.json'} is not a list of modules; download the model again")
    return sorted(modules, key=lambda module: int(module.get("idx", 0)))


def _encoder_root(path: Path) -> Path:
    """Where the first module, the Transformer, keeps its files."""
    modules = read_modules(path)
    return path / str(modules[0].get("path", "")) if modules else path


@contextlib.contextmanager
def _hub_bars(shown: bool) -> Iterator[None]:
    """The hub draws its bars into log files too; there an error must be the only line."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    change = not shown and not are_progress_bars_disabled()
    if change:
        disable_progress_bars()
    try:
        yield
    finally:
        if change:
            enable_progress_bars()


def _download(model: str, revision: str | None) -> tuple[Path, str | None]:
    from huggingface_hub import snapshot_download
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
        RevisionNotFoundError: f"it has no revision {revision!r}",
        RepositoryNotFoundError: "neither a local directory nor on the hub; check the spelling, or 'hf auth login'",
        LocalEntryNotFoundError: "no such directory, and the hub cannot be reached; check the network or the proxy, "
        "or give a directory that holds the model",
    }
    try:
        folder = Path(
            snapshot_download(model, revision=revision, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED))
        )
    except tuple(cures) as exc:
        cure = next(text for kind, text in cures.items() if isinstance(exc, kind))
        raise SourceError(f"model {model!r}: {cure}") from exc
    except OSError as exc:  # requests' errors are OSErrors, and so is a full disk
        raise SourceError(f"model {model!r} could not be downloaded: {exc}") from exc
    return folder, folder.name if len(folder.name) == 40 else revision


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(
            f"{file} is missing; MODEL must be a sentence-transformers or transformers directory with its weights"
        ) from None
    except (OSError, ValueError) as exc:
        raise SourceError(f"{file} cannot be read: {exc}; download the model again") from exc


def _check_weights(root: Path) -> None:
    """Whole weights, before minutes are spent on half of them."""
    index = root / "model.safetensors.index.json"
    if index.is_file():
        files = [root / name for name in sorted(set(_read_json(index)["weight_map"].values()))]
    elif (root / "model.safetensors").is_file():
        files = [root / "model.safetensors"]
    elif any(root.glob("pytorch_model*.bin")):
        return  # pickles have no length to check; torch says if one is cut
    else:
        raise SourceError(f"{root} holds no weights (model.safetensors or pytorch_model.bin); download the model again")
    for file in files:
        _check_safetensors(file)


def _check_safetensors(file: Path) -> None:
    """The header says how long the file must be (safetensors' format: u64 length, JSON, then the data)."""
    if not file.is_file():
        raise SourceError(f"{file} is missing; download the model again")
    header, start = _header(file)
    size = file.stat().st_size
    end = start + max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
    if end != size:
        raise SourceError(f"{file} is truncated: it has {size} bytes and should have {end}; download it again")


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """The header, and where the data begins behind it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = int.from_bytes(stream.read(8), "little")
        if size < 8 or head > size:
            raise SourceError(f"{file} is truncated or no safetensors file ({size} bytes); download it again")
        try:
            header: dict[str, Any] = json.loads(stream.read(head))
        except ValueError as exc:
            raise SourceError(f"{file} has a damaged header; download it again") from exc
    return header, 8 + head


def weight_names(source: ModelSource) -> frozenset[str]:
    """Names of the encoder's tensors in its safetensors files; empty for other formats."""
    root = _encoder_root(source.path) if source.is_pipeline else source.path
    return frozenset(name for file in root.glob("*.safetensors") for name in _header(file)[0] if name != "__metadata__")


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written under `folder`."""
    stats = os.statvfs(folder)
    return stats.f_bavail * stats.f_frsize
