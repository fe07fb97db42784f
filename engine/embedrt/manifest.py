"""What manifest.json says: small frozen values, and the questions that are asked of them.

Format 1 has no `encoder`; it is that of the families whose graphs the exporter fuses, and is still written for them.
Format 2 says what the encoder computes, see `embedrt.encoder`. Format 3 has a head beside or in place of `pipeline`,
the head of dense vectors: see `embedrt.heads`; or a tower for `pictures`. It may have an `encoder` or not. Format 4 has
an encoder without blocks, a table of token vectors, and says by `table` how texts are read for it.

`embedrt.manifest_json` reads and writes it, `embedrt.bundle` has the files beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from embedrt.encoder import EncoderSpec
from embedrt.errors import OptionError
from embedrt.heads import OUTPUTS, Pipeline, ScoreHead, SparseHead, Stage, TokenHead
from embedrt.pictures.preprocessing import Preprocessing
from embedrt.text_rules import TableRules, TextRules

VARIANT_NAMES = ("fp32", "fp16", "int8")
BF16, BF16_SOURCES = "bf16", ("fp32", "fp16")
"""BF16 is a variant without files: the weights of the first of BF16_SOURCES that the bundle has, rounded to bfloat16 as
the native executor loads them."""


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
