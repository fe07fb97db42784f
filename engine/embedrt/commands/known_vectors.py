"""Vectors that are there already: those of an earlier index, and those that `embedrt embed` wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.reading.parquet import import_pyarrow
from embedrt.commands.source import TextSource
from embedrt.errors import FileFormatError, IdentityError
from embedrt.vectors.keys import Keys, table_of


@dataclass(frozen=True)
class Known:
    """Vectors, and which text each is of."""

    keys: Keys  # (N, KEY_BYTES)
    vectors: NDArray[np.float32]  # (N, D), may be mapped from a file


@dataclass(frozen=True)
class _Output:
    """What an output of `embed` holds."""

    rows: NDArray[np.int64]  # (N,) the record that each vector is of
    vectors: NDArray[np.float32]  # (N, D)
    texts: list[str] | None  # where --with-text kept them


def vectors_of_embed(path: Path, corpus: TextSource, identity: str) -> Known:
    """The vectors in an output of `embedrt embed`, as far as they are of the corpus' model and texts.

    Which text a vector is of is known where the output keeps the texts, or where it was made of this very corpus.

    Raises:
        FileFormatError: it is no whole output of `embed`; or its texts are not known.
        IdentityError: it was made by another model, variant, prompt or form of vectors.
    """
    meta = _meta_of(path)
    if meta["identity"] != identity:
        made = meta.get("options", {})
        raise IdentityError(
            f"{path} holds vectors of identity {meta['identity']}, here {identity} is needed: 'embedrt embed' with "
            f"the same bundle, variant and prompts (with --document for a search), and no other form of vectors makes "
            f"them (this one: variant {meta.get('variant')}, {made.get('kind')} texts, {made.get('precision')})"
        )
    if path.suffix.lower() not in _READERS:
        raise FileFormatError(f"{path}: vectors are taken out of {', '.join(_READERS)}")
    try:
        output = _READERS[path.suffix.lower()](path)
    except (OSError, ValueError, KeyError, EOFError) as exc:
        raise FileFormatError(f"{path} is no whole output of 'embedrt embed': {exc}") from exc
    if output.texts is not None:
        return Known(table_of(output.texts), output.vectors)
    return Known(_keys_at(output.rows, path, meta, corpus), output.vectors)


def _meta_of(path: Path) -> dict[str, Any]:
    beside = path.with_name(path.name + ".meta.json")
    try:
        meta = json.loads(beside.read_text(encoding="utf-8"))
        if isinstance(meta, dict) and {"identity", "key"} <= meta.keys() and path.exists():
            return meta
    except (OSError, ValueError) as exc:
        raise FileFormatError(f"{beside}: {exc}; vectors are taken from an output of 'embedrt embed'") from exc
    raise FileFormatError(f"{path} is no whole output of 'embedrt embed'")


def _keys_at(rows: NDArray[np.int64], path: Path, meta: dict[str, Any], corpus: TextSource) -> Keys:
    """The keys of the corpus' texts in the rows that the vectors are of."""
    found, made = corpus.fingerprint(), meta["key"]["input"]
    same = found is not None and made.get("sha256") == found.sha256
    if not same or any(made.get(name) != value for name, value in corpus.reading.items()):
        raise FileFormatError(
            f"{path} was made of another file, or of other columns of it, than {corpus.name}, and keeps no texts "
            "(--with-text, in .parquet) to know its vectors by"
        )
    keys = table_of(record.text or "" for record in corpus.records())
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(keys):
        raise FileFormatError(f"{path} has vectors of other rows than the {len(keys):,} of {corpus.name}")
    return keys[rows]


def _read_npy(path: Path) -> _Output:
    vectors = np.load(path, mmap_mode="r")
    kept = path.with_name(path.name + ".rows.npy")  # of a run that skipped records
    return _checked(np.load(kept) if kept.exists() else np.arange(len(vectors)), vectors, None)


def _read_parquet(path: Path) -> _Output:
    pa, pq = import_pyarrow()
    try:
        file = pq.ParquetFile(path)
        has_texts = "text" in file.schema_arrow.names
        batches = list(file.iter_batches(columns=["row", "embedding", *(["text"] if has_texts else [])]))
    except (pa.ArrowException, OSError) as exc:
        raise FileFormatError(f"{path} cannot be read as parquet: {exc}") from exc
    width = file.schema_arrow.field("embedding").type.list_size
    pieces = [np.asarray(batch.column("embedding").flatten()).reshape(-1, width) for batch in batches]
    rows = [np.asarray(batch.column("row")) for batch in batches]
    texts = [text for batch in batches for text in batch.column("text").to_pylist()] if has_texts else None
    return _checked(
        np.concatenate([np.zeros(0, np.int64), *rows]),
        np.concatenate([np.zeros((0, width), np.float32), *pieces]),
        texts,
    )


def _checked(rows: NDArray[np.int64], vectors: NDArray[np.float32], texts: list[str] | None) -> _Output:
    if vectors.ndim != 2 or vectors.dtype != np.float32 or len(rows) != len(vectors):
        raise ValueError(f"{len(rows)} rows, and vectors {vectors.shape} of {vectors.dtype}")
    return _Output(rows, vectors, texts)


_READERS = {".npy": _read_npy, ".parquet": _read_parquet}
