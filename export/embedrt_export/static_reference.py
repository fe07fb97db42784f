"""The reference of static embeddings: the library that saved them, in fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from packaging.version import Version
from tokenizers import Tokenizer

from embedrt.errors import OptionError
from embedrt.pooling import l2_normalize
from embedrt_export.families.static import StaticTable, read_static
from embedrt_export.reference import load_error, quiet_libraries
from embedrt_export.requirements import installed_version
from embedrt_export.source import ModelSource

Vectors = NDArray[np.float32]

MODEL2VEC = Version("0.10")
"""The first version that cuts and skips as it does now: those before count the tokens that they skip in another way."""
_BATCH_TEXTS = 64


@dataclass(frozen=True)
class StaticReference:
    """What a bundle of static embeddings is measured against."""

    table: StaticTable
    pipeline: Any  # sentence_transformers.SentenceTransformer, where that is the library
    notes: tuple[str, ...]
    made_by: dict[str, str]  # distribution -> version, of what gives its vectors
    run: Callable[[list[str]], Vectors]  # texts with their prompts -> (N, D)

    def encode(
        self, texts: Sequence[str], prompt: str = "", advance: Callable[[int], None] = lambda _: None
    ) -> Vectors:
        """Vectors (N, D)."""
        rows: list[Vectors] = []
        for some in _batched([prompt + text for text in texts]):
            rows.append(self.run(some))
            advance(len(some))
        return np.concatenate(rows).astype(np.float32, copy=False)


def load_static(source: ModelSource, *, max_tokens: int | None = None) -> StaticReference:
    """Load the table, and the library whose it is, with a lower limit where one is given.

    Of a directory of model2vec's, where that is not installed or is older than `MODEL2VEC`, the reference is its
    formula in numpy, and a note says so.

    Raises:
        SourceError: a file is missing or damaged, or the library cannot load it.
        UnsupportedModelError: a setting cannot be said in a bundle.
        OptionError: `max_tokens` is out of range.
    """
    table = _limited(read_static(source.path), max_tokens)
    if table.library == "sentence-transformers":
        pipeline = _load_pipeline(source)
        if table.max_tokens is not None:
            pipeline[0].tokenizer.enable_truncation(table.max_tokens)
        made_by = {name: installed_version(name) or "" for name in ("sentence-transformers", "torch")}
        return StaticReference(table, pipeline, source.notes, made_by, _by_pipeline(pipeline))
    version = installed_version("model2vec")
    if version is not None and Version(version) >= MODEL2VEC:
        run = _by_model2vec(source.path, table.max_tokens)
        return StaticReference(table, None, source.notes, {"model2vec": version}, run)
    found = "is not installed" if version is None else f"{version} reads long texts and unknown tokens otherwise"
    note = f"compared with model2vec's formula in numpy: model2vec {found} (pip install 'model2vec>={MODEL2VEC}')"
    return StaticReference(table, None, (*source.notes, note), {}, _by_formula(table))


def _limited(table: StaticTable, asked: int | None) -> StaticTable:
    if asked is None:
        return table
    if asked < 1 or (table.max_tokens is not None and asked > table.max_tokens):
        most = "" if table.max_tokens is None else f" and at most {table.max_tokens}"
        raise OptionError(f"--max-tokens must be at least 1{most} for this model, not {asked}")
    return replace(table, max_tokens=asked)


def _batched(texts: Sequence[str]) -> Iterable[list[str]]:
    return (list(texts[begin : begin + _BATCH_TEXTS]) for begin in range(0, len(texts), _BATCH_TEXTS))


def _load_pipeline(source: ModelSource) -> Any:
    from sentence_transformers import SentenceTransformer

    with quiet_libraries():
        try:
            return SentenceTransformer(str(source.path), device="cpu").float().eval()
        except Exception as exc:  # of many kinds
            raise load_error(source, exc) from exc


def _by_pipeline(pipeline: Any) -> Callable[[list[str]], Vectors]:
    def run(texts: list[str]) -> Vectors:
        found: Vectors = pipeline.encode(texts, prompt="", show_progress_bar=False)  # which the texts have already
        return found

    return run


def _by_model2vec(folder: Path, max_tokens: int | None) -> Callable[[list[str]], Vectors]:
    import model2vec

    model = model2vec.StaticModel.from_pretrained(folder)
    model.embedding = model.embedding.astype(np.float32)
    if model.weights is not None:
        model.weights = model.weights.astype(np.float32)

    def run(texts: list[str]) -> Vectors:
        found: Vectors = model.encode(texts, max_length=max_tokens)
        return found

    return run


def _by_formula(table: StaticTable) -> Callable[[list[str]], Vectors]:
    tokenizer = Tokenizer.from_file(str(table.tokenizer))
    tokenizer.no_padding()
    if table.max_tokens is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(table.max_tokens)
    rows = table.folded()
    each, limit = table.characters_per_token, table.max_tokens
    most = None if each is None or limit is None else each * limit

    def vector(text: str) -> Vectors:
        ids = np.array(tokenizer.encode(text[:most], add_special_tokens=False).ids, np.int64)
        ids = ids[ids != table.skipped_id] if table.skipped_id is not None else ids
        mean: Vectors = rows[ids].mean(axis=0) if len(ids) else rows[-1]
        return l2_normalize(mean) if table.normalize else mean

    return lambda texts: np.stack([vector(text) for text in texts])
