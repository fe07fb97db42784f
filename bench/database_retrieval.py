"""`python -m bench.database_retrieval BUNDLE`: nDCG@10 of questions about paragraphs, by `index` and `search`.

KorQuAD 1.0's dev set (5,774 Korean questions, 960 paragraphs) and XQuAD (1,190 questions and 240 paragraphs in each of
twelve languages): the one right row is the paragraph. By vectors, by words with each of LanceDB's tokenizers,
and by both, fused by their ranks. That the database finds what exact search in memory does is checked on the way.

Prompts are the bundle's for queries and documents, else E5's. Without the data, it says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from bench.machine import available_cpus, describe_machine
from bench.paths import DATA
from embedrt import Embedder
from embedrt.databases import Database, Entry, IndexOptions, SearchOptions, index, open_database, search
from embedrt.evaluation.estimate import estimate, mean_of
from embedrt.evaluation.scores import ndcg
from embedrt.vectors.nearest import nearest

E5_PROMPTS = {"query": "query: ", "document": "passage: "}


@dataclass(frozen=True)
class Questions:
    """Paragraphs, each once, and questions with the number of their paragraph."""

    name: str
    paragraphs: tuple[str, ...]
    questions: tuple[str, ...]
    relevant: tuple[int, ...]


def read(name: str, path: Path) -> Questions:
    """A file of SQuAD's form."""
    numbers: dict[str, int] = {}
    asked, relevant = [], []
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
        number = numbers.setdefault(paragraph["context"], len(numbers))
        asked += [question["question"] for question in paragraph["qas"]]
        relevant += [number] * len(paragraph["qas"])
    return Questions(name, tuple(numbers), tuple(asked), tuple(relevant))


def some(asked: Questions, count: int) -> Questions:
    """At most `count` of the questions, seeded, about all of the paragraphs."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(asked.questions))[:count])
    questions, relevant = ([values[place] for place in chosen] for values in (asked.questions, asked.relevant))
    return Questions(asked.name, asked.paragraphs, tuple(questions), tuple(relevant))


def data_sets(languages: Sequence[str]) -> list[Questions]:
    """Those that are there."""
    files = {"KorQuAD": DATA / "korquad1_dev" / "KorQuAD_v1.0_dev.json"}
    files |= {f"XQuAD {language}": DATA / "xquad" / f"xquad.{language}.json" for language in languages}
    return [read(name, path) for name, path in files.items() if path.exists()]


def scores(model: Embedder, database: Database, asked: Questions, mode: str) -> np.ndarray:
    """nDCG@10 of each question (Q,)."""
    answers = search(model, database, asked.questions, SearchOptions(10, mode=mode))  # type: ignore[arg-type]
    ranked = [[int(hit.id) for hit in answer.hits] for answer in answers]
    return ndcg(ranked, [{number: 1.0} for number in asked.relevant])


def in_memory(model: Embedder, database: Database, asked: Questions) -> np.ndarray:
    """The same by exact search over the table's vectors, without the database's."""
    vectors = database.vectors([str(number) for number in range(len(asked.paragraphs))])
    found = nearest(model.encode_query(asked.questions), vectors, 10)
    return ndcg(found.rows.tolist(), [{number: 1.0} for number in asked.relevant])


def row_of(model: Embedder, asked: Questions, tokenizers: Sequence[str], folder: Path) -> str:
    """A line of the table."""
    entries = [Entry(text, str(number)) for number, text in enumerate(asked.paragraphs)]
    database = open_database(folder / asked.name.replace(" ", "-"), write=True)
    try:
        index(model, database, entries, IndexOptions(ids="number"))
        by_vector = scores(model, database, asked, "vector")
        if abs(by_vector.mean() - in_memory(model, database, asked).mean()) > 1e-4:
            sys.exit(f"{asked.name}: the database does not find what exact search in memory does")
        cells = [_shown(by_vector)]
        for tokenizer in tokenizers:
            index(model, database, entries, IndexOptions(ids="number", words=tokenizer))
            cells += [_shown(scores(model, database, asked, mode)) for mode in ("words", "both")]
    finally:
        database.close()
    return f"| {asked.name} | {len(asked.questions):,} in {len(asked.paragraphs):,} | {' | '.join(cells)} |"


def _shown(values: np.ndarray) -> str:
    found = estimate(mean_of(100 * values), len(values))
    return f"{found.value:.1f} ± {(found.high - found.low) / 2:.1f}"


def main() -> None:
    """Print the table, a line as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--languages", default="en,de,es,zh,ru,ar,th,hi,tr,vi,el,ro", type=lambda text: text.split(","))
    parser.add_argument("--tokenizers", default="ngram,icu,simple", type=lambda text: text.split(","))
    parser.add_argument("--questions", type=int, metavar="N", help="take at most so many of each set")
    given = parser.parse_args()
    found = [some(asked, given.questions or len(asked.questions)) for asked in data_sets(given.languages)]
    if not found:
        sys.exit(f"no published questions in {DATA}")
    titles = [f"{mode}, {tokenizer}" for tokenizer in given.tokenizers for mode in ("words", "both")]
    with Embedder(given.bundle) as plain, tempfile.TemporaryDirectory() as folder:
        model = plain.with_options(prompts={**E5_PROMPTS, **plain.prompts})
        print(f"{describe_machine(len(available_cpus())).cpu}, {date.today()}; {given.bundle.name}, {model.variant}\n")
        print(f"| nDCG@10 | questions | vectors | {' | '.join(titles)} |\n|{'---|' * (len(titles) + 3)}", flush=True)
        for asked in found:
            print(row_of(model, asked, given.tokenizers, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
