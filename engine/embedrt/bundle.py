"""The bundle contract: what export writes and the engine reads.

A bundle is a directory that is complete without network::

    manifest.json                 everything below, with sizes and sha256 of every file
    tokenizer.json
    pipeline/dense_1.npz          heads of the sentence-transformers pipeline, if there are any
    parity/texts.json, vectors.npy, report.json, report.html
    fp32/model.onnx + weights.bin     weights as external data, page-aligned
    fp16/model.onnx, model_cuda.onnx + weights.bin
    int8/model.onnx + weights.bin
    pictures/fp32/..., parity/pictures/000.png, ..., pictures.npy     of the tower for pictures, if there is one

Format 1 has no `encoder`; it is that of the families whose graphs the exporter fuses, and is still written for them.
Format 2 says what the encoder computes, see `embedrt.encoder`. Format 3 has a head beside or in place of `pipeline`,
the head of dense vectors: see `embedrt.heads`; or a tower for `pictures`. It may have an `encoder` or not. Format 4 has
an encoder without blocks, a table of token vectors, and says by `table` how texts are read for it.

The manifest is strict both ways: a missing field, an unknown field or a wrong type is a BundleFormatError that
names the place.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import sys
from dataclasses import asdict, dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any

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
from embedrt.encoder import EncoderSpec
from embedrt.errors import BundleFormatError, BundleIntegrityError, BundleNotFoundError, OptionError
from embedrt.heads import ATTENTION, OUTPUTS, SIMILARITY_NAMES, Pipeline, ScoreHead, SparseHead, Stage, TokenHead
from embedrt.pictures.preprocessing import Preprocessing
from embedrt.text_rules import TableRules, TextRules

FORMAT_VERSION = 4  # the newest that is read
MANIFEST_NAME = "manifest.json"
PARITY_TEXTS = "parity/texts.json"  # list of strings
PARITY_VECTORS = "parity/vectors.npy"  # float32 (N, D), the reference's vectors of those texts
VARIANT_NAMES = ("fp32", "fp16", "int8")
BF16, BF16_SOURCES = "bf16", ("fp32", "fp16")
"""BF16 is a variant without files: the weights of the first of BF16_SOURCES that the bundle has, rounded to bfloat16 as
the native executor loads them."""
_ON_LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class BundleFile:
    """One file of the bundle; `path` is relative to its root, with forward slashes."""

    path: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Source:
    """Where the model came from."""

    model: str  # hub id, or the name of the local directory
    revision: str | None
    sha256: str  # over the weight files, in the order of their names


@dataclass(frozen=True)
class Architecture:
    """The encoder's numbers, as its config.json gives them."""

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    type_vocab_size: int
    activation: str
    layer_norm_eps: float
    pad_token_id: int


@dataclass(frozen=True)
class Prompts:
    """Texts put before an input. A query prompt may hold `{task}`, filled by encode_query(task=...)."""

    texts: dict[str, str]  # name -> prompt
    default_name: str | None  # used by encode() when no prompt is asked for
    default_task: str | None  # fills {task} when no task is given
    source: str  # where the prompts come from: "model", "embedrt table: ...", "--prompts file"


@dataclass(frozen=True)
class TensorEntry:
    """Where one weight lies in a variant's external data, so that a reader needs no protobuf."""

    name: str
    dtype: str  # numpy name: float32, float16, int8, uint8, int64, ...
    shape: tuple[int, ...]
    path: str
    offset: int  # bytes from the file's start
    size: int  # bytes


@dataclass(frozen=True)
class ParitySummary:
    """A variant against the PyTorch reference in fp32, over the parity texts of the bundle."""

    num_texts: int
    cosine_mean: float
    cosine_p01: float
    cosine_min: float
    centered_min: float
    max_abs_diff: float
    spearman: float
    top10_overlap: float
    passed: bool


@dataclass(frozen=True)
class OutputParity:
    """A variant's output of another kind than dense vectors against the PyTorch reference in fp32."""

    num_inputs: int  # texts, pairs or pictures
    figures: dict[str, float]  # by name, as the report calls them
    passed: bool


@dataclass(frozen=True)
class Variant:
    """One precision of the encoder."""

    graph: str  # ONNX file for CPUs (and for anything without a special graph)
    graph_cuda: str | None  # ONNX file for CUDA where it differs
    inputs: tuple[str, ...]  # the graph's inputs, in order
    output: str  # name of the (B, S, H) hidden states
    fused: dict[str, int]  # operator -> count in the fused graph, before what the recipe's "on_cpu" says is rewritten
    recipe: dict[str, Any]  # how it was made: quantization settings, products kept wide, ...
    files: tuple[BundleFile, ...]
    tensors: tuple[TensorEntry, ...]
    parity: ParitySummary | None  # of dense vectors
    outputs: dict[str, OutputParity] = field(default_factory=dict)  # of others, by their name in `heads.OUTPUTS`


@dataclass(frozen=True)
class Pictures:
    """A second encoder, of pictures, whose vectors are compared with the texts'; see `picture_tower`."""

    preprocessing: Preprocessing
    texts: TextRules | None  # of the texts beside them
    architecture: Architecture
    encoder: EncoderSpec  # with patches
    pipeline: Pipeline
    variants: dict[str, Variant]  # those of the texts' names


@dataclass(frozen=True)
class Manifest:
    """manifest.json."""

    format_version: int
    name: str
    created: str  # ISO 8601, UTC
    source: Source
    architecture: Architecture
    max_tokens: int  # special tokens included
    tokenizer: str  # path of tokenizer.json; lower-casing, where the pipeline asks for it, is in its normalizer
    pipeline: Pipeline | None  # of dense vectors
    prompts: Prompts
    similarity: str  # one of SIMILARITY_NAMES
    variants: dict[str, Variant]
    files: tuple[BundleFile, ...]  # everything but the variants' files and this manifest
    tools: dict[str, str]  # package -> version used at export
    notes: tuple[str, ...] = field(default=())  # what a user should know: unfused graph, assumed pooling, ...
    encoder: EncoderSpec | None = None  # what the graphs compute, where a spec says it; none in format 1
    scores: ScoreHead | None = None
    pictures: Pictures | None = None
    sparse: SparseHead | None = None
    tokens: TokenHead | None = None
    table: TableRules | None = None  # of an encoder without blocks
    code_width: float | None = None  # of integer vectors (`embedrt.precision.code_ranges`); none before format 4


def find_variant(manifest: Manifest, name: str) -> Variant:
    """The variant called `name`; BF16 is its source without the parity. OptionError lists those there are."""
    source = next((one for one in BF16_SOURCES if one in manifest.variants), None)
    if name == BF16 and source is not None:
        return replace(manifest.variants[source], parity=None)
    try:
        return manifest.variants[name]
    except KeyError:
        have = ", ".join(manifest.variants)
        raise OptionError(f"variant {name!r} is not in this bundle; it has: {have}") from None


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its directory and its manifest."""

    root: Path
    manifest: Manifest

    def path(self, relative: str) -> Path:
        """The absolute path of a file that the manifest names."""
        return self.root / relative

    @property
    def pictures(self) -> Bundle | None:
        """The tower of pictures as a bundle of its own in the same directory; None where there is none."""
        tower = picture_tower(self.manifest)
        return None if tower is None else Bundle(self.root, tower)

    def variant(self, name: str) -> Variant:
        """The variant called `name`; OptionError lists those there are."""
        return find_variant(self.manifest, name)

    def files(self, variant: str | None = None) -> tuple[BundleFile, ...]:
        """The shared files, and those of one variant, or of all when `variant` is None."""
        names = self.manifest.variants if variant is None else (variant,)
        own = tuple(f for name in names for f in self.variant(name).files)
        pictures = picture_tower(self.manifest)
        others = () if pictures is None else tuple(f for name in names for f in find_variant(pictures, name).files)
        return self.manifest.files + own + others

    def check_sizes(self, variant: str | None = None) -> None:
        """Raise BundleIntegrityError if a file is missing or has another size."""
        for entry in self.files(variant):
            path = self.path(entry.path)
            if not path.is_file():
                raise BundleIntegrityError(f"{self.root}: {entry.path} is missing; copy or export the bundle again")
            size = path.stat().st_size
            if size != entry.size:
                raise BundleIntegrityError(
                    f"{self.root}: {entry.path} has {size} bytes, the manifest says {entry.size}; "
                    "the copy is incomplete, copy or export the bundle again"
                )

    def check_hashes(self, variant: str | None = None) -> None:
        """Raise BundleIntegrityError if a file's sha256 is not the manifest's. Reads every byte.

        The largest file comes first: what loads beside this may hold the GIL for long, and a file that has been begun
        does not need it.
        """
        for entry in sorted(self.files(variant), key=lambda file: -file.size):
            try:
                digest = sha256_of(self.path(entry.path))
            except OSError as exc:
                raise BundleIntegrityError(f"{self.root}: {entry.path} cannot be read: {exc.strerror or exc}") from exc
            if digest != entry.sha256:
                raise BundleIntegrityError(
                    f"{self.root}: {entry.path} does not match its sha256 in the manifest; "
                    "it was changed or damaged, copy or export the bundle again"
                )


def read_bundle(root: str | Path) -> Bundle:
    """Read the manifest of the bundle at `root` and check that its files are there in full size.

    Raises:
        BundleNotFoundError: there is no manifest.json.
        BundleFormatError: the manifest is not valid, or newer than this version reads.
        BundleIntegrityError: a file is missing or has another size.
    """
    root = Path(root)
    path = root / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleNotFoundError(_why_no_bundle(root)) from None
    except NotADirectoryError:
        raise BundleNotFoundError(f"{root} is a file; a bundle is a directory with a {MANIFEST_NAME}") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise BundleFormatError(f"{path} cannot be read: {exc}") from exc
    bundle = Bundle(root.absolute(), parse_manifest(text, str(path)))
    bundle.check_sizes()
    return bundle


def _why_no_bundle(root: Path) -> str:
    if (root / "config.json").is_file():
        return f"{root} is a model, not a bundle; make one of it with 'embedrt export {root} BUNDLE'"
    if root.exists():
        return f"{root} is not a bundle: there is no {MANIFEST_NAME} in it"
    return f"{root} is not there; 'embedrt export MODEL {root}' makes a bundle"


def parse_manifest(text: str, where: str = MANIFEST_NAME) -> Manifest:
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


def format_for(manifest: Manifest) -> int:
    """The oldest format that can say this manifest."""
    if manifest.table is not None or manifest.code_width is not None:
        return 4
    if outputs_of(manifest) != ("pipeline",) or manifest.pictures is not None:
        return 3
    return 1 if manifest.encoder is None else 2


def picture_tower(manifest: Manifest) -> Manifest | None:
    """The manifest of the encoder of pictures alone: its rows are the tokens, and its tokenizer is not read."""
    pictures = manifest.pictures
    if pictures is None:
        return None
    return replace(
        manifest,
        format_version=2,
        architecture=pictures.architecture,
        max_tokens=pictures.encoder.max_tokens or 1,
        pipeline=pictures.pipeline,
        variants=pictures.variants,
        encoder=pictures.encoder,
        scores=None,
        pictures=None,
        code_width=None,
    )


def outputs_of(manifest: Manifest) -> tuple[str, ...]:
    """Which of `heads.OUTPUTS` the bundle gives."""
    return tuple(name for name in OUTPUTS if getattr(manifest, name) is not None)


def check_gives(manifest: Manifest, output: str) -> None:
    """Refuse a bundle that does not give `output`, one of `heads.OUTPUTS`.

    Raises:
        OptionError: with the class that opens it.
    """
    if output not in (given := outputs_of(manifest)):
        has = " and ".join(OUTPUTS[name][0] for name in given)
        classes = " or ".join(f"embedrt.{OUTPUTS[name][1]}" for name in given)
        raise OptionError(f"{manifest.name} gives {has}, not {OUTPUTS[output][0]}: open it with {classes}")


def pipeline_of(manifest: Manifest) -> Pipeline:
    """What makes dense vectors.

    Raises:
        OptionError: the bundle gives others; the message has the class that opens it.
    """
    check_gives(manifest, "pipeline")
    assert manifest.pipeline is not None
    return manifest.pipeline


def stages_of(manifest: Manifest) -> dict[str, tuple[Stage, ...]]:
    """The stages of every head that has some, by the head's name in the manifest."""
    heads = {name: getattr(manifest, name) for name in OUTPUTS}
    return {name: head.stages for name, head in heads.items() if hasattr(head, "stages")}


def describe_file(root: Path, relative: str) -> BundleFile:
    """Size and sha256 of a file, for the manifest."""
    path = root / relative
    return BundleFile(relative, path.stat().st_size, sha256_of(path))


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes, all in one step that does not hold the GIL.

    Raises:
        OSError: it cannot be read to its end.
    """
    with path.open("rb", buffering=0) as stream:
        if os.fstat(stream.fileno()).st_size == 0:  # cannot be mapped
            return hashlib.sha256().hexdigest()
        _read_through(stream)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            return hashlib.sha256(whole).hexdigest()


def _read_through(stream: FileIO) -> None:
    """Bring the whole file into memory once: a disk that fails is an OSError here, and the end of the process where the
    file is mapped. Linux does it in 0.06 s per gigabyte, and copies nothing."""
    size, at = os.fstat(stream.fileno()).st_size, 0
    if _ON_LINUX:
        with Path(os.devnull).open("wb") as nowhere:
            while at < size and (count := os.sendfile(nowhere.fileno(), stream.fileno(), at, size - at)):
                at += count
        return
    buffer = bytearray(1 << 20)
    while stream.readinto(buffer):
        pass


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
