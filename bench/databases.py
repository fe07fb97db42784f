"""`python -m bench.databases BUNDLE`: recall and speed of a database's approximate indexes beside its exact search.

Vectors are seeded, in clusters, with mean and covariance of real ones: the bundle embeds sentences of Tatoeba for it.
`--real N` takes N such sentences themselves. Queries are drawn as the vectors are, and are none of them. Each kind of
index has its own table, and the kinds take turns at each query, so that a busy machine is as busy for all of them.

Recall@10 is the share of the exact search's ten that are found, by how many candidates per hit the full vectors are
asked of (`search --refine`). The exact search is numpy's, in float32. Writes JSON and a plot beside it. A million rows
take about 4 GB of memory, 20 of disk (`TMPDIR`) and half an hour.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.machine import available_cpus, describe_machine
from bench.paths import DATA
from embedrt import Embedder
from embedrt.databases import Asked, Database, Hashes, Recipe, Row, open_database
from embedrt.databases.model import EXACT
from embedrt.pooling import l2_normalize
from embedrt.vectors.nearest import nearest

REFINES = (1, 3, 10, 30)
K = 10
_FOUND_ALL = 0.999  # recall whose points need no label: they are the ends of their lines
_ROWS_PER_CALL = 4096
_DRAWN_AT_ONCE = 65536
_SAMPLE = 3000  # real sentences that the spectrum is taken of
_CLUSTER = 50  # vectors in one
_BETWEEN = 0.7  # share of the covariance that lies between clusters

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """One kind of index over one number of rows."""

    kind: str
    insert_seconds: float
    build_seconds: float
    megabytes: float  # of everything in the folder
    recall: dict[int, float]  # by candidates per hit
    milliseconds: dict[int, float]  # median of a query, by candidates per hit


def sentences(count: int) -> list[str]:
    """Tatoeba's, of all its languages in turn."""
    files = sorted((DATA / "tatoeba_v1").rglob("tatoeba.*-eng.*"))
    lines = [path.read_text(encoding="utf-8").splitlines() for path in files]
    turns = [line for row in range(max(map(len, lines), default=0)) for file in lines for line in file[row : row + 1]]
    return list(dict.fromkeys(turns))[:count]


def drawn(sample: Floats, count: int, rng: np.random.Generator, centres: Floats | None = None) -> tuple[Floats, Floats]:
    """Vectors (count, D) of length 1 in clusters, alike `sample` in mean and covariance; and the clusters' centres."""
    mean, covariance = sample.mean(axis=0), np.cov(sample.T)
    values, axes = np.linalg.eigh(covariance)
    spread = (axes * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)  # (D, D)

    def normal(rows: int, share: float) -> Floats:
        return (rng.standard_normal((rows, len(spread)), np.float32) * np.float32(share**0.5)) @ spread

    if centres is None:
        centres = mean + normal(max(1, count // _CLUSTER), _BETWEEN)
    owners = rng.integers(0, len(centres), count)
    vectors = np.empty((count, len(spread)), np.float32)
    for first in range(0, count, _DRAWN_AT_ONCE):
        some = owners[first : first + _DRAWN_AT_ONCE]
        vectors[first : first + len(some)] = l2_normalize(centres[some] + normal(len(some), 1 - _BETWEEN))
    return vectors, centres


def filled(url: str, vectors: Floats, kind: str) -> tuple[Database, float, float]:
    """A table of these vectors with an index, and the seconds that either took."""
    database = open_database(url, write=True)
    start = time.perf_counter()
    database.create(Recipe("0" * 16, "", "drawn", "none", "cosine", vectors.shape[1], ids="number"))
    for first in range(0, len(vectors), _ROWS_PER_CALL):
        some = enumerate(vectors[first : first + _ROWS_PER_CALL], start=first)
        database.add([Row(str(row), "", Hashes("", ""), {}, vector) for row, vector in some])
    inserted = time.perf_counter()
    database.finish(kind, None)
    return database, inserted - start, time.perf_counter() - inserted


def found(database: Database, query: Floats, refine: int, exact: bool) -> set[int]:
    """The ten rows that a search comes to, as `embedrt.databases.search` does it."""
    rows = database.search(Asked(K * refine, query, exact=exact))
    scores = np.stack([row.vector for row in rows]) @ query
    return {int(rows[place].id) for place in np.argsort(-scores, kind="stable")[:K]}


def measure(vectors: Floats, queries: Floats, kinds: Sequence[str], urls: Sequence[str]) -> list[Measured]:
    """All kinds, query by query in turns."""
    right = [set(row) for row in nearest(queries, vectors, K).rows.tolist()]
    tables = []
    for kind, url in zip(kinds, urls, strict=True):
        tables.append(filled(url, vectors, kind))
        print(f"{kind}: filled in {tables[-1][1]:.1f} s, index in {tables[-1][2]:.1f} s", file=sys.stderr, flush=True)
    hits = {(kind, refine): 0 for kind in kinds for refine in REFINES}
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in hits}
    for query, expected in zip(queries, right, strict=True):
        for (database, _, _), kind in zip(tables, kinds, strict=True):
            for refine in REFINES if kind != EXACT else REFINES[:1]:
                start = time.perf_counter()
                got = found(database, query, refine, kind == EXACT)
                seconds[kind, refine].append(time.perf_counter() - start)
                hits[kind, refine] += len(got & expected)
    measured = []
    for (database, insert, build), kind, url in zip(tables, kinds, urls, strict=True):
        database.close()
        tried = [refine for refine in REFINES if seconds[kind, refine]]
        recall = {refine: hits[kind, refine] / (K * len(queries)) for refine in tried}
        speed = {refine: 1000 * float(np.median(seconds[kind, refine])) for refine in tried}
        measured.append(Measured(kind, insert, build, _megabytes(Path(url)), recall, speed))
    return measured


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def table(measured: Sequence[Measured]) -> str:
    """Markdown: recall and milliseconds, by candidates per hit."""
    titles = [f"refine {refine}" for refine in REFINES]
    lines = [f"| index | filled, s | built, s | MB | {' | '.join(titles)} |", f"|{'---|' * (4 + len(titles))}"]
    for one in measured:
        cells = [
            f"{one.recall[refine]:.3f} ({one.milliseconds[refine]:.1f} ms)" if refine in one.recall else ""
            for refine in REFINES
        ]
        seconds = f"{one.insert_seconds:.1f} | {one.build_seconds:.1f}"
        lines.append(f"| {one.kind} | {seconds} | {one.megabytes:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(found: Mapping[str, Sequence[Measured]], path: Path) -> None:
    """Recall against time, a panel per set of vectors and a line per kind."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    kinds = list(dict.fromkeys(one.kind for measured in found.values() for one in measured))
    figure, panels = plt.subplots(1, len(found), figsize=(7 * len(found), 4.5), sharey=True, squeeze=False)
    for ax, (title, measured) in zip(panels[0], found.items(), strict=True):
        for one in measured:
            times, colour = list(one.milliseconds.values()), f"C{kinds.index(one.kind)}"
            ax.plot(times, list(one.recall.values()), marker="o", color=colour, label=one.kind)
            for refine, at in one.milliseconds.items():
                if one.recall[refine] < _FOUND_ALL:
                    ax.annotate(
                        str(refine), (at, one.recall[refine]), textcoords="offset points", xytext=(6, -4), color=colour
                    )
        ax.set(xlabel="ms per query (median)", title=title, xscale="log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.3)
    panels[0][0].set_ylabel(f"recall@10; along a line --refine {', '.join(map(str, REFINES))}")
    panels[0][0].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=80, bbox_inches="tight")
    plt.close(figure)


def vector_sets(sample: Floats, given: argparse.Namespace) -> Iterator[tuple[str, Floats, Floats]]:
    """What is measured: its name, the vectors, and queries that are none of them."""
    if given.real:
        order = np.random.default_rng(0).permutation(len(sample))
        yield f"{given.real:,} real vectors", sample[order[given.queries :]], sample[order[: given.queries]]
        return
    for rows in given.rows:
        rng = np.random.default_rng(0)
        vectors, centres = drawn(sample, rows, rng)
        yield f"{rows:,} drawn vectors", vectors, drawn(sample, given.queries, rng, centres)[0]


def main() -> None:
    """Measure, print the tables, write OUT.json and OUT.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rows", default="100000", type=lambda text: [int(one) for one in text.split(",")],
                        help="100000,1000000 measures both")  # fmt: skip
    parser.add_argument("--real", type=int, default=0, metavar="N", help="take so many real sentences instead")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--kinds", default="exact,hnsw,ivf-pq,int8,binary", type=lambda text: text.split(","))
    parser.add_argument("--out", type=Path, default=Path("databases.json"))
    given = parser.parse_args()
    texts = sentences(max(_SAMPLE, given.real + given.queries if given.real else 0))
    if not texts:
        sys.exit(f"no sentences of Tatoeba in {DATA}")
    with Embedder(given.bundle) as model:
        sample = model.encode_document(texts)
        name = f"{given.bundle.name}, {model.variant}"
    machine = describe_machine(len(available_cpus()))
    print(f"{machine.cpu}, {machine.threads} threads, {date.today()}; {sample.shape[1]} dimensions ({name})")
    found: dict[str, list[Measured]] = {}
    for what, vectors, queries in vector_sets(sample, given):
        with tempfile.TemporaryDirectory() as folder:
            found[what] = measure(vectors, queries, given.kinds, [f"{folder}/{kind}" for kind in given.kinds])
        print(f"\n{what}\n\n{table(found[what])}", flush=True)
        value = {"machine": asdict(machine), "date": str(date.today()), "bundle": name,
                 "measured": {title: [asdict(one) for one in those] for title, those in found.items()}}  # fmt: skip
        given.out.write_text(json.dumps(value, indent=1) + "\n")
        plot(found, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
