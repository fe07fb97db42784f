"""Measuring: configurations interleaved over rounds, so that a machine that slows down slows all of them."""

from __future__ import annotations

import hashlib
import platform
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np

from embedrt.bundle import Bundle
from embedrt.commands.bench.probe import run_probe
from embedrt.commands.bench.report import REPORT_FORMAT, BenchReport, Cell, CellResult, LoadResult
from embedrt.commands.bench.texts import make_texts
from embedrt.embedder import Embedder
from embedrt.errors import OptionError
from embedrt.machine import describe_machine
from embedrt.progress import Progress
from embedrt.tokenization import TextTokenizer
from embedrt.version import __version__

T = TypeVar("T")

MAX_OWN_TEXTS = 2000
_PROBES = 3  # loads per model, each in a new process
_SETS = 4  # different batches per configuration, taken in turn


@dataclass(frozen=True)
class BenchPlan:
    """What to measure."""

    variants: tuple[str, ...]
    threads: tuple[int, ...]
    batches: tuple[int, ...]
    lengths: tuple[int, ...]  # tokens; may be empty when there are own texts
    own_texts: tuple[str, ...]
    device: str
    executors: tuple[str, ...]  # as Embedder takes them
    isa: str
    rounds: int
    seconds: float  # of measuring, over all; each configuration runs at least once a round

    def cells(self, model: tuple[str, str, int]) -> list[Cell]:
        """The configurations of one loaded model: (variant, executor that runs it, threads)."""
        cells = [Cell(*model, batch, tokens) for tokens in self.lengths for batch in self.batches]
        if self.own_texts:
            sizes = [batch for batch in self.batches if batch <= len(self.own_texts)]
            cells += [Cell(*model, batch, None) for batch in (*sizes, None)]
        return cells


@dataclass(frozen=True)
class _Work:
    """The batches of one configuration."""

    batches: tuple[list[str], ...]
    tokens: tuple[int, ...]  # of each batch, as the model sees them


def default_lengths(max_tokens: int) -> tuple[int, ...]:
    """A query, a paragraph, the most there can be."""
    return tuple(sorted({min(length, max_tokens) for length in (16, 128, max_tokens)}))


def run_bench(bundle: Bundle, plan: BenchPlan, progress: Progress) -> BenchReport:
    """Measure everything in the plan.

    Raises:
        OptionError: a length is over the model's limit, or no such texts can be made.
        EmbedrtError: the model cannot be loaded or run.
    """
    work = _prepare(bundle, plan)
    loads = _load(bundle, plan, _largest(work), progress)
    # "auto" and the name that it means are one
    models = list(dict.fromkeys((load.variant, load.executor, load.threads) for load in loads))
    cells = [cell for model in models for cell in plan.cells(model)]
    times: dict[Cell, list[list[float]]] = {cell: [] for cell in cells}
    identities: dict[str, str] = {}
    slice_s = plan.seconds / (len(cells) * plan.rounds)
    with progress.step("measure", len(cells) * plan.rounds) as advance:
        for number in range(plan.rounds):
            for model in _shuffled(models, number):
                variant, executor, threads = model
                with Embedder(
                    bundle,
                    variant=variant,  # type: ignore[arg-type]  # Embedder checks it
                    device=plan.device,  # type: ignore[arg-type]  # Embedder checks it
                    executor=executor,  # type: ignore[arg-type]  # Embedder checks it
                    isa=plan.isa if executor == "native" else "auto",
                    num_threads=threads,
                    verify_hashes=False,
                ) as embedder:
                    identities[variant] = embedder.identity
                    for cell in _shuffled(plan.cells(model), number):
                        times[cell].append(_time(embedder, work[cell.tokens, cell.batch], slice_s))
                        advance(1)
    return BenchReport(
        format=REPORT_FORMAT,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine_facts(),
        bundle=bundle.manifest.name,
        model=bundle.manifest.source.model,
        identities=identities,
        own_texts=hashlib.sha256("\n".join(plan.own_texts).encode()).hexdigest() if plan.own_texts else None,
        rounds=plan.rounds,
        cells=tuple(_result(cell, times[cell], work[cell.tokens, cell.batch]) for cell in cells),
        loads=tuple(loads),
    )


def _load(bundle: Bundle, plan: BenchPlan, texts: list[str], progress: Progress) -> list[LoadResult]:
    """Load every model in processes of its own; `texts` is the largest batch."""
    models = [(v, e, n) for v in plan.variants for e in plan.executors for n in plan.threads]
    loads = []
    with progress.step("load", len(models) * _PROBES) as advance:
        for variant, executor, threads in models:
            probes = []
            for _ in range(_PROBES):
                probes.append(
                    run_probe(
                        bundle.root,
                        variant,
                        device=plan.device,
                        executor=executor,
                        isa=plan.isa,
                        num_threads=threads,
                        texts=texts,
                    )
                )
                advance(1)
            loads.append(LoadResult(variant, probes[0].executor, threads, tuple(probes)))
    return loads


def machine_facts() -> dict[str, str]:
    """What must be alike for two runs to be compared."""
    import onnxruntime

    machine = describe_machine()
    return {
        "cpu": machine.cpu,
        "isa": " ".join(machine.isa),
        "threads": str(machine.threads),
        "memory": f"{machine.memory_bytes / 2**30:.0f} GiB",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "embedrt": __version__,
    }


def _prepare(bundle: Bundle, plan: BenchPlan) -> dict[tuple[int | None, int | None], _Work]:
    """The texts of every shape, the same for every model."""
    manifest = bundle.manifest
    limit = manifest.max_tokens
    tokenizer = TextTokenizer(bundle.path(manifest.tokenizer), limit)

    def count(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer.ids(texts)]

    work: dict[tuple[int | None, int | None], _Work] = {}
    for tokens in plan.lengths:
        if tokens > limit:
            raise OptionError(f"a length of {tokens} tokens is over the model's limit of {limit}")
        for batch in plan.batches:
            texts = make_texts(count, [tokens] * batch * _SETS, seed=tokens)
            sets = tuple(texts[i * batch : (i + 1) * batch] for i in range(_SETS))
            work[tokens, batch] = _Work(sets, (tokens * batch,) * _SETS)
    own = list(plan.own_texts)
    counts = [min(n, limit) for n in count(own)]
    own_sizes: list[int | None] = [batch for batch in plan.batches if batch <= len(own)]
    for own_batch in (*own_sizes, None) if own else ():
        size = own_batch or len(own)
        starts = range(0, len(own) - size + 1, size)
        work[None, own_batch] = _Work(
            tuple(own[i : i + size] for i in starts), tuple(sum(counts[i : i + size]) for i in starts)
        )
    return work


def _largest(work: dict[tuple[int | None, int | None], _Work]) -> list[str]:
    """The batch with the most tokens."""
    batches = [
        (tokens, texts) for item in work.values() for tokens, texts in zip(item.tokens, item.batches, strict=True)
    ]
    return max(batches, key=lambda pair: pair[0])[1]


def _time(embedder: Embedder, work: _Work, seconds: float) -> list[float]:
    """Seconds of each call, for about `seconds`, after one call that is not timed."""
    embedder.encode_detailed(work.batches[-1])
    found: list[float] = []
    begin = time.perf_counter()
    while not found or time.perf_counter() - begin < seconds:
        texts = work.batches[len(found) % len(work.batches)]
        start = time.perf_counter()
        embedder.encode_detailed(texts)
        found.append(time.perf_counter() - start)
    return found


def _result(cell: Cell, rounds: list[list[float]], work: _Work) -> CellResult:
    seconds = np.array([second for found in rounds for second in found])
    tokens = np.array([work.tokens[i % len(work.tokens)] for found in rounds for i in range(len(found))])
    p50, p95, p99 = (float(value) * 1e3 for value in np.percentile(seconds, (50, 95, 99)))
    return CellResult(
        cell=cell,
        calls=len(seconds),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        tokens_per_s=float(np.median(tokens / seconds)),
        round_p50_ms=tuple(float(np.median(found)) * 1e3 for found in rounds),
    )


def _shuffled(items: Sequence[T], seed: int) -> list[T]:
    """In another order each round, so that nothing always follows the same neighbour."""
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled
