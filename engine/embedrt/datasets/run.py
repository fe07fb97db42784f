"""A dataset into vectors: the plan, what is left of it, an engine, and what is said of it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from embedrt.batch import EmbedBatch
from embedrt.commands.encoding import EncodeRequest
from embedrt.commands.reading.formats import SUFFIXES
from embedrt.commands.reading.parquet import import_pyarrow
from embedrt.commands.reading.records import How
from embedrt.datasets import on_ray, on_spark
from embedrt.datasets.inputs import input_files, reads_output, sampled
from embedrt.datasets.ledger import FOLDER, Ledger, Run, Totals, differences
from embedrt.datasets.local import run_local
from embedrt.datasets.parts import commit_lance, import_lance
from embedrt.datasets.plan import SHARD_TOKENS, Changes, Shard
from embedrt.datasets.planning import Planner
from embedrt.datasets.policy import Sizing, local_sizing
from embedrt.datasets.sources import TEXT, Source, source_at
from embedrt.datasets.stores import Store, is_url, store_at
from embedrt.datasets.work import Job, Report
from embedrt.errors import FileFormatError, OptionError
from embedrt.machine import available_threads

_CLUSTERS = {"ray": on_ray, "spark": on_spark}
ENGINES = ("local", *_CLUSTERS)
OUTPUTS = ("parquet", "lance")
_MOST_IN_A_ROW = 20  # shards that fail one after the other: then something is wrong with all of them


@dataclass(frozen=True)
class DatasetJob:
    """What to embed, how, and where to."""

    input: str  # a file, folder, glob or URL
    output: str  # a folder or URL
    bundle: str
    text: str | None = None  # column
    id: str | None = None
    keep: tuple[str, ...] = ()
    precision: str = "float32"
    request: EncodeRequest = field(default_factory=EncodeRequest)
    how: How = field(default_factory=How)  # encoding, delimiter, quoting
    input_format: str | None = None
    output_format: str | None = None  # None: lance for a name that ends so
    engine: str = "local"
    workers: int | None = None
    threads: int | None = None
    shard_tokens: int = SHARD_TOKENS
    dedup_store: str | None = None
    resume: bool = False
    model: dict[str, Any] = field(default_factory=dict)  # keywords of EmbedBatch: variant, packed_cache, ...


@dataclass(frozen=True)
class Outcome:
    """What was done."""

    output: str
    identity: str
    totals: Totals  # of the plan
    done: int  # shards, those of earlier runs included
    earlier: int  # shards of earlier runs
    written: int  # rows, by this run
    aside: int
    cut: int
    repeats: int
    tokens: int
    seconds: float
    problems: tuple[str, ...]  # shards and files that could not be done
    stopped: str | None = None  # why the run ended before its plan
    changes: Changes = field(default_factory=Changes)

    @property
    def complete(self) -> bool:
        """Whether every shard of the plan is done, and every file could be planned."""
        return not self.problems and self.stopped is None and self.done == self.totals.shards


@dataclass(frozen=True)
class Heard:
    """What a listener is told after each shard, and once before the first."""

    totals: Totals
    done: Totals  # shards, rows and tokens, as they were estimated, of shards that are done
    report: Report | None
    seconds: float
    said: str = ""  # what was chosen or found, for people


def embed_dataset(job: DatasetJob, listen: Callable[[Heard], None] = lambda _heard: None) -> Outcome:
    """Embed every row of a dataset once; see `embedrt.datasets`.

    Raises:
        FileFormatError: the input is not there, or the output is of another run; the message says what differs.
        EmbedrtError: the model, an option or a package does not fit.
    """
    return _Driver(job, listen).go()


class _Driver:
    def __init__(self, job: DatasetJob, listen: Callable[[Heard], None]) -> None:
        _check(job)
        self._job = job
        self._cluster = _CLUSTERS.get(job.engine)
        if self._cluster is not None:
            self._cluster.require()
        self._listen = listen
        self._begin = time.monotonic()
        self._format = job.output_format or ("lance" if job.output.rstrip("/").endswith(".lance") else "parquet")
        if self._format == "lance":
            import_lance()
        self._embed = EmbedBatch(
            job.bundle, TEXT, "vector", precision=job.precision, error="error", keep=(),
            **{**_options(job.request), **job.model},
        )  # fmt: skip
        self._store: Store = store_at(job.output)
        self._ledger = Ledger(self._store)

    def go(self) -> Outcome:
        """Plan, or take the plan up again; then run."""
        earlier = self._ledger.run()
        if earlier is not None and not self._job.resume:
            raise FileFormatError(
                f"{self._job.output} holds a run already: go on with --resume, or choose another folder"
            )
        source = self._source(earlier)
        run = self._run_of(source)
        if earlier is not None:
            told = differences(earlier, run)
            if told:
                raise FileFormatError(f"--resume refused: {'; '.join(told)}. Choose another folder for the output")
        else:
            self._refuse_foreign_files()
            if self._cluster is not None:  # before anything is written: a run that has begun asks for --resume
                self._cluster.connect()
            self._ledger.save_run(run)
        planner = Planner(self._ledger, source, self._embed.max_tokens, self._job.shard_tokens, self._say)
        totals, changed = planner.plan()
        self._forget_others()
        return self._run(source, totals, changed)

    def _source(self, earlier: Run | None) -> Source:
        job = self._job
        keep = tuple(dict.fromkeys([*([job.id] if job.id else []), *job.keep]))
        how = replace(job.how, column=job.text, keep=keep, keep_option="--id or --keep", column_option="--text")
        source = source_at(job.input, how, job.input_format)
        if self._format == "parquet" and reads_output(source, self._store):
            raise FileFormatError(
                f"{job.output} lies in the input, and the next run would read it: choose a folder outside"
            )
        if earlier is not None:
            pa, _ = import_pyarrow()
            return replace(source, schema=pa.ipc.read_schema(pa.py_buffer(base64.b64decode(earlier.schema))))
        source = _sampled(source)
        taken = {"vector", *(() if job.id else ("file", "row"))} & set(source.schema.names)
        if taken:
            raise FileFormatError(f"the output has a column {min(taken)!r} of its own; leave it out of --keep")
        return source

    def _run_of(self, source: Source) -> Run:
        job, embed = self._job, self._embed
        options = {
            "text": job.text, "id": job.id, "keep": list(job.keep), "shard_tokens": job.shard_tokens,
            "input_format": source.input_format, "encoding": job.how.encoding, "delimiter": job.how.delimiter,
            "quoting": job.how.quoting,
        }  # fmt: skip
        schema = base64.b64encode(source.schema.serialize().to_pybytes()).decode()
        return Run(
            embed.identity, embed.model, embed.variant, embed.shape.dimension, job.precision, source.place,
            source.pattern, options, schema, self._format,
        )  # fmt: skip

    def _refuse_foreign_files(self) -> None:
        """Files that are no run's would be read as a part of it."""
        for stat in self._store.files():
            if not stat.path.startswith(f"{FOLDER}/"):
                raise FileFormatError(f"{self._job.output} holds other files ({stat.path}); choose an empty folder")

    def _forget_others(self) -> None:
        """Remove outputs and records of shards that the plan no longer has."""
        wanted = {shard.key for shard in self._ledger.shards()}
        there = self._ledger.done()
        there |= {
            stat.path.removeprefix("part-").removesuffix(".parquet")
            for stat in self._store.files()
            if stat.path.startswith("part-")
        }
        for key in there - wanted:
            self._ledger.forget(key)

    def _run(self, source: Source, totals: Totals, changed: Changes) -> Outcome:
        done = self._ledger.done()
        before = Totals()
        for shard in self._ledger.shards():
            if shard.key in done:
                before = before.plus(shard)
        problems = [entry.problem for entry in self._ledger.plan() if entry.problem]
        tally = _Tally(totals, before, self._listen, self._begin)
        job = Job(self._embed, source, self._store.root, self._format, self._job.id is not None, self._job.dedup_store)
        pending = (shard for shard in self._ledger.shards() if shard.key not in done)
        stopped: str | None = None
        with closing(self._engine(job, pending)) as reports:
            for report in reports:
                tally.add(report)
                stopped = tally.why_stop
                if stopped:
                    break
        if stopped is None and not problems and not tally.problems and self._format == "lance":
            self._commit(job)
        return tally.outcome(self._job.output, self._embed.identity, problems, stopped, changed)

    def _engine(self, job: Job, shards: Iterator[Shard]) -> Any:
        asked = self._job
        if asked.engine == "ray":
            return on_ray.run_ray(job, shards, asked.workers, asked.threads, self._say)
        if asked.engine == "spark":
            return on_spark.run_spark(job, shards, asked.threads, self._say)
        sizing: Sizing = local_sizing(available_threads(), asked.workers, asked.threads)
        self._say(sizing.why)
        return run_local(job, shards, sizing)

    def _commit(self, job: Job) -> None:
        """Show a Lance dataset's shards, all at once and in the plan's order."""

        def fragments() -> Iterator[str]:
            for shard in self._ledger.shards():
                record = self._ledger.record(shard.key)
                if record is not None:
                    yield from record.fragments

        commit_lance(job.out, job.schema, fragments())

    def _say(self, text: str) -> None:
        self._listen(Heard(Totals(), Totals(), None, time.monotonic() - self._begin, text))


class _Tally:
    """Sums over reports."""

    def __init__(self, totals: Totals, before: Totals, listen: Callable[[Heard], None], begin: float) -> None:
        self._totals, self._before, self._done = totals, before, before
        self._listen, self._begin = listen, begin
        self._sums = dict.fromkeys(("written", "aside", "cut", "repeats", "tokens"), 0)
        self._in_a_row = 0
        self.problems: list[str] = []
        self.why_stop: str | None = None
        self._listen(Heard(totals, before, None, time.monotonic() - begin))

    def add(self, report: Report) -> None:
        """Count a report, and tell the listener."""
        if report.record is not None:
            self._in_a_row = 0
            self._done = self._done.plus(report.shard)
            for name in self._sums:
                self._sums[name] += getattr(report.record, name)
        else:
            self._in_a_row += 1
            self.problems.append(report.problem or "unknown")
            if report.ends_run:
                self.why_stop = report.problem
            elif self._in_a_row >= _MOST_IN_A_ROW:
                self.why_stop = f"{_MOST_IN_A_ROW} shards failed one after the other, the last with: {report.problem}"
        self._listen(Heard(self._totals, self._done, report, time.monotonic() - self._begin))

    def outcome(
        self, output: str, identity: str, problems: list[str], stopped: str | None, changed: Changes
    ) -> Outcome:
        """All of it."""
        return Outcome(
            output=output, identity=identity, totals=self._totals, done=self._done.shards, earlier=self._before.shards,
            **self._sums, seconds=time.monotonic() - self._begin, problems=(*problems, *self.problems),
            stopped=stopped, changes=changed,
        )  # fmt: skip


def _check(job: DatasetJob) -> None:
    if job.engine not in ENGINES:
        raise OptionError(f"engine must be one of {', '.join(ENGINES)}, not {job.engine!r}")
    if job.output_format not in (None, *OUTPUTS):
        raise OptionError(f"output_format must be one of {', '.join(OUTPUTS)}, not {job.output_format!r}")
    if job.shard_tokens < 1:
        raise OptionError(f"shard_tokens must be at least 1, not {job.shard_tokens}")
    if not is_url(job.output) and Path(job.output).is_file():
        raise FileFormatError(f"{job.output} is a file; the output is a folder or a URL")


def _sampled(source: Source) -> Source:
    """The source with its columns' types, as the first file has them that can be read."""
    error: FileFormatError | None = None
    for file in input_files(source):
        try:
            return sampled(source, file)
        except FileFormatError as exc:
            error = error or exc
    raise error or FileFormatError(f"{source.place} holds no files to read: {', '.join(sorted(SUFFIXES))}")


def _options(request: EncodeRequest) -> dict[str, Any]:
    """What EmbedBatch takes of a request; the precision is the job's."""
    options = {name: value for name, value in request.options().items() if name != "precision"}
    return {"kind": request.kind, **({"task": request.task} if request.task else {}), **options}
