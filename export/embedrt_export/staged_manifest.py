"""The manifest of a bundle that is being made: what it says of any model, and the files beside its variants'."""

from __future__ import annotations

import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from embedrt.bundle import MANIFEST_NAME, describe_file
from embedrt.heads import SIMILARITY_NAMES
from embedrt.manifest import Architecture, BundleFile, Manifest, Source
from embedrt.manifest_json import FORMAT_VERSION, dump_manifest
from embedrt_export.prompts import NO_PROMPTS
from embedrt_export.request import ExportRequest
from embedrt_export.source import ModelSource, sha256_of_weights
from embedrt_export.vocabulary import check_vocabulary

TOKENIZER = "tokenizer.json"
_TOOLS = ("embedrt", "numpy", "onnx", "onnxruntime", "sentence-transformers", "tokenizers",
          "torch", "transformers")  # fmt: skip


def describe_model(source: ModelSource, architecture: Architecture, request: ExportRequest) -> Manifest:
    """What a manifest says of any model, without its heads, its limit and its notes."""
    return Manifest(
        format_version=FORMAT_VERSION,  # until the encoder is known
        name=request.name or source.name.rpartition("/")[2],
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        source=Source(source.name, source.revision, sha256_of_weights(source)),
        architecture=architecture,
        max_tokens=1,
        tokenizer=TOKENIZER,
        pipeline=None,
        prompts=NO_PROMPTS,
        similarity=SIMILARITY_NAMES[0],
        variants={},
        files=(),
        tools=tool_versions(),
    )


def unreachable_tokens(name: str, encoder: Any, tokenizer: Any) -> tuple[str, ...]:
    """A note on tokens that the encoder has no row for, if there are any."""
    found = check_vocabulary(name, tokenizer, encoder.get_input_embeddings().weight.shape[0])
    return (found,) if found else ()


def tool_versions() -> dict[str, str]:
    """Of what an export uses."""
    versions = {}
    for tool in _TOOLS:
        try:
            versions[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            continue
    return versions


def shared_files(root: Path) -> tuple[BundleFile, ...]:
    """The staged bundle's files beside its variants'."""
    kept = sorted(path for path in (root / "parity").rglob("*") if path.is_file())
    paths = [root / TOKENIZER, *sorted((root / "pipeline").glob("*")), *kept]
    return tuple(describe_file(root, path.relative_to(root).as_posix()) for path in paths)


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write or replace the staged bundle's manifest."""
    (root / MANIFEST_NAME).write_text(dump_manifest(manifest), encoding="utf-8")
