"""`embedrt eval`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import Failure, make_command

if TYPE_CHECKING:
    from rich.console import Console

    from embedrt.embedder import Embedder
    from embedrt.evaluation.compare import Comparison, TaskResult
    from embedrt.evaluation.estimate import Estimate
    from embedrt.evaluation.tasks import Prompts, Task

VARIANTS = tuple(name for name in o.VARIANTS if name != "auto")
_DEFAULT_VARIANTS = ("fp32", "int8", "bf16")
_FILE = o.HomePath(path_type=Path, dir_okay=False, exists=True)


def _columns(count: int, what: str) -> Callable[..., tuple[str, ...]]:
    def read(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
        names = tuple(part.strip() for part in value.split(","))
        numbers = [name.isdigit() for name in names]
        if len(names) != count or not all(names) or any(numbers) != all(numbers):
            raise click.BadParameter(f"{value!r} is not {what}: all names, or all numbers", ctx, param)
        return names

    return read


@make_command(
    "eval",
    "Score a bundle's variants on your own texts.",
    examples=(
        ("how alike pairs are (STS-B, KorSTS)", "embedrt eval e5 --pairs sts-test.tsv --prompt 'query: '"),
        ("a file without a header: columns by number", "embedrt eval e5 --pairs stsb-de-test.csv --columns 1,2,3"),
        (
            "retrieval, as BEIR has it",
            "embedrt eval e5 --queries queries.jsonl --corpus corpus.jsonl \\\n      --qrels test.tsv",
        ),
        ("translations, and questions of SQuAD's kind", "embedrt eval e5 --bitext ko.txt en.txt --squad xquad.ko.json"),
        ("fail where int8 costs over a point", "embedrt eval e5 --pairs sts.tsv --variants fp32,int8 --max-loss 1"),
    ),
)
@o.bundle_argument
@click.option("--pairs", type=_FILE, multiple=True, metavar="FILE", help="Two texts and a score in each record.")
@click.option("--columns", default="sentence1,sentence2,score", show_default=True, metavar="A,B,SCORE",
              callback=_columns(3, "two texts and a score"),
              help="Columns of --pairs; numbers from 1 if the file has no header.")  # fmt: skip
@click.option("--queries", type=_FILE, metavar="FILE", help="Queries with ids; with --corpus and --qrels.")
@click.option("--corpus", type=_FILE, metavar="FILE", help="Texts with ids (_id or id); a title stands in front.")
@click.option("--qrels", type=_FILE, metavar="FILE",
              help="Judgments: query-id, corpus-id, score; or TREC's four fields.")  # fmt: skip
@click.option("--squad", type=_FILE, multiple=True, metavar="FILE", help="Retrieval out of SQuAD's JSON.")
@click.option("--bitext", type=_FILE, nargs=2, multiple=True, metavar="A B", help="Translations, line by line.")
@click.option("--clusters", type=_FILE, multiple=True, metavar="FILE", help="A text and its label in each record.")
@click.option("--label-columns", default="text,label", show_default=True, metavar="TEXT,LABEL",
              callback=_columns(2, "a text and a label"), help="Columns of --clusters.")  # fmt: skip
@click.option("--encoding", metavar="NAME", help="Encoding of the files.  [default: UTF-8]")
@click.option("--delimiter", metavar="CHAR", help="What separates fields of .csv and .tsv.")
@click.option("--quoting", type=click.Choice(o.QUOTINGS), help="Whether fields may stand in double quotes.")
@click.option("--prompt", help="Put this before texts of pairs, translations and clusters.")
@click.option("--prompt-name", help="Use the bundle's prompt of this name for them.")
@click.option("--task", help="Task that fills the query prompt of retrieval, for instruct models.")
@click.option("--variants", **o.named_list(VARIANTS, "Variants to score; others are compared with the first"))
@click.option("--max-loss", type=click.FloatRange(min=0), metavar="POINTS",
              help="Exit with 1 if a variant loses more than this to the first.")  # fmt: skip
@click.option("--samples", type=click.IntRange(min=10), default=1000, show_default=True, help="Draws of an interval.")
@o.json_option("the scores")
@o.device_option
@o.executor_option
@o.isa_option
@o.threads_option
@o.quiet_option
def command(bundle: Path, **given: Any) -> None:
    """Score the variants of BUNDLE on files of your own, and say what each costs beside the first.

    Scores are times 100: Spearman's correlation for pairs, nDCG@10 for retrieval, F1 of mining for translations,
    V-measure of k-means for clusters. Each has the interval in which it would lie for 95 of 100 samples of as many
    items (bootstrap), and so has the difference, on the same items. Without --variants: fp32, int8 and bf16, those
    that the bundle and this machine have.
    """
    tasks = _tasks(given)
    prompts = _prompts(given)
    from embedrt.evaluation.compare import compare

    found = compare(_models(bundle, given), tasks, prompts, o.step_progress(given["quiet"]), given["samples"])
    if given["json_path"] is not None:
        _write_json(bundle, found, given["json_path"])
    if given["json_path"] is None or str(given["json_path"]) != "-":
        _print(found, o.stdout_console())
    if given["max_loss"] is not None and (lost := found.losses(given["max_loss"])):
        raise Failure(f"error: {'; '.join(lost)}; {given['max_loss']:g} may be lost")


def _tasks(given: dict[str, Any]) -> list[Task]:
    """The files that were given, read.

    Raises:
        click.UsageError: none, or a part of a retrieval is missing.
    """
    retrieval = [given[name] for name in ("queries", "corpus", "qrels")]
    if any(retrieval) and not all(retrieval):
        raise click.UsageError("--queries, --corpus and --qrels go together")
    if not any([*retrieval, *(given[name] for name in ("pairs", "squad", "bitext", "clusters"))]):
        raise click.UsageError("give something to score: --pairs, --queries, --squad, --bitext or --clusters")
    from embedrt.commands import eval_files as files
    from embedrt.commands.reading.encodings import checked_encoding
    from embedrt.commands.reading.separated import delimiter_of

    encoding, delimiter = given["encoding"], given["delimiter"]
    reading = files.Reading(
        None if encoding is None else checked_encoding(encoding),
        None if delimiter is None else delimiter_of(delimiter),
        given["quoting"],
    )
    tasks: list[Task] = [files.read_pairs(path, given["columns"], reading) for path in given["pairs"]]
    if all(retrieval):
        queries, corpus, qrels = retrieval
        tasks.append(files.read_beir(queries, corpus, qrels, reading))
    tasks += [files.read_squad(path) for path in given["squad"]]
    tasks += [files.read_bitext(a, b, reading) for a, b in given["bitext"]]
    tasks += [files.read_clusters(path, given["label_columns"], reading) for path in given["clusters"]]
    return tasks


def _prompts(given: dict[str, Any]) -> Prompts:
    if given["prompt"] is not None and given["prompt_name"] is not None:
        raise click.UsageError("--prompt and --prompt-name exclude each other")
    from embedrt.evaluation.tasks import Prompts

    alike = {name: given[name] for name in ("prompt", "prompt_name") if given[name] is not None}
    task = {} if given["task"] is None else {"task": given["task"]}
    return Prompts(alike, {"kind": "query", **task}, {"kind": "document"})


def _models(bundle: Path, given: dict[str, Any]) -> Iterator[Embedder]:
    """The variants, each opened when it is its turn; of those that were not asked for by name, the ones that run."""
    from embedrt.embedder import Embedder
    from embedrt.errors import EmbedrtError
    from embedrt.loading import find_bundle

    found = find_bundle(bundle)
    keywords = {"num_threads": given["threads"], **{name: given[name] for name in ("device", "executor", "isa")}}
    count = 0
    for name in given["variants"] or _DEFAULT_VARIANTS:
        try:
            model = Embedder(found, **{**keywords, "variant": name})
        except EmbedrtError as exc:
            if given["variants"]:
                raise
            if not given["quiet"]:
                click.echo(f"without {name}: {' '.join(str(exc).split())}", err=True)
            continue
        count += 1
        yield model
    if not count:
        raise click.UsageError(f"none of {', '.join(_DEFAULT_VARIANTS)} runs here; choose with --variants")


def _write_json(bundle: Path, found: Comparison, path: Path) -> None:
    from embedrt.commands.tables import write_whole

    text = json.dumps({"bundle": str(bundle), **found.to_json()}, ensure_ascii=False, indent=1)
    if str(path) == "-":
        click.echo(text)
    else:
        write_whole(path, text + "\n")


def _print(found: Comparison, console: Console) -> None:
    for task in found.tasks:
        _print_task(task, found.variants[0].variant, console)


def _print_task(task: TaskResult, first: str, console: Console) -> None:
    from rich.text import Text

    from embedrt.cli.tables import compact_table
    from embedrt.commands.labels import label

    console.print(Text(f"{label(task.name, max(20, console.width - len(task.size) - 2))}: {task.size}", "bold"))
    table = compact_table(
        ("", "left"), ("", "left"), ("score", "right"), ("95 of 100", "right"), (f"to {first}", "right"),
        ("95 of 100", "right"),
    )  # fmt: skip
    for metric in task.metrics:
        for place, score in enumerate(metric.scores):
            name = "" if place else metric.name
            gain = score.to_first
            cells = ("", "") if gain is None else (_number(gain.value, "+"), _interval(gain, "+"))
            table.add_row(name, score.variant, _number(score.value.value), _interval(score.value), *cells)
    console.print(table)
    console.print()


def _interval(found: Estimate, sign: str = "") -> str:
    return f"{_number(found.low, sign)} to {_number(found.high, sign)}"


def _number(value: float, sign: str = "") -> str:
    return f"{round(value, 2) + 0.0:{sign}.2f}"  # + 0.0: no minus before a zero
