"""`python -m bench`: build, verify, time, report."""

from __future__ import annotations

import argparse
import datetime
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from bench import artifacts, family_models, models
from bench.machine import available_bytes, available_cpus, describe_machine
from bench.measure import Measurement, Plan
from bench.measured import Report, SystemReport
from bench.paths import REPO
from bench.peaks import higher, measure_peaks
from bench.process import SystemFailed, SystemProcess
from bench.report import write_report
from bench.systems import ANCHORS, REFERENCE, SYSTEMS, SystemSpec
from bench.systems.base import Vectors, load_tokenizer
from bench.texts import SHORT_QUERY, VERIFY_TEXTS, RaggedSet, ragged_sets
from bench.verify import NotVerified, reference_vectors, verify
from bench.worker import Effort

XLMR_SHAPES = ((1, 16), (1, 64), (1, 128), (8, 128), (1, 512), (4, 512))
SHAPES = {
    "minilm": ((1, 16), (1, 128), (32, 32), (32, 128), (8, 256)),
    "mpnet": ((1, 16), (1, 128), (8, 128), (1, 384)),
    "me5-small": ((1, 16), (1, 128), (32, 32), (8, 128), (1, 512)),
    "xlmr-base": XLMR_SHAPES,
    "xlmr-large": XLMR_SHAPES,
    **dict.fromkeys(family_models.SHAPES, ((1, 16), (1, 128), (8, 128), (1, 512))),
}
TRAINED = {"minilm": models.minilm, "mpnet": models.mpnet, "me5-small": models.me5_small}  # the others are seeded
QUICK_SECONDS = 270.0
_SLOW_TO_START = ("torchao-int8",)  # it compiles for minutes
_GROWTH = 1.25  # of a worker's memory between loading and its largest batch


@dataclass(frozen=True)
class Settings:
    """The options of a run."""

    command: str
    model: str
    systems: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    rounds: int
    ragged_rounds: int
    threads: int
    memory_bytes: int
    quick: bool
    bundle: Path | None
    out: Path
    layers: int | None
    ragged: bool
    ragged_share: float
    build_only: bool


class Runner:
    """Loads and verifies the systems in groups that fit in memory, and times each group."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.begin = time.monotonic()
        self.cpus = available_cpus()[: settings.threads]
        if settings.model in TRAINED:
            self.path = TRAINED[settings.model]()
        elif settings.model in family_models.SHAPES:
            self.path = family_models.seeded_family(settings.model, settings.layers)
        else:
            self.path = models.seeded_xlmr(settings.layers, size=settings.model.removeprefix("xlmr-"))
        self.facts = models.model_facts(settings.model, self.path)
        self.tokenizer = load_tokenizer(self.path)
        self.measurement = Measurement(self.facts, self._plan(self.begin), self.say)
        self.reports: dict[str, SystemReport] = {}
        self.texts = [self.facts.prefix + text for text in VERIFY_TEXTS]
        self.reference: Vectors | None = None

    def say(self, message: str) -> None:
        print(f"[{time.monotonic() - self.begin:6.1f} s] {message}", flush=True)

    def run(self) -> Report:
        """Everything but writing the files."""
        settings = self.settings
        before = measure_peaks(self.cpus)
        paths = self.build()
        self.measurement.plan = self._plan(time.monotonic())  # what a first run builds is not counted
        sets = self._ragged_sets() if settings.ragged else []
        query_tokens = len(self.tokenizer.encode(self.facts.prefix + SHORT_QUERY).ids)
        self._reference()
        groups: list[tuple[str, ...]] = []
        pending = [SYSTEMS[name] for name in settings.systems if name in paths]
        anchors = [spec for spec in pending if spec.name in ANCHORS]
        pending = [spec for spec in pending if spec not in anchors]
        resident: dict[str, SystemProcess] = {}
        try:
            self._fill(resident, anchors, paths, math.inf)
            while pending or (resident and not groups):
                self._fill(resident, pending, paths, settings.memory_bytes)
                if groups and all(name in ANCHORS for name in resident):
                    continue  # nothing new could be loaded
                members = [(SYSTEMS[name], process) for name, process in resident.items()]
                groups.append(tuple(resident))
                self.say(f"group {len(groups)}: {', '.join(resident)}")
                self.measurement.run_group(len(groups) - 1, members, settings.shapes, sets, query_tokens)
                self._note_memory(resident)
                for name in [n for n in resident if n not in ANCHORS or n in self.measurement.failures]:
                    resident.pop(name).close()
        except KeyboardInterrupt:  # hours may lie behind it: what was measured is reported
            self.say("interrupted")
            self.measurement.cut_short = True
        finally:
            for process in resident.values():
                process.close()
        return self._report(groups, sets, higher(before, measure_peaks(self.cpus)))

    def _plan(self, begin: float) -> Plan:
        settings, quick = self.settings, self.settings.quick
        return Plan(
            rounds=settings.rounds,
            ragged_rounds=settings.ragged_rounds if settings.ragged else 0,
            shape_effort=Effort(0.15, 3, 1.0) if quick else Effort(0.6, 3, 4.0),
            latency_effort=Effort(0.15, 20, 1.0) if quick else Effort(1.0, 40, 4.0),
            deadline=begin + QUICK_SECONDS - 40 if quick else math.inf,
            hard_deadline=begin + QUICK_SECONDS if quick else math.inf,
        )

    def build(self) -> dict[str, Path]:
        """What each system loads, built where it is not there; one that cannot be built is named and left out."""
        paths: dict[str, Path] = {}
        for name in self.settings.systems:
            spec = SYSTEMS[name]
            if spec.only_for and self.settings.model not in spec.only_for:
                continue
            try:
                if spec.takes_given_bundle and self.settings.bundle is not None:
                    paths[name] = self.settings.bundle
                else:
                    paths[name] = artifacts.ensure(spec.artifact, self.path, self.say)
            except artifacts.BuildError as exc:
                self._refuse(spec, f"not built: {exc}")
        return paths

    def _ragged_sets(self) -> list[RaggedSet]:
        full = Tokenizer.from_file(str(self.path / "tokenizer.json"))
        full.no_truncation()
        full.no_padding()

        def count(texts: Sequence[str]) -> list[int]:
            return [len(encoding.ids) for encoding in full.encode_batch(list(texts))]

        english = artifacts.is_english(self.path)
        return ragged_sets(
            count, self.facts.max_tokens, english=english, share=self.settings.ragged_share, prefix=self.facts.prefix
        )

    def _reference(self) -> None:
        """PyTorch fp32's vectors, whether or not it is among the systems that are timed."""
        self.say("reference vectors: PyTorch fp32")
        process = SystemProcess(REFERENCE, self.cpus)
        try:
            process.load(self.path, self.path, self.settings.threads)
            self.reference = reference_vectors(process, SYSTEMS[REFERENCE].batchings[0], self.texts)
        finally:
            process.close()

    def _fill(
        self,
        resident: dict[str, SystemProcess],
        pending: list[SystemSpec],
        paths: dict[str, Path],
        budget: float,
    ) -> None:
        """Start systems from the front of `pending` until the memory budget is reached; at least one is tried."""
        started = 0
        while pending:
            used = sum(self.reports[name].rss_loaded for name in resident) * _GROWTH
            if started and used + self._guess(pending[0]) > budget:
                return
            spec = pending.pop(0)
            process = self._start(spec, paths[spec.name])
            started += 1
            if process is not None:
                resident[spec.name] = process

    def _guess(self, spec: SystemSpec) -> float:
        """Bytes a system may need before it was seen: twice its weights (prepacked copies) and its library."""
        embeddings = self.facts.vocab_size * self.facts.hidden * 4
        return 2 * self.facts.linear_parameters * spec.weight_bytes + 1.2 * embeddings + 0.5e9

    def _start(self, spec: SystemSpec, path: Path) -> SystemProcess | None:
        """Load and verify; None, and a line in the report, when either fails."""
        assert self.reference is not None
        process: SystemProcess | None = None
        try:
            _read_all(path)  # the page cache is warm for every load
            process = SystemProcess(spec.name, self.cpus)
            load_seconds = process.load(path, self.path, self.settings.threads)
            loaded = process.memory()
            deviation = verify(process, spec, self.texts, self.reference, self.tokenizer)
            self.reports[spec.name] = SystemReport(
                spec, process.describe(), load_seconds, loaded.rss, loaded.anonymous, deviation
            )
            process.pause()
        except (SystemFailed, NotVerified) as exc:
            self._refuse(spec, f"{'not verified' if isinstance(exc, NotVerified) else 'failed'}: {exc}")
            if process is not None:
                process.close()
            return None
        self.say(f"{spec.name}: loaded in {load_seconds:.1f} s, cosine min {deviation.cosine_min:.5f}")
        return process

    def _refuse(self, spec: SystemSpec, reason: str) -> None:
        self.say(f"{spec.name}: {reason}")
        self.measurement.failures[spec.name] = reason

    def _note_memory(self, resident: dict[str, SystemProcess]) -> None:
        for name, process in resident.items():
            if name in self.measurement.failures:
                continue
            with process.running():
                memory = process.memory()
            self.reports[name].rss_after, self.reports[name].peak = memory.rss, memory.peak

    def _report(self, groups: list[tuple[str, ...]], sets: list[RaggedSet], peaks: object) -> Report:
        return Report(
            date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            command=self.settings.command,
            machine=describe_machine(self.settings.threads),
            peaks=peaks,  # type: ignore[arg-type]
            facts=self.facts,
            systems=self.reports,
            failures=self.measurement.failures,
            groups=groups,
            sets=sets,
            series=list(self.measurement.series.values()),
            cut_short=self.measurement.cut_short,
            memory_budget=self.settings.memory_bytes,
            seconds=time.monotonic() - self.begin,
        )


def _read_all(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                while stream.read(1 << 24):
                    pass


def _command(arguments: Sequence[str]) -> str:
    """The command as it can be given again; where the results went does not matter."""
    given = list(arguments)
    if "--out" in given:
        place = given.index("--out")
        del given[place : place + 2]
    return shlex.join(["python", "-m", "bench", *given])


def _parse(arguments: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Verify, then time, embedrt and its peers.")
    parser.add_argument("--model", choices=tuple(SHAPES), help="default: xlmr-large, with --quick minilm")
    parser.add_argument("--quick", action="store_true", help="MiniLM, fewer rounds; ends in 5 minutes on 2 cores")
    parser.add_argument("--systems", help=f"names joined by commas; all: {','.join(SYSTEMS)}")
    parser.add_argument("--shapes", help="e.g. 1x16,8x128 (batch x tokens)")
    parser.add_argument("--rounds", type=int, help="of the fixed shapes and the single text (default 5, quick 3)")
    parser.add_argument("--ragged-rounds", type=int, help="of the ragged sets (default 3, quick 2)")
    parser.add_argument("--ragged-share", type=float, help="of the ragged sets' texts (default 1, quick 0.5)")
    parser.add_argument("--no-ragged", action="store_true", help="leave the ragged sets out")
    parser.add_argument("--threads", type=int, default=len(available_cpus()), help="default: every processor allowed")
    parser.add_argument("--memory-gb", type=float, help="budget of the resident systems (default 60%% of what is free)")
    parser.add_argument("--bundle", type=Path, help="an exported bundle of the same model, instead of building one")
    parser.add_argument("--build-only", action="store_true", help="build what is missing, and time nothing")
    parser.add_argument("--layers", type=int, help="of a seeded model (fewer: for trying things)")
    parser.add_argument(
        "--out", type=Path, default=REPO / "bench" / "results" / "local", help="directory of the results"
    )
    given = parser.parse_args(arguments)
    model = given.model or ("minilm" if given.quick else "xlmr-large")
    every = tuple(name for name in SYSTEMS if not (given.quick and name in _SLOW_TO_START))
    systems = tuple(given.systems.split(",")) if given.systems else every
    unknown = [name for name in systems if name not in SYSTEMS]
    if unknown:
        parser.error(f"unknown systems: {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    if given.ragged_share is not None and not 0 < given.ragged_share <= 1:
        parser.error("--ragged-share must be over 0 and at most 1")
    if not 1 <= given.threads <= len(available_cpus()):
        parser.error(f"--threads must be 1 to {len(available_cpus())} here")
    shapes = SHAPES[model]
    if given.shapes:
        shapes = tuple((int(b), int(t)) for b, _, t in (s.partition("x") for s in given.shapes.split(",")))
    quick = given.quick
    return Settings(
        command=_command(sys.argv[1:] if arguments is None else arguments),
        model=model,
        systems=systems,
        shapes=shapes,
        rounds=given.rounds or (3 if quick else 5),
        ragged_rounds=given.ragged_rounds or (2 if quick else 3),
        threads=given.threads,
        memory_bytes=int((given.memory_gb * 1e9) if given.memory_gb else 0.6 * available_bytes()),
        quick=quick,
        bundle=given.bundle,
        out=given.out,
        layers=given.layers,
        ragged=not given.no_ragged,
        ragged_share=given.ragged_share or (0.5 if quick else 1.0),
        build_only=given.build_only,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code. Speeds never change it: 1 only when no system could be timed."""
    settings = _parse(arguments)
    runner = Runner(settings)
    if settings.build_only:
        runner.build()
        return 1 if runner.measurement.failures else 0
    report = runner.run()
    written = write_report(report, settings.out)
    print(written[0].read_text(encoding="utf-8"))
    print("written: " + ", ".join(str(path) for path in written))
    return 0 if report.series else 1


if __name__ == "__main__":
    raise SystemExit(main())
