"""The model to export: a local directory, or a hub id that is downloaded; checked before any work is done on it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from embedrt.bundle import sha256_of
from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.architectures import check_architecture, check_settings, check_tokenizer
from embedrt_export.checkpoint import FORMATS, find_checkpoint
from embedrt_export.families import own_code_of
from embedrt_export.families.towers import find_towers, tower_configs
from embedrt_export.hub import MORE_HEADS, SMALL_FILES, open_repository, select_files
from embedrt_export.kinds import (
    Kind,
    SmallFiles,
    check_dense,
    check_kind,
    check_static,
    check_towers,
    is_static,
    output_of,
)
from embedrt_export.lora import WEIGHTS, Adapter, read_adapter
from embedrt_export.names import find_name

_ROUTER = "router_config.json"
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
    adapter: Adapter | None = None  # that is put on the encoder
    base: Path | None = None  # folder of the encoder's config and weights, where `path` is an adapter's own pipeline
    base_name: str = ""  # of the model under the adapter
    notes: tuple[str, ...] = ()
    output: Kind = "vectors"  # what its own library makes of it
    is_static: bool = False  # whether it is a table of token vectors, without an encoder

    @property
    def more_heads(self) -> bool:
        """Whether BGE-M3's heads for sparse vectors and vectors of tokens lie beside the encoder."""
        return self.output == "vectors" and all((self.path / name).is_file() for name in MORE_HEADS)


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
        files = _small_files(path, path.name)
        named = find_name(path, str(files.config.get("_name_or_path", "")))
        name = named.name if named else ""
        notes = (f"named {name} by {named.source}",) if named and named.source else ()
        revision = named.revision if named else None
    else:
        path, name, notes = _download(str(model), revision, show_progress, trust_remote_code), str(model), ()
        files = _small_files(path, name)
        revision = path.name if len(path.name) == 40 else revision
    if files.adapter is not None:
        base = _base_of(path, files, show_progress=show_progress, trusted=trust_remote_code)
        return _with_pipeline(_adapted(base, encoder_folder(path, files.modules), name), path, files)
    _check(name or str(model), files, trust_remote_code)
    checkpoint = find_checkpoint(_root(path, files.modules))
    name = name or f"{files.config.get('model_type', 'encoder')}-{_sha256(path, checkpoint, files.modules)[:8]}"
    _check_dense(name, path, files)
    is_pipeline = files.modules is not None
    return ModelSource(
        path,
        name,
        revision,
        dict(files.config),
        is_pipeline,
        checkpoint,
        _saved_by(files),
        trust_remote_code,
        notes=notes,
        output=output_of(files),
        is_static=is_static(files),
    )


def put_adapter(source: ModelSource, adapter: str | Path, *, show_progress: bool = False) -> ModelSource:
    """The model with an adapter, a directory or a hub id, which may have been trained on another copy of it.

    Raises:
        SourceError: there is no adapter, or a file is damaged.
        UnsupportedModelError: it is of a kind that cannot be merged.
    """
    if source.is_static:
        raise UnsupportedModelError(f"{source.name} is static embeddings, which no adapter can be put on")
    if source.adapter is not None:
        raise SourceError(f"{source.name} is an adapter already; give --adapter with its base")
    path, name = Path(adapter), str(adapter)
    if path.is_dir():
        named = find_name(path)
        name = named.name if named else ""
    else:
        path = _download(str(adapter), None, show_progress, trusted=False)
    return _adapted(source, path, name)


def _adapted(base: ModelSource, folder: Path, name: str) -> ModelSource:
    adapter = read_adapter(folder)
    if own_code_of(base.config) is not None and not base.trusted:
        raise UnsupportedModelError(
            f"{base.name} has code of its own, and an adapter can be put on that only with --trust-remote-code"
        )
    if find_towers(base.config) is not None:
        raise UnsupportedModelError(
            f"{base.name} embeds pictures too, and an adapter of such a model is not supported yet"
        )
    return replace(base, name=name or f"{base.name}-adapter", adapter=adapter, base_name=base.name, notes=())


def _with_pipeline(source: ModelSource, path: Path, files: SmallFiles) -> ModelSource:
    """sentence-transformers saves the whole pipeline around an adapter, peft the adapter alone."""
    if files.modules is None:
        return source
    check_kind(source.name, replace(files, config=source.config))
    _check_dense(source.name, path, files)
    own = read_modules(source.path) if source.is_pipeline else None
    return replace(source, path=path, base=encoder_folder(source.path, own), is_pipeline=True)


def _base_of(path: Path, files: SmallFiles, *, show_progress: bool, trusted: bool) -> ModelSource:
    """The model that an adapter says it was trained on."""
    adapter = files.adapter or {}
    base = str(adapter.get("base_model_name_or_path") or "")
    cure = f"give the base yourself: embedrt export BASE OUT --adapter {path}"
    if not base:
        raise SourceError(f"{path} is an adapter that does not name its base; {cure}")
    try:
        return resolve(base, adapter.get("revision"), show_progress=show_progress, trust_remote_code=trusted)
    except SourceError as exc:
        raise SourceError(f"{path} is an adapter of {base!r}, which cannot be read ({exc}); {cure}") from exc


def _check_dense(name: str, path: Path, files: SmallFiles) -> None:
    for module in files.modules or ():
        if str(module["type"]).endswith(".Dense"):
            check_dense(name, optional_json(path / str(module.get("path", "")) / "config.json"))


def sha256_of_weights(source: ModelSource) -> str:
    """One sha256 over the names and hashes of the weight files that are read, in the order of their names."""
    more = source.adapter.files if source.adapter is not None else ()
    modules = read_modules(source.path) if source.is_pipeline else None
    return _sha256(source.path, (*source.checkpoint, *more), modules)


def read_modules(path: Path) -> list[dict[str, Any]]:
    """modules.json, in the order of idx."""
    modules = _read_json(path / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(m, dict) and "type" in m for m in modules):
        raise SourceError(f"{path / 'modules.json'} is not a list of modules; download the model again")
    for module in modules:
        if module.get("path") == ".":  # as model2vec has it
            module["path"] = ""
    return sorted(modules, key=lambda module: int(module.get("idx", 0)))


def encoder_folder(path: Path, modules: Sequence[Mapping[str, Any]] | None) -> Path:
    """Where the first module, the Transformer, keeps its files."""
    return path / str(modules[0].get("path", "")) if modules else path


def router_folders(path: Path, modules: Sequence[Mapping[str, Any]] | None) -> dict[str, Path]:
    """Name of a router's module -> its folder; none where the first module is no router."""
    if not modules or not str(modules[0]["type"]).endswith(".Router"):
        return {}
    root = encoder_folder(path, modules)
    return {str(name): root / str(name) for name in optional_json(root / _ROUTER).get("types", {})}


def _root(path: Path, modules: Sequence[Mapping[str, Any]] | None) -> Path:
    """Where the encoder keeps its files: the first Transformer behind a router, if there is one."""
    types = optional_json(encoder_folder(path, modules) / _ROUTER).get("types", {})
    folders = router_folders(path, modules)
    transformers = [folder for name, folder in folders.items() if str(types[name]).endswith("Transformer")]
    return transformers[0] if transformers else encoder_folder(path, modules)


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written under `folder`."""
    return shutil.disk_usage(folder).free


def _download(model: str, revision: str | None, show_progress: bool, trusted: bool) -> Path:
    """The folder of a hub's model, with what it is read from; refused before its weights are downloaded."""
    hub = open_repository(model, revision, show_progress=show_progress)
    if hub.files is None:  # offline: what the cache holds
        path = hub.fetch(SMALL_FILES)
        if _small_files(path, model).adapter is None:
            _check(model, _small_files(path, model), trusted)
        return path
    path = hub.fetch(SMALL_FILES)
    modules = read_modules(path) if "modules.json" in hub.files else None
    folders = [str(module.get("path", "")) for module in modules] if modules is not None else [""]
    folders += [folder.relative_to(path).as_posix() for folder in router_folders(path, modules).values()]
    first = _root(path, modules).relative_to(path).as_posix().removeprefix(".")
    hub.fetch([*SMALL_FILES, *(f"{first}/{name}".lstrip("/") for name in _CONFIGS)])
    if _small_files(path, model).adapter is not None:
        weights = [f"{first}/{name}".lstrip("/") for name in WEIGHTS]
        return hub.fetch([*select_files(hub.files, folders), *(name for name in weights if name in hub.files)])
    _check(model, _small_files(path, model), trusted)
    return hub.fetch(select_files(hub.files, folders, code=trusted))


def _small_files(path: Path, name: str) -> SmallFiles:
    modules = read_modules(path) if (path / "modules.json").is_file() else None
    root = _root(path, modules)
    adapter = root / "adapter_config.json"
    return SmallFiles(
        modules=modules,
        config=optional_json(root / "config.json"),
        pipeline=optional_json(path / "config_sentence_transformers.json"),
        transformer=optional_json(root / "sentence_bert_config.json"),
        tokenizer=optional_json(root / "tokenizer_config.json"),
        adapter=_read_json(adapter) if adapter.is_file() else None,
        name=name,
        router=optional_json(encoder_folder(path, modules) / _ROUTER),
    )


def _saved_by(files: SmallFiles) -> dict[str, str]:
    versions = files.pipeline.get("__version__")
    library = versions.get("sentence_transformers") if isinstance(versions, Mapping) else None
    said = {"transformers": files.config.get("transformers_version"), "sentence-transformers": library}
    return {name: str(version) for name, version in said.items() if version}


def _check(name: str, files: SmallFiles, trusted: bool) -> None:
    """What the model is, then whether that can be exported."""
    if is_static(files):
        check_static(name, files)
        return
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
    behind = [path / str(module.get("path", "")) for module in (modules or ())[1:]]
    files |= {path / name for name in MORE_HEADS if (path / name).is_file()}
    for folder in (*behind, *router_folders(path, modules).values()):
        files |= set([folder / name for name, _shards in FORMATS if (folder / name).is_file()][:1])
    digest = hashlib.sha256()
    for file in sorted(files):
        name = file.relative_to(path).as_posix() if file.is_relative_to(path) else file.name
        digest.update(f"{name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def optional_json(file: Path) -> dict[str, Any]:
    """A JSON object of the model's; empty where there is no such file.

    Raises:
        SourceError: it cannot be read, or is something else.
    """
    data = _read_json(file) if file.is_file() else {}
    if not isinstance(data, dict):
        raise SourceError(f"{file} is not a JSON object; download the model again")
    return data


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise SourceError(f"{file} cannot be read: {exc}; download the model again") from exc
