"""Bitext mining on Tatoeba (Artetxe and Schwenk, 2019, arXiv:1812.10464): what `embedrt mine A B` finds, by its F1.

The data is the folder data/tatoeba/v1 of github.com/facebookresearch/LASER: up to 1,000 sentences of a language in
tatoeba.XXX-eng.XXX, line by line with their English in tatoeba.XXX-eng.eng.

usage: python -m bench.tatoeba BUNDLE DATA [--languages kor,jpn] [--prompt "query: "]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedrt import Embedder, util

LANGUAGES = (
    "kor", "jpn", "cmn", "tha", "vie", "ind", "hin", "ara", "tur", "rus", "ukr", "pol", "ces", "deu", "nld", "fra",
    "spa", "ita", "por", "ell", "hun",
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """Of the mined pairs, how many are right, and how many of the right ones were found."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def lines(path: Path) -> list[str]:
    """The sentences of a file."""
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def scored(found: list[list[float | int]], english: list[str]) -> Score:
    """A pair is right if it is the right line, or one with the very same English sentence."""
    right = sum(english[int(i)] == english[int(j)] for _, i, j in found)
    return Score(right / max(len(found), 1), right / len(english))


def main() -> None:
    """Print a row per language: nearest neighbours by cosine, then pairs by margin, all and above a threshold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--languages", default=",".join(LANGUAGES), type=lambda text: text.split(","))
    parser.add_argument("--prompt", default="query: ")
    parser.add_argument("--threshold", default=1.05, type=float)
    given = parser.parse_args()
    print("| language | pairs | nearest, F1 | mined, F1 | mined from", given.threshold, "on: precision, recall, F1 |")
    print("|---|---|---|---|---|")
    rows = []
    with Embedder(given.bundle) as embedder:
        for language in given.languages:
            stem = f"tatoeba.{language}-eng"
            texts, english = (lines(given.data / f"{stem}.{end}") for end in (language, "eng"))
            a, b = (embedder.encode(side, prompt=given.prompt) for side in (texts, english))
            nearest = [[hits[0]["score"], i, hits[0]["corpus_id"]] for i, hits in enumerate(util.semantic_search(a, b))]
            mined = util.mine_translations(a, b)
            sure = scored([pair for pair in mined if pair[0] >= given.threshold], english)
            scores = (scored(nearest, english).f1, scored(mined, english).f1, sure.precision, sure.recall, sure.f1)
            rows.append(scores)
            print(_line(language, len(english), scores), flush=True)
    print(_line("mean", "", np.mean(rows, axis=0)))


def _line(name: str, count: object, scores: object) -> str:
    nearest, mined, precision, recall, f1 = (f"{100 * score:.1f}" for score in np.asarray(scores))
    return f"| {name} | {count} | {nearest} | {mined} | {precision}, {recall}, {f1} |"


if __name__ == "__main__":
    main()
