"""The model to export: a local directory, or a hub id that is downloaded; checked before any work is done on it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedrt.bundle import sha256_of
from embedrt.errors import SourceError
from embedrt_export.architectures import check_architecture, check_settings, check_tokenizer
from embedrt_export.checkpoint import FORMATS, find_checkpoint
from embedrt_export.families.towers import find_towers, tower_configs
from embedrt_export.hub import SMALL_FILES, open_repository, select_files
from embedrt_export.kinds import SmallFiles, check_dense, check_kind, check_towers
from embedrt_export.names import find_name

_CONFIGS = ("config.json", "sentence_bert_config.json", "adapter_config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class ModelSource:
    """A model's files on disk."""

    path: Path
    name: str  # hub id, or what `embedrt_export.names` finds
    revision: str | None  # commit, where the hub or its cache tells it
    config: dict[str, Any]  # config.json of the encoder
    is_pipeline: bool  # has sentence-transformers' modules.json
    checkpoint: tuple[Path, ...]  # the encoder's weights
    saved_by: Mapping[str, str] = field(default_factory=dict)  # distribution -> version, as far as the files say
    trusted: bool = False  # whether its own code may be run
    notes: tuple[str, ...] = ()


def resolve(
    model: str | Path, revision: str | None = None, *, show_progress: bool = False, trust_remote_code: bool = False
) -> ModelSource:
    """Find the model, download it if it is a hub id, and check that it can be exported and that its files are whole.

    What the model is is asked of its small files first, so that nothing large is downloaded in vain.

    `show_progress` shows the hub's bars on stderr, if that is a terminal. `trust_remote_code` lets code of the model's
    own be run, later, when it is loaded.

    Raises:
        SourceError: not found, no network, or a file is missing or truncated; the message says what to do.
        UnsupportedModelError: it is no text encoder, or of an architecture or a version that is not supported.
    """
    path = Path(model)
    if path.is_dir():
        if revision is not None:
            raise SourceError(f"{model} is a local directory; --revision goes with a hub id")
        files = _small_files(path)
        named = find_name(path, str(files.config.get("_name_or_path", "")))
        name = named.name if named else ""
        _check(name or str(model), files, trust_remote_code)
        checkpoint = find_checkpoint(encoder_folder(path, files.modules))
        revision = named.revision if named else None
        name = name or f"{files.config.get('model_type', 'encoder')}-{_sha256(path, checkpoint, files.modules)[:8]}"
        notes = (f"named {name} by {named.source}",) if named and named.source else ()
    else:
        path, name, notes = _download(str(model), revision, show_progress, trust_remote_code), str(model), ()
        files = _small_files(path)
        checkpoint = find_checkpoint(encoder_folder(path, files.modules))
        revision = path.name if len(path.name) == 40 else revision
    for module in files.modules or ():
        if str(module["type"]).endswith(".Dense"):
            check_dense(name, _optional_json(path / str(module.get("path", "")) / "config.json"))
    is_pipeline = files.modules is not None
    return ModelSource(
        path, name, revision, dict(files.config), is_pipeline, checkpoint, _saved_by(files), trust_remote_code, notes
    )


def sha256_of_weights(source: ModelSource) -> str:
    """One sha256 over the names and hashes of the weight files that are read, in the order of their names."""
    return _sha256(source.path, source.checkpoint, read_modules(source.path) if source.is_pipeline else None)


def read_modules(path: Path) -> list[dict[str, Any]]:
    """modules.json, in the order of idx."""
    modules = _read_json(path / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(m, dict) and "type" in m for m in modules):
        raise SourceError(f"{path / 'modules.json'} is not a list of modules; download the model again")
    return sorted(modules, key=lambda module: int(module.get("idx", 0)))


def encoder_folder(path: Path, modules: Sequence[Mapping[str, Any]] | None) -> Path:
    """Where the first module, the Transformer, keeps its files."""
    return path / str(modules[0].get("path", "")) if modules else path


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written under `folder`."""
    return shutil.disk_usage(folder).free


def _download(model: str, revision: str | None, show_progress: bool, trusted: bool) -> Path:
    """The folder of a hub's model, with what it is read from; refused before its weights are downloaded."""
    hub = open_repository(model, revision, show_progress=show_progress)
    if hub.files is None:  # offline: what the cache holds
        path = hub.fetch(SMALL_FILES)
        _check(model, _small_files(path), trusted)
        return path
    path = hub.fetch(SMALL_FILES)
    folders = [str(module.get("path", "")) for module in read_modules(path)] if "modules.json" in hub.files else [""]
    first = folders[0] if folders else ""
    hub.fetch([*SMALL_FILES, *(f"{first}/{name}".lstrip("/") for name in _CONFIGS)])
    _check(model, _small_files(path), trusted)
    return hub.fetch(select_files(hub.files, folders, code=trusted))


def _small_files(path: Path) -> SmallFiles:
    modules = read_modules(path) if (path / "modules.json").is_file() else None
    root = encoder_folder(path, modules)
    adapter = root / "adapter_config.json"
    return SmallFiles(
        modules=modules,
        config=_optional_json(root / "config.json"),
        pipeline=_optional_json(path / "config_sentence_transformers.json"),
        transformer=_optional_json(root / "sentence_bert_config.json"),
        tokenizer=_optional_json(root / "tokenizer_config.json"),
        adapter=_read_json(adapter) if adapter.is_file() else None,
    )


def _saved_by(files: SmallFiles) -> dict[str, str]:
    versions = files.pipeline.get("__version__")
    library = versions.get("sentence_transformers") if isinstance(versions, Mapping) else None
    said = {"transformers": files.config.get("transformers_version"), "sentence-transformers": library}
    return {name: str(version) for name, version in said.items() if version}


def _check(name: str, files: SmallFiles, trusted: bool) -> None:
    """What the model is, then whether that can be exported."""
    towers = find_towers(files.config)
    if towers is not None:
        check_towers(name, files)
        for family, config in zip((towers.text, towers.vision), tower_configs(files.config), strict=True):
            family.spec_of(config)
        check_settings(name, files.config)
        check_tokenizer(name, files.tokenizer)
        return
    check_kind(name, files, trust_remote_code=trusted)
    if not files.config:
        raise SourceError(
            f"{name}: config.json is missing; MODEL must be a sentence-transformers or transformers directory with its "
            "weights"
        )
    check_architecture(name, files.config)
    check_settings(name, files.config)
    check_tokenizer(name, files.tokenizer)


def _sha256(path: Path, checkpoint: Sequence[Path], modules: Sequence[Mapping[str, Any]] | None) -> str:
    """Over the encoder's checkpoint and the first format of weights in each later module's folder."""
    files = set(checkpoint)
    for module in (modules or ())[1:]:
        folder = path / str(module.get("path", ""))
        files |= set([folder / name for name, _shards in FORMATS if (folder / name).is_file()][:1])
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _optional_json(file: Path) -> dict[str, Any]:
    data = _read_json(file) if file.is_file() else {}
    if not isinstance(data, dict):
        raise SourceError(f"{file} is not a JSON object; download the model again")
    return data


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise SourceError(f"{file} cannot be read: {exc}; download the model again") from exc
