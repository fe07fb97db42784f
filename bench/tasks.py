"""`python -m bench.tasks`: what int8 and bf16 cost on tasks, beside other engines' int8, with trained weights.

Measured are the models whose weights can be installed, all-MiniLM-L6-v2, multilingual-e5-small and all-mpnet-base-v2,
or the bundles that are named. First the vectors of the bundle's parity texts against PyTorch's. Then tasks: STS-B in
eleven languages and KorSTS (test sets; Spearman), Tatoeba in 21 languages (F1 of mining by margin, and how often the
nearest is right), XQuAD in 12 (nDCG@10 of paragraphs for questions). Every score of fp32 has its bootstrap interval,
and what others gain or lose on the same items has one; of several languages it is the mean over all items. With
--peers, OpenVINO's, ONNX Runtime's and CTranslate2's int8 of the same weights come beside them.

Texts that are compared with their like get the bundle's prompt for queries, if it has one, as E5's card says. Tasks
whose data is not there are left out, and so are peers that cannot run a model. Results are written after each task, so
that a run that ends early has them.
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

from bench import artifacts, models
from bench.machine import available_cpus, describe_machine
from bench.paths import DATA, REPO
from bench.peer_models import PEERS, PeerModel
from bench.process import SystemFailed
from bench.systems.base import load_tokenizer
from bench.task_tables import VARIANTS, Parity, Results, table
from embedrt import Embedder, EmbedrtError, open_bundle
from embedrt._schema import decode
from embedrt.commands.eval_files import PAIR_COLUMNS, Reading, read_bitext, read_pairs, read_squad
from embedrt.evaluation.compare import TaskResult, compare
from embedrt.evaluation.tasks import Metric, Prompts, Task
from embedrt.parity.files import read_parity_files
from embedrt.parity.metrics import compare as compare_vectors
from embedrt.progress import NullProgress
from embedrt.tokenization import TextTokenizer

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


TRAINED = {
    "all-MiniLM-L6-v2": (models.minilm, ENGLISH),
    "multilingual-e5-small": (models.me5_small, None),
    "all-mpnet-base-v2": (models.mpnet, ENGLISH),
}
"""Name -> its directory, and the languages that it knows, where these are few."""


@dataclass(frozen=True)
class Subject:
    """A bundle, and the model that it was made of, where peers are to be made of it."""

    name: str
    bundle: Path
    languages: Languages
    model: Path | None

    def opened(self, threads: int) -> Iterator[Any]:
        """The variants that run here, then peers, one by one."""
        for variant in VARIANTS:
            try:
                yield Embedder(self.bundle, variant=variant, num_threads=threads)  # type: ignore[arg-type]
            except EmbedrtError as exc:
                print(f"{self.name}: without {variant}: {exc}", flush=True)
        prompts = open_bundle(self.bundle).manifest.prompts
        for peer in PEERS if self.model is not None else ():
            try:
                yield PeerModel(peer, self.model, prompts, available_cpus()[:threads])
            except (SystemFailed, artifacts.BuildError) as exc:
                print(f"{self.name}: without {peer}: {exc}", flush=True)


def parity_of(subject: Subject, threads: int) -> Iterator[Parity]:
    """Of everything that runs here."""
    kept = read_parity_files(open_bundle(subject.bundle))
    for system in subject.opened(threads):
        with system:
            found = compare_vectors(kept.vectors, system.encode_detailed(list(kept.texts)).embeddings)
            assert found.centered is not None, "there are more texts than one"
            cosine = found.cosine
            figures = (cosine.mean, cosine.p01, cosine.min, found.centered.min)
            yield Parity(subject.name, system.variant, system.executor, found.num_texts, *figures)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; writes tasks.json and tasks.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.tasks", description=__doc__)
    parser.add_argument(
        "bundles",
        nargs="*",
        metavar="BUNDLE",
        help='instead of exporting the three; with ":en" behind it: English only',
    )
    for kind, names in asdict(Languages()).items():
        parser.add_argument(f"--{kind}", type=_listed, default=names, metavar="LIST", help=f"of {', '.join(names)}")
    parser.add_argument("--peers", action="store_true", help="other engines' int8, of the models that are known here")
    parser.add_argument("--resume", action="store_true", help="keep what the folder's tasks.json has")
    parser.add_argument("--out", type=Path, default=REPO / "bench" / "results" / "local", help="folder of the results")
    given = parser.parse_args(arguments)
    results = _read(given.out) if given.resume else Results()
    given.out.mkdir(parents=True, exist_ok=True)
    for subject in _subjects(given):
        _measure(subject, results, given.out)
    print(f"\n{describe_machine(len(available_cpus())).cpu}, {date.today()}\n\n{results}")
    return 0


def _subjects(given: argparse.Namespace) -> Iterator[Subject]:
    languages = Languages(given.stsb, given.tatoeba, given.xquad)
    for name, (model, few) in TRAINED.items() if not given.bundles else ():
        bundle = artifacts.ensure("bundle", model(), print)
        yield Subject(name, bundle, few or languages, model() if given.peers else None)
    for argument in given.bundles:
        path, _, which = argument.partition(":")
        name = open_bundle(path).manifest.source.model.rpartition("/")[2]
        known = TRAINED.get(name)
        chosen = ENGLISH if which == "en" else languages
        subject = Subject(name, Path(path), chosen, known[0]() if known and given.peers else None)
        _check_tokenizer(subject)
        yield subject


def _check_tokenizer(subject: Subject) -> None:
    """Peers read the model's tokenizer: where the bundle's gives other ids, they would be judged on other texts."""
    bundle = open_bundle(subject.bundle)
    texts, most = list(read_parity_files(bundle).texts), bundle.manifest.max_tokens
    if subject.model is not None:
        peers = load_tokenizer(subject.model)
        peers.enable_truncation(most)
        own = TextTokenizer(bundle.path(bundle.manifest.tokenizer), most)(texts).token_ids
        if [encoding.ids for encoding in peers.encode_batch(texts)] != [ids.tolist() for ids in own]:
            raise SystemExit(f"{subject.bundle} has another tokenizer than {subject.model}: export it again")


def _measure(subject: Subject, results: Results, folder: Path) -> None:
    threads = len(available_cpus())
    if not any(one.model == subject.name for one in results.parity):
        results.parity.extend(parity_of(subject, threads))
        _write(folder, results, threads)
    with Embedder(subject.bundle, num_threads=threads) as model:
        prompts = prompts_of(model)
    for task in tasks(subject.languages):
        if any((subject.name, task.name, task.size) == (kept, done.name, done.size) for kept, done in results.tasks):
            continue
        result = compare(subject.opened(threads), [task], prompts, NullProgress()).tasks[0]
        results.tasks.append((subject.name, result))
        print(table([(subject.name, replace(result, metrics=result.metrics[:1]))]), flush=True)
        _write(folder, results, threads)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _read(folder: Path) -> Results:
    kept = json.loads((folder / "tasks.json").read_text())
    return Results(
        [decode(Parity, one) for one in kept["parity"]],
        [(one.pop("model"), decode(TaskResult, one)) for one in kept["results"]],
    )


def _write(folder: Path, results: Results, threads: int) -> None:
    value = {
        "machine": asdict(describe_machine(threads)),
        "date": str(date.today()),
        "parity": [asdict(one) for one in results.parity],
        "results": [{"model": model, **asdict(task)} for model, task in results.tasks],
    }
    (folder / "tasks.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    (folder / "tasks.md").write_text(f"{value['machine']['cpu']}, {value['date']}\n\n{results}")


if __name__ == "__main__":
    raise SystemExit(main())
