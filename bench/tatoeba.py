"""Bitext mining on Tatoeba (Artetxe and Schwenk, 2019, arXiv:1812.10464): what `embedrt mine A B` finds, by its F1.

The data is the folder data/tatoeba/v1 of github.com/facebookresearch/LASER: up to 1,000 sentences of a language in
tatoeba.XXX-eng.XXX, line by line with their English in tatoeba.XXX-eng.eng.

usage: python -m bench.tatoeba BUNDLE DATA [--languages kor,jpn] [--prompt "query: "]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedrt import Embedder, util

LANGUAGES = (
    "kor", "jpn", "cmn", "tha", "vie", "ind", "hin", "ara", "tur", "rus", "ukr", "pol", "ces", "deu", "nld", "fra",
    "spa", "ita", "por", "ell", "hun",
)  # fmt: skip

THRESHOLDS = (1.0, 1.01, 1.02, 1.03, 1.05)


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
    """Print F1 per language (nearest neighbours by cosine, pairs by margin), then what thresholds of the margin do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--languages", default=",".join(LANGUAGES), type=lambda text: text.split(","))
    parser.add_argument("--prompt", default="query: ")
    given = parser.parse_args()
    print("| language | pairs | nearest, F1 | mined, F1 |\n|---|---|---|---|")
    scores, mined = [], []
    with Embedder(given.bundle) as embedder:
        for language in given.languages:
            stem = f"tatoeba.{language}-eng"
            texts, english = (lines(given.data / f"{stem}.{end}") for end in (language, "eng"))
            a, b = (embedder.encode(side, prompt=given.prompt) for side in (texts, english))
            nearest = [[hits[0]["score"], i, hits[0]["corpus_id"]] for i, hits in enumerate(util.semantic_search(a, b))]
            mined.append((util.mine_translations(a, b), english))
            scores.append([scored(nearest, english).f1, scored(*mined[-1]).f1])
            print(f"| {language} | {len(english):,} | {_percents(scores[-1])} |", flush=True)
    print(f"| mean | | {_percents(np.mean(scores, axis=0))} |")
    print("\n| margin from | precision | recall | F1, means |\n|---|---|---|---|")
    for threshold in THRESHOLDS:
        kept = [scored([pair for pair in pairs if pair[0] >= threshold], english) for pairs, english in mined]
        means = np.mean([[one.precision, one.recall, one.f1] for one in kept], axis=0)
        print(f"| {threshold} | {_percents(means)} |")


def _percents(shares: Iterable[float]) -> str:
    return " | ".join(f"{100 * share:.1f}" for share in shares)


if __name__ == "__main__":
    main()
