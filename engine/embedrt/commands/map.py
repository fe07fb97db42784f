"""`embedrt map`: the texts of a file in the plane, near ones near each other."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.commands.cluster import WORD_TEXTS
from embedrt.commands.clusters import Clusters, How, check, find_clusters
from embedrt.commands.kept import json_object, label_of
from embedrt.commands.keywords import key_words
from embedrt.commands.reading.records import Record
from embedrt.commands.source import TextSource
from embedrt.commands.tables import Row, rounded, write_table
from embedrt.errors import DependencyError, FileFormatError
from embedrt.pooling import l2_normalize
from embedrt.progress import Progress
from embedrt.vectors.rows import Floats

COLUMNS = {"row": int, "line": int, "x": float, "y": float, "group": str, "text": str}
MOST_POINTS = 50_000  # more texts make a page that browsers are slow to open
_MOST_GROUPS = 20  # colours that can still be told apart, nearly
_LEAST_FOR_UMAP = 10  # texts
_NAME_WORDS = 3  # key words that a cluster is called by
_NEIGHBOURS = 15  # UMAP's own default
OTHERS = "others"


@dataclass(frozen=True)
class Plane:
    """Where points lie."""

    points: Floats  # (N, 2), the larger extent from -1 to 1
    told: str  # how they came there, in words


@dataclass(frozen=True)
class Groups:
    """What points are coloured by."""

    of_rows: NDArray[np.int64]  # (N,) index into names
    names: tuple[str, ...]
    told: str  # what the colours mean, in words


@dataclass(frozen=True)
class Map:
    """Points with their texts and colours."""

    title: str
    plane: Plane
    records: tuple[Record, ...]  # (N,)
    groups: Groups
    identity: str

    def to_json(self) -> dict[str, Any]:
        """What the page is drawn from; coordinates in ten thousandths."""
        places = np.rint(self.plane.points * 10_000).astype(int)
        texts: list[Any] = [record.text for record in self.records]
        kept = [json_object(record.kept) for record in self.records] if any(r.kept for r in self.records) else []
        return {
            "title": self.title, "method": self.plane.told, "colours": self.groups.told, "identity": self.identity,
            "x": places[:, 0].tolist(), "y": places[:, 1].tolist(), "group": self.groups.of_rows.tolist(),
            "names": list(self.groups.names), "text": texts, "kept": kept,
            "line": [record.line for record in self.records],
        }  # fmt: skip


def sampled_rows(num_rows: int, seed: int) -> NDArray[np.int64]:
    """The rows that are drawn: all, or MOST_POINTS of them by chance, in the file's order."""
    if num_rows <= MOST_POINTS:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(seed).permutation(num_rows)[:MOST_POINTS])


def project(vectors: Floats, method: str, seed: int, progress: Progress) -> Plane:
    """Rows (N, D) into the plane, by their cosine.

    Args:
        method: auto, umap or pca; auto is UMAP (McInnes et al., 2018, arXiv:1802.03426) where it is installed and
            there are enough rows, else principal components.

    Raises:
        DependencyError: umap is asked for and not installed.
    """
    rows = l2_normalize(np.asarray(vectors))
    umap = None if method == "pca" else _import_umap(needed=method == "umap")
    if umap is None or len(rows) < _LEAST_FOR_UMAP:
        with progress.step("principal components", None):
            return _principal(rows)
    with progress.step("UMAP", None), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about seeds and threads, and parts that are not connected
        model = umap.UMAP(n_neighbors=min(_NEIGHBOURS, len(rows) - 1), metric="cosine", random_state=seed, n_jobs=1)
        places = np.asarray(model.fit_transform(rows), np.float32)
    return Plane(_scaled(np.nan_to_num(places)), f"UMAP, {_NEIGHBOURS} neighbours")


def _import_umap(*, needed: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that tensorflow is missing, which is not used
            import umap
    except ImportError as exc:
        if needed:
            raise DependencyError("--method umap needs umap-learn: pip install 'embedrt[analyze]'") from exc
        return None
    return umap


def _principal(rows: Floats) -> Plane:
    """The two directions in which the rows differ most, each with its first large number positive."""
    middle = rows - rows.mean(axis=0)
    values, axes = np.linalg.eigh(middle.T @ middle)  # rising
    chosen = axes[:, ::-1][:, :2]
    chosen = chosen * np.where(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])] < 0, -1, 1)
    places = np.zeros((len(rows), 2), np.float32)
    places[:, : chosen.shape[1]] = middle @ chosen
    total = float(values.sum())
    share = float(values[-2:].sum()) / total if total > 0 else 1.0
    return Plane(_scaled(places), f"two principal components, {share:.0%} of the variance")


def _scaled(places: Floats) -> Floats:
    middle = (places.max(axis=0) + places.min(axis=0)) / 2
    reach = float(np.abs(places - middle).max())
    return np.asarray((places - middle) / (reach or 1.0), np.float32)


def coloured(records: Sequence[Record], column: str, source: TextSource) -> Groups:
    """Groups by the values of a column: the most frequent ones, what is over 20 of them together at the end.

    Raises:
        FileFormatError: no record has the column, as may be where --keep all took what there is.
    """
    if records and not any(column in record.kept for record in records):
        raise FileFormatError(f"{source.name} has no column {column!r} for --color")
    shown = [label_of(record, column) for record in records]
    ranked = [name for name, _ in sorted(Counter(shown).items(), key=lambda item: (-item[1], item[0]))]
    names = ranked if len(ranked) <= _MOST_GROUPS else [*ranked[: _MOST_GROUPS - 1], OTHERS]
    places = {name: i for i, name in enumerate(names)}
    of_rows = np.asarray([places.get(name, len(names) - 1) for name in shown], np.int64)
    return Groups(of_rows, tuple(names), f"colours: {column}")


def by_clusters(records: Sequence[Record], vectors: Floats, how: How, progress: Progress) -> Groups:
    """Groups by k-means, each called by its key words.

    Args:
        vectors: (N, D) of the records.

    Raises:
        DependencyError: scikit-learn is missing.
        OptionError: k is over the number of different texts.
    """
    check(how, len({record.text for record in records}))
    clusters = find_clusters(vectors, how, progress)
    texts = {number: _texts(records, clusters, number) for number in range(len(clusters.sizes))}
    words = key_words(texts, count=_NAME_WORDS)
    names = tuple(", ".join(words[number]) or f"cluster {number}" for number in texts)
    return Groups(clusters.labels, names, f"colours: {clusters.told}")


def uncoloured(num_rows: int) -> Groups:
    """One group of all."""
    return Groups(np.zeros(num_rows, np.int64), ("texts",), "one colour")


def _texts(records: Sequence[Record], clusters: Clusters, number: int) -> list[str]:
    return [records[row].text or "" for row in clusters.central(number, WORD_TEXTS)]


def write_points(path: Path, drawn: Map) -> None:
    """A row for each point."""
    write_table(path, COLUMNS, _rows(drawn))


def records_of(source: TextSource, rows: NDArray[np.int64]) -> tuple[Record, ...]:
    """The records in these rows, rising."""
    wanted = set(rows.tolist())
    return tuple(record for record in source.records() if record.row in wanted)


def _rows(drawn: Map) -> Iterator[Row]:
    groups = drawn.groups.of_rows.tolist()
    for record, (x, y), group in zip(drawn.records, drawn.plane.points.tolist(), groups, strict=True):
        values = (record.row, record.line, rounded(x), rounded(y), drawn.groups.names[group], record.text)
        yield Row(values, record)
