"""`python -m bench.tasks BUNDLE...`: what int8 and bf16 cost on tasks, of bundles with trained weights.

STS-B in eleven languages and KorSTS (test sets; Spearman), Tatoeba in 21 languages (F1 of mining by margin, and how
often the nearest is right), XQuAD in 12 (nDCG@10 of paragraphs for questions). Every score has its bootstrap interval,
and int8 and bf16 the interval of their difference to fp32 on the same items; of several languages it is the mean over
all items.

Texts that are compared with their like get the bundle's prompt for queries, if it has one, as E5's card says. Tasks
whose data is not there are left out. Results are written after each task, so that a run that ends early has them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.machine import available_cpus, describe_machine
from bench.paths import DATA, REPO
from embedrt import Embedder, EmbedrtError, open_bundle
from embedrt._schema import decode
from embedrt.commands.eval_files import PAIR_COLUMNS, Reading, read_bitext, read_pairs, read_squad
from embedrt.evaluation.compare import MetricResult, Score, TaskResult, compare
from embedrt.evaluation.tasks import Metric, Prompts, Task
from embedrt.progress import NullProgress

VARIANTS = ("fp32", "int8", "bf16")
STSB = ("en", "ko", "de", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "zh")
TATOEBA = (
    "kor", "jpn", "cmn", "tha", "vie", "ind", "hin", "ara", "tur", "rus", "ukr", "pol", "ces", "deu", "nld", "fra",
    "spa", "ita", "por", "ell", "hun",
)  # fmt: skip
XQUAD = ("en", "ar", "de", "el", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")


@dataclass(frozen=True)
class Pooled:
    """Tasks of several languages as one."""

    name: str
    tasks: Sequence[Task]

    @property
    def size(self) -> str:
        """How many."""
        return f"{len(self.tasks)} languages"

    @property
    def num_texts(self) -> int:
        """Of all."""
        return sum(task.num_texts for task in self.tasks)

    def measure(self, model: Embedder, prompts: Prompts) -> list[Metric]:
        """The tasks' metrics over the items of all; behind them the main one of each."""
        found = [task.measure(model, prompts) for task in self.tasks]
        alone = [
            Metric(f"{task.name}: {metrics[0].name}", metrics[0].num_items, metrics[0].over)
            for task, metrics in zip(self.tasks, found, strict=True)
        ]
        return [*(pooled(same) for same in zip(*found, strict=True)), *alone]


def pooled(metrics: Sequence[Metric]) -> Metric:
    """One metric over the items of several: the mean, each with the weight of its items."""
    bounds = np.cumsum([0, *(metric.num_items for metric in metrics)])

    def over(items: NDArray[np.int64]) -> float:
        parts = [items[(items >= low) & (items < high)] - low for low, high in pairwise(bounds)]
        sums = [len(part) * metric.over(part) for part, metric in zip(parts, metrics, strict=True) if len(part)]
        return float(sum(sums) / len(items))

    return Metric(metrics[0].name, int(bounds[-1]), over)


@dataclass(frozen=True)
class Languages:
    """Of each kind of data."""

    stsb: tuple[str, ...] = STSB  # and "ko": KorSTS
    tatoeba: tuple[str, ...] = TATOEBA
    xquad: tuple[str, ...] = XQUAD


ENGLISH = Languages(("en",), (), ("en",))


def tasks(languages: Languages) -> Iterator[Task]:
    """Those whose data is there."""
    for language in languages.stsb:
        path, columns = DATA / "stsb_multi_mt" / f"stsb-{language}-test.csv", ("1", "2", "3")
        if language == "ko":
            path, columns = DATA / "korsts_kornli" / "KorSTS" / "sts-test.tsv", PAIR_COLUMNS
        if path.is_file():
            yield _named("KorSTS" if language == "ko" else f"STS-B {language}", read_pairs(path, columns, Reading()))
    bitexts = []
    for name in languages.tatoeba:
        texts, english = (DATA / "tatoeba_v1" / f"tatoeba.{name}-eng.{end}" for end in (name, "eng"))
        if texts.is_file():
            bitexts.append(_named(name, read_bitext(texts, english, Reading())))
    if bitexts:
        yield Pooled("Tatoeba", bitexts)
    paths = {name: DATA / "xquad" / f"xquad.{name}.json" for name in languages.xquad}
    squads = [_named(name, read_squad(path)) for name, path in paths.items() if path.is_file()]
    if squads:
        yield Pooled("XQuAD", squads)


def _named(name: str, task: Any) -> Any:
    return replace(task, name=name)


def prompts_of(model: Embedder) -> Prompts:
    """As E5's card has it: "query: " before texts that are compared with their like."""
    prompt = model.prompts.get("query", "")
    return Prompts({"prompt": prompt} if prompt and "{" not in prompt else {})


def open_all(bundle: Path, threads: int) -> list[Embedder]:
    """The variants that run here."""
    found = []
    for variant in VARIANTS:
        try:
            found.append(Embedder(bundle, variant=variant, num_threads=threads))  # type: ignore[arg-type]
        except EmbedrtError as exc:
            print(f"without {variant}: {exc}")
    return found


def table(found: Sequence[tuple[str, TaskResult]]) -> str:
    """Markdown: a row for each metric of each task that stands for all of its languages."""
    lines = [
        "| model | task | items | metric | fp32 | int8 | to fp32 | bf16 | to fp32 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model, task in found:
        for metric in task.metrics:
            if ": " not in metric.name:
                lines.append(_row(model, task.name, metric))
    return "\n".join(lines) + "\n"


def _row(model: str, name: str, metric: MetricResult) -> str:
    scores = {score.variant: score for score in metric.scores}
    cells = [model, name, f"{metric.num_items:,}", metric.name]
    for variant in VARIANTS:
        score = scores.get(variant)
        cells.append("" if score is None else f"{score.value.value:.2f}")
        if variant != VARIANTS[0]:
            cells.append(_gain(score))
    return f"| {' | '.join(cells)} |"


def _gain(score: Score | None) -> str:
    if score is None or score.to_first is None:
        return ""
    value, low, high = (
        round(number, 2) + 0.0 for number in (score.to_first.value, score.to_first.low, score.to_first.high)
    )
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; writes tasks.json and tasks.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.tasks", description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help='with ":en" behind it: English only')
    for kind, names in asdict(Languages()).items():
        parser.add_argument(f"--{kind}", type=_listed, default=names, metavar="LIST", help=f"of {', '.join(names)}")
    parser.add_argument("--resume", action="store_true", help="keep what the folder's tasks.json has")
    parser.add_argument("--out", type=Path, default=REPO / "bench" / "results" / "local", help="folder of the results")
    given = parser.parse_args(arguments)
    threads = len(available_cpus())
    given.out.mkdir(parents=True, exist_ok=True)
    found = _read(given.out) if given.resume else []
    for path in given.bundles:
        name, _, languages = str(path).partition(":")
        for task in tasks(ENGLISH if languages == "en" else Languages(given.stsb, given.tatoeba, given.xquad)):
            model = open_bundle(name).manifest.source.model.rpartition("/")[2]
            if any((model, task.name, task.size) == (kept, done.name, done.size) for kept, done in found):
                continue
            models = open_all(Path(name), threads)
            result = compare(models, [task], prompts_of(models[0]), NullProgress())
            found.append((model, result.tasks[0]))
            print(_row(model, task.name, result.tasks[0].metrics[0]), flush=True)
            _write(given.out, found, threads)
    print(f"\n{describe_machine(threads).cpu}, {date.today()}\n\n{table(found)}")
    return 0


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _read(folder: Path) -> list[tuple[str, TaskResult]]:
    results = json.loads((folder / "tasks.json").read_text())["results"]
    return [(one.pop("model"), decode(TaskResult, one)) for one in results]


def _write(folder: Path, found: Sequence[tuple[str, TaskResult]], threads: int) -> None:
    value = {
        "machine": asdict(describe_machine(threads)),
        "date": str(date.today()),
        "results": [{"model": model, **asdict(task)} for model, task in found],
    }
    (folder / "tasks.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    (folder / "tasks.md").write_text(table(found))


if __name__ == "__main__":
    raise SystemExit(main())
