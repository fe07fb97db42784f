"""Vectors that are there already: those of an earlier index, and those that `embedrt embed` wrote."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.reading.parquet import import_pyarrow
from embedrt.commands.source import TextSource
from embedrt.errors import FileFormatError, IdentityError
from embedrt.vectors.keys import Keys, keys_in, table_of

_BATCH_ROWS = 8192


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
    keys: Keys | None  # of the texts, where --with-text kept them


def vectors_of_embed(path: Path, corpus: TextSource, identity: str, scratch: Path) -> Known:
    """The vectors in an output of `embedrt embed`, as far as they are of the corpus' model and texts.

    Which text a vector is of is known where the output keeps the texts, or where it was made of this very corpus.
    The vectors are mapped, those of a Parquet file from a copy in the folder `scratch`.

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
        output = _READERS[path.suffix.lower()](path, scratch)
    except (OSError, ValueError, KeyError, EOFError) as exc:
        raise FileFormatError(f"{path} is no whole output of 'embedrt embed': {exc}") from exc
    if output.keys is not None:
        return Known(output.keys, output.vectors)
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


def _read_npy(path: Path, scratch: Path) -> _Output:
    del scratch
    vectors = np.load(path, mmap_mode="r")
    kept = path.with_name(path.name + ".rows.npy")  # of a run that skipped records
    return _checked(np.load(kept) if kept.exists() else np.arange(len(vectors)), vectors, None)


def _read_parquet(path: Path, scratch: Path) -> _Output:
    """The vectors are decoded into a file without a name in `scratch`, and mapped; a batch of them is in memory."""
    pa, pq = import_pyarrow()
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in ("row", "embedding", "text") if name in file.schema_arrow.names]
            width, count = file.schema_arrow.field("embedding").type.list_size, file.metadata.num_rows
            rows, vectors, keys, done = np.empty(count, np.int64), _mapped(count, width, scratch), bytearray(), 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                part = slice(done, done := done + batch.num_rows)
                rows[part] = np.asarray(batch.column("row"))
                vectors[part] = _floats(batch.column("embedding").flatten()).reshape(-1, width)
                if "text" in names:
                    keys += table_of(batch.column("text").to_pylist()).data
    except (pa.ArrowException, OSError) as exc:
        raise FileFormatError(f"{path} cannot be read as parquet: {exc}") from exc
    return _checked(rows, vectors, keys_in(keys) if "text" in names else None)


def _mapped(count: int, width: int, folder: Path) -> NDArray[np.float32]:
    """An array (count, width) of zeros on the disk, which goes with the last reference to it."""
    if not count * width:
        return np.zeros((count, width), np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float32, "w+", shape=(count, width))


def _floats(values: Any) -> NDArray[np.float32]:
    found = np.asarray(values)
    if found.dtype != np.float32:
        raise ValueError(f"vectors of {found.dtype}")
    return found


def _checked(rows: NDArray[np.int64], vectors: NDArray[np.float32], keys: Keys | None) -> _Output:
    if vectors.ndim != 2 or vectors.dtype != np.float32 or len(rows) != len(vectors):
        raise ValueError(f"{len(rows)} rows, and vectors {vectors.shape} of {vectors.dtype}")
    return _Output(rows, vectors, keys)


_READERS = {".npy": _read_npy, ".parquet": _read_parquet}
