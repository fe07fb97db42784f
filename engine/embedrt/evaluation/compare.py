"""Variants of a bundle on the same tasks: each score with its interval, and what a variant costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from embedrt.evaluation.estimate import NUM_SAMPLES, Estimate, difference, estimate
from embedrt.evaluation.tasks import Metric, Prompts, Task
from embedrt.progress import Progress

if TYPE_CHECKING:
    from embedrt.embedder import Embedder


@dataclass(frozen=True)
class Ran:
    """A variant as it ran."""

    variant: str
    executor: str
    identity: str


@dataclass(frozen=True)
class Score:
    """One metric of one variant."""

    variant: str
    value: Estimate
    to_first: Estimate | None  # how much it is above the first variant, on the same items; None for that one


@dataclass(frozen=True)
class MetricResult:
    """One metric of all variants."""

    name: str
    num_items: int
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class TaskResult:
    """One task."""

    name: str
    size: str
    metrics: tuple[MetricResult, ...]  # the main one first


@dataclass(frozen=True)
class Comparison:
    """All tasks of all variants."""

    variants: tuple[Ran, ...]  # the one that others are compared with first
    tasks: tuple[TaskResult, ...]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)

    def losses(self, points: float) -> list[str]:
        """Variants that lose more than so many points of a task's main metric, in words."""
        return [
            f"{score.variant} loses {-score.to_first.value:.2f} points of {task.metrics[0].name} in {task.name}"
            for task in self.tasks
            for score in task.metrics[0].scores
            if score.to_first is not None and -score.to_first.value > points
        ]


def compare(
    models: Iterable[Embedder],
    tasks: Sequence[Task],
    prompts: Prompts,
    progress: Progress,
    num_samples: int = NUM_SAMPLES,
) -> Comparison:
    """Measure every task with every variant; where `models` opens them one by one, one is in memory at a time.

    Args:
        models: variants, closed when they are done with; the first is what the others are compared with.
        tasks: what to measure.
        prompts: of the texts.
        progress: told of each task.
        num_samples: draws of an interval.
    """
    ran: list[Ran] = []
    metrics: list[list[list[Metric]]] = [[] for _ in tasks]  # by task, then variant
    for model in models:
        with model:
            ran.append(Ran(model.variant, model.executor, model.identify(**prompts.document)))
            for task, found in zip(tasks, metrics, strict=True):
                with progress.step(f"{model.variant}: {task.name}", task.num_texts) as advance:
                    found.append(task.measure(model, prompts))
                    advance(task.num_texts)
    with progress.step("intervals"):
        results = tuple(
            TaskResult(
                task.name, task.size, tuple(_scored(same, ran, num_samples) for same in zip(*found, strict=True))
            )
            for task, found in zip(tasks, metrics, strict=True)
        )
    return Comparison(tuple(ran), results)


def _scored(metrics: Sequence[Metric], ran: Sequence[Ran], num_samples: int) -> MetricResult:
    """One metric of all variants, in their order."""
    first = metrics[0]
    scores = [
        Score(
            one.variant,
            estimate(metric.over, metric.num_items, num_samples),
            None if metric is first else difference(metric.over, first.over, metric.num_items, num_samples),
        )
        for one, metric in zip(ran, metrics, strict=True)
    ]
    return MetricResult(first.name, first.num_items, tuple(scores))
