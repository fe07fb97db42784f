"""The reference: sentence-transformers in PyTorch, forced to fp32. What every variant is measured against."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import ExportError, OptionError, SourceError, UnsupportedModelError
from embedrt.heads import POOLING_MODES
from embedrt_export import links, lora, own_code
from embedrt_export.checkpoint import check_complete, tensor_names
from embedrt_export.families import own_code_of
from embedrt_export.families.towers import find_towers
from embedrt_export.kinds import untrusted_code_error
from embedrt_export.lanes import in_lanes
from embedrt_export.prompts import Family, find_family
from embedrt_export.requirements import find_outdated, installed_version
from embedrt_export.source import ModelSource, encoder_folder, read_modules, resolve
from embedrt_export.tokenizer_file import settle_tokenizer

# Their position ids begin at pad_token_id + 1, and those below are never used.
_OFFSET_POSITIONS = (
    "roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text", "ibert",
    "esm",
)  # fmt: skip
_BATCH_TEXTS = 16
_LOADERS = {"vectors": "SentenceTransformer", "sparse": "SparseEncoder", "tokens": "MultiVectorEncoder"}


@dataclass(frozen=True)
class Reference:
    """A loaded pipeline."""

    model: Any  # sentence_transformers.SentenceTransformer, fp32, on the CPU, in eval mode
    source: ModelSource
    family: Family | None
    max_tokens: int
    notes: tuple[str, ...]
    adapter: lora.Applied | None = None

    def merge(self) -> None:
        """Put an adapter into the encoder's weights, once its vectors are known."""
        if self.adapter is not None:
            self.adapter.merge()

    def encode(
        self, texts: Sequence[str], prompt: str = "", advance: Callable[[int], None] = lambda _: None
    ) -> NDArray[np.float32]:
        """Vectors (N, D); only texts of equal length share a batch, so that no padding touches any.

        Each batch is one thread's, so that the vectors' bits do not depend on how many threads there are.
        """
        rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(texts)
        groups = self.equal_lengths([prompt + text for text in texts])

        def encode(group: list[int]) -> NDArray[np.float32]:
            batch = [texts[i] for i in group]
            found: NDArray[np.float32] = self.model.encode(
                batch, prompt=prompt, batch_size=len(batch), show_progress_bar=False
            )
            return found

        # The first alone: it sets how the tokenizer pads and cuts, which must not change while another thread uses it.
        for part in (groups[:1], groups[1:]):
            done = in_lanes(encode, part, one_at_a_time=self.runs_own_code)
            for group, vectors in zip(part, done, strict=True):
                for i, vector in zip(group, vectors, strict=True):
                    rows[i] = vector
                advance(len(group))
        return np.stack(rows).astype(np.float32, copy=False)

    @property
    def runs_own_code(self) -> bool:
        """Whether the class lies beside the weights, and may keep what another thread would change."""
        return self.source.trusted and own_code_of(self.source.config) is not None

    def equal_lengths(self, texts: Sequence[str]) -> list[list[int]]:
        """Positions of texts with as many tokens as each other, at most `_BATCH_TEXTS` together."""
        ids = transformer_of(self.model).tokenizer(list(texts), truncation=True, max_length=self.max_tokens)[
            "input_ids"
        ]
        by_length: dict[int, list[int]] = {}
        for i, row in enumerate(ids):
            by_length.setdefault(len(row), []).append(i)
        return [
            places[k : k + _BATCH_TEXTS] for places in by_length.values() for k in range(0, len(places), _BATCH_TEXTS)
        ]


def load_reference(
    source: ModelSource, *, pooling: str | None = None, max_tokens: int | None = None, name: str | None = None
) -> Reference:
    """Load the model in fp32 with the pooling and the limit that the bundle will have.

    `name` is what the caller calls the model; families are known by it before any name that its files say.

    Raises:
        UnsupportedModelError: the model needs code or a version that is not there, or has no pooling to replace.
        OptionError: `pooling` is needed, unknown, or does not fit; `max_tokens` is out of range.
        SourceError: the checkpoint is not the encoder's, or sentence-transformers cannot load it.
    """
    stored = tensor_names(source.checkpoint)
    family = find_family(name or "", source.name, source.base_name, str(source.config.get("_name_or_path", "")))
    notes = [*source.notes, *filter(None, (own_code.describe(source),))]
    with quiet_libraries(), _directory(source) as path:
        try:
            if source.is_pipeline or source.output != "vectors":
                model = _load_pipeline(path, source)
            else:
                model = _load_plain(path, source, pooling, family, notes)
            notes += settle_tokenizer(transformer_of(model).tokenizer)
        except (OptionError, UnsupportedModelError):
            raise
        except Exception as exc:  # transformers raises many kinds
            raise load_error(source, exc) from exc
    if source.is_pipeline and pooling is not None:
        if source.output != "vectors":
            raise OptionError(f"--pooling goes with models of one vector per text; {source.name} gives others")
        _replace_pooling(model, pooling, notes)
    transformer = transformer_of(model)
    check_complete(source.name, transformer.model, stored)
    _give_pad_token(transformer, source, notes)
    model = model.float().eval()
    limit = limit_of(transformer, source, max_tokens)
    transformer.max_seq_length = limit
    applied = None
    if source.adapter is not None:
        applied, note = lora.apply(source.adapter, transformer.model)
        notes.append(note)
    return Reference(model, source, family, limit, tuple(notes), applied)


def reference_vectors(
    model: str | Path,
    texts: Sequence[str],
    *,
    pooling: str | None = None,
    max_tokens: int | None = None,
    prompt: str = "",
    trust_remote_code: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """The reference's vectors (N, D) of any texts, for `embedrt verify --against MODEL`."""
    source = resolve(model, trust_remote_code=trust_remote_code)
    if source.is_static:
        from embedrt_export.static_reference import load_static  # which works with this module

        return load_static(source, max_tokens=max_tokens).encode(texts, prompt, advance)
    if find_towers(source.config) is not None:
        from embedrt_export.tower_source import load_towers  # which works with this module

        return load_towers(source, max_tokens=max_tokens).encode(texts, prompt, advance)
    return load_reference(source, pooling=pooling, max_tokens=max_tokens).encode(texts, prompt, advance)


def load_error(source: ModelSource, exc: Exception) -> ExportError:
    """What loading ended with; transformers' advice to run a model's own code is said as embedrt takes it."""
    text = str(exc)
    if "trust_remote_code" in text and not source.trusted:
        return untrusted_code_error(source.name, own_code_of(source.config))
    outdated = find_outdated(source.saved_by, installed_version)
    newer = ", ".join(f"{m.name} {m.wanted.removeprefix('>=')} (installed: {m.installed})" for m in outdated)
    cure = f"; it was saved by {newer}: pip install --upgrade {' '.join(m.name for m in outdated)}" if outdated else ""
    return SourceError(f"{source.name} cannot be loaded by sentence-transformers: {text}{cure}")


def _give_pad_token(model: Any, source: ModelSource, notes: list[str]) -> None:
    """A tokenizer without padding gets the config's pad id, else the first id: padding is masked, so any will do."""
    tokenizer = model.tokenizer
    if tokenizer is not None and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(int(source.config.get("pad_token_id") or 0))
        notes.append(f"the tokenizer has no padding token; {tokenizer.pad_token!r} pads, which changes no vector")


def transformer_of(model: Any) -> Any:
    """The Transformer module of a loaded pipeline; behind a router, that of documents."""
    first = model[0]
    return first.sub_modules["document"][0] if hasattr(first, "sub_modules") else first


def tokenizer_of(model: Any) -> Any:
    """The tokenizer of a loaded pipeline, or of what stands for one."""
    return transformer_of(model).tokenizer if hasattr(model, "__getitem__") else model.tokenizer


@contextlib.contextmanager
def _directory(source: ModelSource) -> Iterator[Path]:
    """What sentence-transformers loads: the model's directory, or one with a formula for code that must not run."""
    if own_code.uses_formula(source):
        with own_code.with_formula(source) as path:
            yield path
    elif source.base is not None:
        with links.joined(source.path, source.base, encoder_folder(source.path, read_modules(source.path))) as path:
            yield path
    else:
        with own_code.unregistered():
            yield source.path


def _load_pipeline(path: Path, source: ModelSource) -> Any:
    import sentence_transformers

    loader = getattr(sentence_transformers, _LOADERS[source.output], None)
    if loader is None:
        raise UnsupportedModelError(
            f"{source.name} needs sentence-transformers' {_LOADERS[source.output]}, which version "
            f"{sentence_transformers.__version__} has not: pip install -U sentence-transformers"
        )
    return loader(str(path), device="cpu", model_kwargs=float32_option(), trust_remote_code=source.trusted)


def float32_option() -> dict[str, Any]:
    """The option of from_pretrained, whose name is another since 4.56."""
    import transformers
    from packaging.version import Version

    renamed = Version(transformers.__version__) >= Version("4.56")
    return {"dtype" if renamed else "torch_dtype": "float32"}


def _load_plain(path: Path, source: ModelSource, pooling: str | None, family: Family | None, notes: list[str]) -> Any:
    """A transformers directory has no pooling: the caller's, or the one its family documents."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    if pooling is None:
        if family is None or family.pooling is None:
            raise OptionError(
                f"{source.name} is a plain transformers model and does not say how to pool; "
                "give --pooling cls, mean, ... as its card or its authors say"
            )
        pooling = family.pooling
        notes.append(f"pooling {pooling} assumed: the model's files do not say, {family.source} does")
    trusting = {"trust_remote_code": source.trusted}
    encoder = Transformer(str(path), model_kwargs=float32_option() | trusting, config_kwargs=dict(trusting))
    modules = [encoder, Pooling(encoder.get_embedding_dimension(), pooling_mode=_split(pooling))]
    if family is not None and family.normalize:
        modules.append(Normalize())
    else:
        notes.append("not normalized: a plain transformers model; encode(normalize_embeddings=True) normalizes")
    return SentenceTransformer(modules=modules, device="cpu")


def _replace_pooling(model: Any, pooling: str, notes: list[str]) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    for index, module in enumerate(model):
        if isinstance(module, Pooling):
            old = module.pooling_mode
            width = module.embedding_dimension
            model[index] = Pooling(width, pooling_mode=_split(pooling), include_prompt=module.include_prompt)
            if model[index].pooling_output_dimension != module.pooling_output_dimension and len(model) > index + 1:
                following = type(model[index + 1]).__name__
                if following == "Dense":
                    raise OptionError(f"--pooling {pooling} gives another width than the model's Dense module takes")
            notes.append(
                f"pooling {pooling} by request; the model's own is {old if isinstance(old, str) else '+'.join(old)}"
            )
            return
    raise UnsupportedModelError("modules.json names no Pooling module, so --pooling has nothing to replace")


def _split(pooling: str) -> tuple[str, ...]:
    modes = tuple(pooling.split("+"))
    for mode in modes:
        if mode not in POOLING_MODES:
            raise OptionError(f"--pooling must be of {', '.join(POOLING_MODES)} (several joined by '+'), not {mode!r}")
    return modes


def limit_of(model: Any, source: ModelSource, asked: int | None) -> int:
    """Tokens that a text may have: what was asked for, else the pipeline's limit, never more than there are positions.

    RoBERTa and its kin count positions from pad_token_id + 1, so XLM-R's 514 positions hold 512 tokens.
    """
    config = source.config
    positions = config.get("max_position_embeddings")
    if positions is not None and str(config.get("model_type")) in _OFFSET_POSITIONS:
        positions = int(positions) - int(config.get("pad_token_id", 1)) - 1
    own = model.max_seq_length
    most = min((int(n) for n in (positions, own) if n is not None), default=512)
    if positions is not None and asked is not None:
        most = int(positions)
    if asked is None:
        return most
    if not 3 <= asked <= most:
        raise OptionError(f"--max-tokens must be between 3 and {most} for this model, not {asked}")
    return asked


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Libraries' chatter and bars off while loading; errors still come as exceptions."""
    from transformers.utils import logging as chatter  # its import sets the level of its own logger

    bars = chatter.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    if bars:
        chatter.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            chatter.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
