"""`python -m bench.long_texts BUNDLE`: what becomes of texts over the model's limit, on KorQuAD 1.0's dev set.

The corpus is all 964 paragraphs; the questions are those of the paragraphs that have more tokens than the model takes,
and of these the ones whose answer lies behind the cut once more. A paragraph is as near to a question as its nearest
vector is. Recall at 1 and at 10, each with its difference from cutting, for 95 of 100 draws of the questions; and in
how many cases the nearest piece of the right paragraph holds the answer.

Prompts are the bundle's for queries and documents, else E5's. Without the data, it says so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.machine import available_cpus, describe_machine
from bench.paths import DATA
from embedrt import Embedder
from embedrt.evaluation.estimate import Estimate, difference, estimate, mean_of
from embedrt.evaluation.scores import recall
from embedrt.vectors.nearest import nearest

KORQUAD = DATA / "korquad1_dev" / "KorQuAD_v1.0_dev.json"
E5_PROMPTS = {"query": "query: ", "document": "passage: "}
SIZES = (256, 128)


@dataclass(frozen=True)
class Question:
    """A question about a long paragraph."""

    text: str
    paragraph: int
    answer: int  # character where its answer begins
    is_behind: bool  # the cut


@dataclass(frozen=True)
class Rows:
    """Vectors of the paragraphs, several of some."""

    vectors: NDArray[np.float32]  # (N, D)
    owner: NDArray[np.int64]  # (N,) the paragraph of each
    spans: list[tuple[int, int]] | None  # characters of each; None where each is a whole paragraph


@dataclass(frozen=True)
class Outcome:
    """What one way finds."""

    way: str
    num_vectors: int
    at_1: NDArray[np.float64]  # (Q,) of each question, 0 or 1
    at_10: NDArray[np.float64]
    place: NDArray[np.float64] | None  # (Q,) whether the nearest piece of the right paragraph holds the answer


def read(path: Path) -> tuple[list[str], list[tuple[str, int, int]]]:
    """Paragraphs; and questions with their paragraph and where in it the answer begins."""
    data = json.loads(path.read_text(encoding="utf-8"))["data"]
    paragraphs, questions = [], []
    for paragraph in (paragraph for article in data for paragraph in article["paragraphs"]):
        questions += [(q["question"], len(paragraphs), q["answers"][0]["answer_start"]) for q in paragraph["qas"]]
        paragraphs.append(paragraph["context"])
    return paragraphs, questions


def long_ones(model: Embedder, paragraphs: Sequence[str], questions: Sequence[tuple[str, int, int]]) -> list[Question]:
    """The questions about paragraphs that the model does not take whole."""
    prompt = model.prompts["document"]
    counts = model.count_tokens(prompt + text for text in paragraphs)
    return [
        Question(text, at, answer, model.count_tokens(prompt + paragraphs[at][:answer]) >= model.max_tokens)
        for text, at, answer in questions
        if counts[at] > model.max_tokens
    ]


def ways(model: Embedder, paragraphs: Sequence[str]) -> dict[str, Callable[[], Rows]]:
    """Name -> the paragraphs' vectors."""

    def whole(overflow: str) -> Rows:
        vectors = model.encode_detailed(paragraphs, kind="document", on_overflow=overflow).embeddings  # type: ignore[arg-type]
        return Rows(vectors, np.arange(len(paragraphs)), None)

    def pieces(context: str, tokens: int) -> Rows:
        found = model.encode_windows(paragraphs, kind="document", context=context, tokens=tokens)  # type: ignore[arg-type]
        spans = [(piece.start, piece.end) for piece in found]
        return Rows(np.stack([piece.vector for piece in found]), np.array([piece.index for piece in found]), spans)

    named: dict[str, Callable[[], Rows]] = {"cut": lambda: whole("truncate"), "windows": lambda: whole("windows")}
    for size in SIZES:
        named[f"pieces of {size}"] = lambda size=size: pieces("none", size)  # type: ignore[misc]
        named[f"late, pieces of {size}"] = lambda size=size: pieces("late", size)  # type: ignore[misc]
    return named


def judge(way: str, rows: Rows, queries: NDArray[np.float32], questions: Sequence[Question]) -> Outcome:
    """Rank the paragraphs for each question by their nearest vectors."""
    found = nearest(queries, rows.vectors, min(len(rows.vectors), 200)).rows
    ranked = [list(dict.fromkeys(rows.owner[row].tolist())) for row in found]
    relevant = [{question.paragraph: 1.0} for question in questions]
    place = None
    if rows.spans is not None:
        place = np.array([_holds(rows, query, question) for query, question in zip(queries, questions, strict=True)])
    return Outcome(way, len(rows.vectors), recall(ranked, relevant, k=1), recall(ranked, relevant, k=10), place)


def _holds(rows: Rows, query: NDArray[np.float32], question: Question) -> float:
    """1 if the nearest of the right paragraph's pieces holds the answer's beginning."""
    own = np.flatnonzero(rows.owner == question.paragraph)
    best = own[np.argmax(rows.vectors[own] @ query)]
    start, end = (rows.spans or [])[best]
    return float(start <= question.answer < end)


def table(outcomes: Sequence[Outcome], chosen: NDArray[np.bool_]) -> str:
    """Markdown; `chosen` (Q,) are the questions that count."""
    lines = [
        "| way | vectors | recall at 1 | to cut | recall at 10 | to cut | answer in the nearest piece |",
        "|---|---|---|---|---|---|---|",
    ]
    first = outcomes[0]
    for one in outcomes:
        cells = [one.way, f"{one.num_vectors:,}"]
        for mine, cut in ((one.at_1, first.at_1), (one.at_10, first.at_10)):
            mine, cut = mine[chosen], cut[chosen]
            cells.append(f"{100 * mine.mean():.1f}")
            cells.append("" if one is first else _shown(difference(mean_of(mine), mean_of(cut), len(mine))))
        cells.append("" if one.place is None else _percent(estimate(mean_of(one.place[chosen]), int(chosen.sum()))))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(gain: Estimate) -> str:
    return f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; prints two tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.long_texts", description=__doc__)
    parser.add_argument("bundle", type=Path, help="of a multilingual model, e.g. multilingual-e5-small")
    parser.add_argument("--variant", default="auto", help="of the bundle")
    given = parser.parse_args(arguments)
    if not KORQUAD.is_file():
        print(f"skipped: {KORQUAD} is not there (KorQuAD 1.0's dev set)")
        return 0
    threads = len(available_cpus())
    paragraphs, asked = read(KORQUAD)
    with Embedder(given.bundle, variant=given.variant, num_threads=threads) as opened:
        model = opened if {"query", "document"} <= set(opened.prompts) else opened.with_options(prompts=E5_PROMPTS)
        questions = long_ones(model, paragraphs, asked)
        queries = model.encode_query([question.text for question in questions])
        outcomes = [judge(way, embed(), queries, questions) for way, embed in ways(model, paragraphs).items()]
        what = f"{model.bundle.manifest.source.model}, {model.variant}, {model.executor}"
    behind = np.array([question.is_behind for question in questions])
    long = len({question.paragraph for question in questions})
    print(f"{what}; {describe_machine(threads).cpu}, {threads} threads, {date.today()}")
    print(f"\n{len(behind)} questions about {long} paragraphs over the limit, of {len(paragraphs)}:\n")
    print(table(outcomes, np.ones_like(behind)))
    print(f"\n{behind.sum()} of them, whose answer lies behind the cut:\n")
    print(table(outcomes, behind))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
