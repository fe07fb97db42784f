"""What `bench.tasks` found, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.peer_models import PEERS
from embedrt.evaluation.compare import MetricResult, Score, TaskResult

VARIANTS = ("fp32", "int8", "bf16")


@dataclass(frozen=True)
class Parity:
    """One system's vectors of a bundle's parity texts against PyTorch's in fp32, which the bundle keeps."""

    model: str
    system: str
    executor: str
    num_texts: int
    cosine_mean: float
    cosine_p01: float
    cosine_min: float
    centered_min: float


@dataclass
class Results:
    """What was measured so far."""

    parity: list[Parity] = field(default_factory=list)
    tasks: list[tuple[str, TaskResult]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{parity_table(self.parity)}\n{table(self.tasks)}"


def parity_table(found: Sequence[Parity]) -> str:
    """Markdown: a row for each system."""
    lines = ["| model | | cosine, mean | 1st percentile | min | less the mean, min |", "|---|---|---|---|---|---|"]
    for one in found:
        figures = (one.cosine_mean, one.cosine_p01, one.cosine_min, one.centered_min)
        lines.append(f"| {one.model} | {one.system} | " + " | ".join(f"{figure:.5f}" for figure in figures) + " |")
    return "\n".join(lines) + "\n"


def table(found: Sequence[tuple[str, TaskResult]]) -> str:
    """Markdown: a row for each metric of each task that stands for all of its languages; behind fp32 differences."""
    ran = {score.variant for _, task in found for metric in task.metrics for score in metric.scores}
    others = [name for name in (*VARIANTS[1:], *PEERS) if name in ran]
    lines = [
        f"| model | task | items | metric | {' | '.join((VARIANTS[0], *others))} |",
        "|---" * (5 + len(others)) + "|",
    ]
    for model, task in found:
        for metric in task.metrics:
            if ": " not in metric.name:
                lines.append(_row(model, task.name, metric, others))
    return "\n".join(lines) + "\n"


def _row(model: str, name: str, metric: MetricResult, others: Sequence[str]) -> str:
    scores = {score.variant: score for score in metric.scores}
    first = scores.get(VARIANTS[0])
    cells = [model, name, f"{metric.num_items:,}", metric.name, "" if first is None else f"{first.value.value:.2f}"]
    return f"| {' | '.join([*cells, *(_gain(scores.get(other)) for other in others)])} |"


def _gain(score: Score | None) -> str:
    if score is None or score.to_first is None:
        return ""
    value, low, high = (
        round(number, 2) + 0.0 for number in (score.to_first.value, score.to_first.low, score.to_first.high)
    )
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
