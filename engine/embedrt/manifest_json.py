"""manifest.json as text: read, checked, and written.

The manifest is strict both ways: a missing field, an unknown field or a wrong type is a BundleFormatError that
names the place.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from embedrt._manifest_checks import (
    check_code_width,
    check_heads,
    check_numbers,
    check_paths,
    check_preprocessing,
    check_table,
    check_token_heads,
    read_json,
)
from embedrt._schema import SchemaError, decode, require
from embedrt.errors import BundleFormatError
from embedrt.heads import ATTENTION, OUTPUTS, SIMILARITY_NAMES
from embedrt.manifest import VARIANT_NAMES, Manifest, Pictures, format_for, outputs_of, picture_tower, stages_of

FORMAT_VERSION = 4  # the newest that is read


def parse_manifest(text: str, where: str = "manifest.json") -> Manifest:
    """The manifest in `text`; `where` is how errors call it."""
    try:
        data = read_json(text)
    except SchemaError as exc:
        raise BundleFormatError(f"{where}: {exc}") from exc
    version = data.get("format_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleFormatError(
            f"{where} has format {version}, this embedrt reads up to {FORMAT_VERSION}; pip install -U embedrt"
        )
    try:
        manifest = decode(Manifest, data)
        _check_values(manifest)
    except SchemaError as exc:
        raise BundleFormatError(f"{where}: {exc}") from exc
    return manifest


def dump_manifest(manifest: Manifest) -> str:
    """The JSON text of a manifest; `parse_manifest` reads it back equal."""
    data = asdict(manifest)
    for name in ("encoder", "pictures", "table", "code_width", *OUTPUTS):  # engines of older formats know no such field
        if name != "pipeline" and data[name] is None:
            del data[name]
    if manifest.encoder is not None and manifest.encoder.patches is None:
        del data["encoder"]["patches"]  # which format 2 has not
    for variant in data["variants"].values():
        if not variant["outputs"]:
            del variant["outputs"]
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def _check_values(manifest: Manifest, *, of_pictures: bool = False) -> None:
    """What types alone cannot say."""
    has_patches = manifest.encoder is not None and manifest.encoder.patches is not None
    require(has_patches == of_pictures, "encoder.patches", "are of pictures")
    attends = manifest.pipeline is not None and ATTENTION in manifest.pipeline.pooling
    require(not attends or of_pictures, "pipeline.pooling", f"{ATTENTION!r} is of pictures")
    version = format_for(manifest)
    require(manifest.format_version == version, "format_version", f"must be {version}, as the other fields say")
    require(bool(manifest.variants), "variants", "must not be empty")
    for name in manifest.variants:
        require(name in VARIANT_NAMES, f"variants.{name}", f"must be one of {', '.join(VARIANT_NAMES)}")
    similar = manifest.similarity in SIMILARITY_NAMES
    require(similar, "similarity", f"{manifest.similarity!r} is not one of {', '.join(SIMILARITY_NAMES)}")
    require(bool(outputs_of(manifest)), "pipeline", "must not be null where there is no other output")
    check_code_width(manifest)
    check_heads(manifest.pipeline, manifest.scores)
    check_token_heads(manifest)
    _check_listed(manifest)
    check_numbers(manifest, stages_of(manifest))
    check_table(manifest)
    if manifest.pictures is not None:
        _check_pictures(manifest, manifest.pictures)


def _check_pictures(manifest: Manifest, pictures: Pictures) -> None:
    """Both towers as bundles, and what must be the same in both."""
    check_preprocessing(pictures.preprocessing, pictures.encoder, pictures.texts)
    require(set(pictures.variants) == set(manifest.variants), "pictures.variants", "must be those of the texts")
    dimension = None if manifest.pipeline is None else manifest.pipeline.dimension
    same = pictures.pipeline.dimension == dimension
    require(same, "pictures.pipeline.dimension", f"must be {dimension}, as of the texts")
    tower = picture_tower(manifest)
    assert tower is not None
    try:
        _check_values(tower, of_pictures=True)
    except SchemaError as exc:
        raise SchemaError(f"pictures.{exc}") from exc


def _check_listed(manifest: Manifest) -> None:
    """Every path that is read must have its size and hash in the manifest, and stay inside the bundle."""
    shared = {f.path for f in manifest.files}
    require(manifest.tokenizer in shared, "tokenizer", "must be among files")
    for head, stages in stages_of(manifest).items():
        for i, stage in enumerate(stages):
            listed = stage.path is None if stage.kind == "normalize" else stage.path in shared
            require(listed, f"{head}.stages[{i}].path", "must be among files, and null for normalize")
    if manifest.sparse is not None:
        weights = manifest.sparse.weights
        paths = {"sparse.weights.path": weights.path if weights else None, "sparse.table": manifest.sparse.table}
        for where, path in paths.items():
            require(path is None or path in shared, where, "must be among files")
    every = set(shared)
    for name, variant in manifest.variants.items():
        own = {f.path for f in variant.files}
        every |= own
        require(variant.graph in own, f"variants.{name}.graph", "must be among its files")
        cuda = variant.graph_cuda
        require(cuda is None or cuda in own, f"variants.{name}.graph_cuda", "must be among its files")
        for i, tensor in enumerate(variant.tensors):
            require(tensor.path in own, f"variants.{name}.tensors[{i}].path", "must be among its files")
    check_paths(sorted(every))
