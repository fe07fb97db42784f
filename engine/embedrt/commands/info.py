"""`embedrt info`: what a bundle is, and what would run it here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import embedrt
from embedrt.bundle import Bundle
from embedrt.embedder import Embedder
from embedrt.encoder import Block, EncoderSpec
from embedrt.heads import OUTPUTS
from embedrt.machine import MachineInfo, describe_machine
from embedrt.manifest import Manifest, Pictures, Variant, outputs_of


@dataclass(frozen=True)
class Running:
    """What `Embedder(bundle)`, or the class of what the bundle gives, would be on this machine."""

    variant: str
    executor: str
    executor_reason: str
    threads: int
    onnxruntime: str
    providers: tuple[str, ...]
    identity: dict[str, str]  # kind of call -> identity


def pictures_text(pictures: Pictures) -> str:
    """What is read of a picture, in a line."""
    how, patches, spec = pictures.preprocessing, pictures.encoder.patches, pictures.encoder
    assert patches is not None
    resized = "" if how.shortest_edge is None and how.resized is None else f", resized {how.resample}"
    return (
        f"{how.width} x {how.height} pixels{resized}, in {patches.count} patches; {len(spec.blocks)} layers, "
        f"{spec.hidden_size} wide"
    )


@dataclass(frozen=True)
class BundleInfo:
    """Everything `embedrt info` shows."""

    bundle: Bundle
    running: Running
    machine: MachineInfo
    hashes_checked: bool

    def to_json(self) -> dict[str, Any]:
        """The manifest without its tensor lists, and the rest."""
        manifest = asdict(self.bundle.manifest)
        for variant in (*manifest["variants"].values(), *((manifest["pictures"] or {}).get("variants") or {}).values()):
            del variant["tensors"]
        return {
            "path": str(self.bundle.root),
            "manifest": manifest,
            "running": asdict(self.running),
            "machine": {**asdict(self.machine), "threads": self.machine.threads},
            "hashes_checked": self.hashes_checked,
        }


def describe(bundle: Bundle, *, check_hashes: bool, **engine: Any) -> BundleInfo:
    """Open the model and say what it is; `engine` as Embedder takes it.

    Raises:
        BundleIntegrityError: a file of any variant is not what the manifest says.
        EmbedrtError: the model cannot be loaded here.
    """
    if check_hashes:
        bundle.check_hashes()
    import onnxruntime

    kind = OUTPUTS[outputs_of(bundle.manifest)[0]][1]
    with getattr(embedrt, kind)(bundle, verify_hashes=False, **engine) as model:
        running = Running(
            variant=model.variant,
            executor=model.executor_description,
            executor_reason=model.executor_reason,
            threads=model.num_threads,
            onnxruntime=onnxruntime.__version__,
            providers=tuple(onnxruntime.get_available_providers()),
            identity=_identities(model) if isinstance(model, Embedder) else {"all": model.identity},
        )
    return BundleInfo(bundle, running, describe_machine(), check_hashes)


def variant_size(bundle: Bundle, name: str) -> int:
    """Bytes of a variant with the files that all share."""
    return sum(file.size for file in bundle.files(name))


def parity_text(variant: Variant) -> str:
    """A variant's parity in a few words: least cosines, or of scores Kendall's tau."""
    parity = variant.parity
    dense = [] if parity is None else [f"{parity.cosine_min:.7f}"]
    others = [
        f"{label}{found.figures[figure]:.7f}"
        for name, found in variant.outputs.items()
        for figure, label in (("cosine_min", f"{name} "), ("kendall_apart", ""))
        if figure in found.figures
    ]
    return ", ".join(dense + others) or "not measured"


def gives(manifest: Manifest) -> list[str]:
    """What a bundle gives, each with the class that does."""
    nouns = {name: noun for name, (noun, _) in OUTPUTS.items()}
    if manifest.pictures is not None:
        nouns["pipeline"] = "vectors of texts and pictures"
    return [f"{nouns[name]} ({OUTPUTS[name][1]})" for name in outputs_of(manifest)]


def uses(manifest: Manifest) -> list[str]:
    """What a bundle can be used for, a line per output."""
    lines = []
    for name in outputs_of(manifest):
        kind = OUTPUTS[name][1]
        if name == "pipeline":
            line = "embedrt embed, similarity, search, index, ...; serve: /v1/embeddings, /embed"
        elif manifest.scores is not None and len(manifest.scores.labels) > 1:
            line = "serve: /predict"
        elif name == "scores":
            line = "embedrt rerank; serve: /rerank, /v1/rerank, /v2/rerank, /predict"
        else:
            line = f"embedrt embed; serve: {'/embed_sparse' if name == 'sparse' else '/embed_all'}"
        lines.append(f"{kind}: {line}")
    return [*lines, *(["Model: all from one run, joined scores"] if len(lines) > 1 else [])]


def head_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """What is known of outputs other than one vector per text."""
    rows = []
    if (scores := manifest.scores) is not None:
        template = "" if scores.template is None else ", pairs by the model's own prompt"
        rows.append(("scores", f"{_labels(scores.labels)}, activation {scores.activation}{template}"))
    if (sparse := manifest.sparse) is not None:
        table = "" if sparse.table is None else ", queries by a table of weights"
        rows.append(("sparse", f"{sparse.dimension:,} words, similarity {sparse.similarity}{table}"))
    if (tokens := manifest.tokens) is not None:
        longer = tokens.query.expansion
        more = "" if longer is None else f", queries of {longer.length} with mask tokens"
        rows.append(("tokens", f"{tokens.dimension} dimensions each, similarity {tokens.similarity}{more}"))
    return rows


def _labels(labels: tuple[str, ...]) -> str:
    return "one label" if len(labels) == 1 else f"{len(labels)} labels ({', '.join(labels)})"


def encoder_lines(spec: EncoderSpec) -> list[str]:
    """What the blocks compute: a line for each kind, in order, e.g. "12 x post layer norm, 12 heads of 64, ..."."""
    kinds: dict[str, int] = {}
    for block in spec.blocks:
        text = _block_text(block)
        kinds[text] = kinds.get(text, 0) + 1
    lines = [f"{count} x {text}" for text, count in kinds.items()]
    shared = len(spec.blocks) - len({block.weights for block in spec.blocks})
    return [*lines, f"{shared} blocks have the weights of others"] if shared else lines


def _block_text(block: Block) -> str:
    attention, forward = block.attention, block.feed_forward
    heads = f"{attention.num_heads} heads of {attention.head_size}"
    if attention.num_kv_heads != attention.num_heads:
        heads += f" over {attention.num_kv_heads}"
    parts = [
        f"{block.norms} {block.norm.kind} norm",
        heads,
        *(["causal"] if attention.causal else []),
        *([f"window {attention.window}"] if attention.window is not None else []),
        *([f"rotary {attention.rotary}"] if attention.rotary is not None else []),
        *([f"distance {attention.distance_bias}"] if attention.distance_bias != "none" else []),
        f"{'gated ' if forward.gated else ''}{forward.activation} {forward.size:,}",
    ]
    return ", ".join(parts)


def _identities(embedder: Embedder) -> dict[str, str]:
    """Identities per kind of call; those that need a task that the bundle lacks are left out."""
    from embedrt.errors import OptionError

    found = {}
    for kind in ("encode", "query", "document"):
        try:
            found[kind] = embedder.identify(kind=kind)
        except OptionError:
            continue
    return found
