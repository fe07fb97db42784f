"""Plots of a run: speed per shape, and speed against deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.systems import SYSTEMS
from bench.texts import VERIFY_TEXTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from bench.measured import Report

_COLORS = {"fp32": "#7f8c9b", "bf16": "#3b7dd8", "int8": "#d9822b"}
_OURS = "#b3261e"
_FLOOR = 1e-7  # deviations below are drawn here


@dataclass(frozen=True)
class Dot:
    """A system's speed at a shape, and how far its worst text is off."""

    title: str
    ours: bool
    compute: str
    deviation: float
    tokens_per_s: float

    @classmethod
    def of(cls, system: str, deviation: float, tokens_per_s: float) -> Dot:
        """`system`: a key of `bench.systems.SYSTEMS`."""
        spec = SYSTEMS[system]
        return cls(spec.title, system.startswith("ours"), spec.compute, max(_FLOOR, deviation), tokens_per_s)

    @property
    def color(self) -> str:
        """By its arithmetic; ours have one of their own."""
        return _OURS if self.ours else _COLORS[self.compute]


def write_plots(report: Report, out: Path, stem: str) -> list[Path]:
    """PNG and SVG of each plot that there are results for."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    written: list[Path] = []
    shapes = report.case_names("shape")
    if shapes:
        columns = 3
        rows = -(-len(shapes) // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(15, 0.9 + 3.4 * rows), squeeze=False)
        for ax, shape in zip(axes.flat, shapes, strict=False):
            _bars(ax, report, "shape", shape)
        for ax in axes.flat[len(shapes) :]:
            ax.set_visible(False)
        _legend(figure)
        figure.suptitle(f"{report.facts.name}: tokens/s by batch x tokens, {report.machine.threads} threads")
        written += _save(figure, out, f"{stem}-shapes")
    sets = report.case_names("ragged")  # those that were timed
    if sets:
        figure, axes = plt.subplots(1, len(sets), figsize=(7 * len(sets), 4.8), squeeze=False)
        for ax, name in zip(axes.flat, sets, strict=True):
            _bars(ax, report, "ragged", name)
        _legend(figure)
        figure.suptitle(f"{report.facts.name}: ragged sets, real tokens/s of the whole call, best batching of each")
        written += _save(figure, out, f"{stem}-ragged")
    if shapes:
        largest = max(shapes, key=lambda name: next(s.case.num_tokens for s in report.series if s.case.name == name))
        written += write_scatter(
            [
                Dot.of(name, 1 - one.deviation.centered_min, series.tokens_per_s)
                for name, one in report.systems.items()
                if (series := report.best("shape", largest, name))
            ],
            report.facts.name, report.machine.threads, largest, out, stem,
        )  # fmt: skip
    plt.close("all")
    return written


def write_scatter(dots: Sequence[Dot], model: str, threads: int, shape: str, out: Path, stem: str) -> list[Path]:
    """PNG and SVG of speed against deviation at one shape."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(9, 6))
    _scatter(ax, dots, f"{model}: speed against deviation of the worst text, {threads} threads", shape)
    written = _save(figure, out, f"{stem}-speed-deviation")
    plt.close(figure)
    return written


def _handles() -> list[Patch]:
    from matplotlib.patches import Patch

    kinds = {"embedrt": _OURS, **_COLORS}
    return [Patch(color=color, label=name) for name, color in kinds.items()]


def _legend(figure: Figure) -> None:
    figure.legend(handles=_handles(), frameon=False, fontsize=8, loc="upper right", ncols=4)


def _bars(ax: Axes, report: Report, kind: str, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    found = [(one, s) for key, one in report.systems.items() if (s := report.best(kind, name, key))]
    found.sort(key=lambda pair: pair[1].tokens_per_s)
    speeds = [s.tokens_per_s for _, s in found]
    low = [v - s.case.num_tokens / max(s.medians) for v, (_, s) in zip(speeds, found, strict=True)]
    high = [s.case.num_tokens / min(s.medians) - v for v, (_, s) in zip(speeds, found, strict=True)]
    colors = [_OURS if one.spec.name.startswith("ours") else _COLORS[one.spec.compute] for one, _ in found]
    labels = [one.spec.title for one, _ in found]
    bars = ax.barh(labels, speeds, color=colors, xerr=(low, high), error_kw={"lw": 0.8, "ecolor": "#333333"})
    ax.bar_label(bars, labels=[f" {speed:,.0f}" for speed in speeds], fontsize=7, padding=6)
    ax.set_title(name, fontsize=10)
    ax.set_xlim(0, max(v + h for v, h in zip(speeds, high, strict=True)) * 1.18)
    ax.tick_params(labelsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.spines[["top", "right"]].set_visible(False)


def _scatter(ax: Axes, dots: Sequence[Dot], title: str, shape: str) -> None:
    for dot in dots:
        ax.scatter(dot.deviation, dot.tokens_per_s, s=90 if dot.ours else 45, color=dot.color, zorder=3)
    taken: list[tuple[float, float]] = []
    top = max(dot.tokens_per_s for dot in dots)
    for dot in sorted(dots, key=lambda dot: -dot.tokens_per_s):
        x, y = dot.deviation, dot.tokens_per_s
        at = y
        covered = [(one.deviation, one.tokens_per_s) for one in dots if 1 < one.deviation / x < 12]  # by the label
        while any(abs(at - other) < 0.035 * top and 0.02 < x / where < 50 for where, other in [*taken, *covered]):
            at -= 0.012 * top
        taken.append((x, at))
        line = {"arrowstyle": "-", "color": "#9aa3ad", "lw": 0.6, "relpos": (0, 0.5)} if at != y else None
        ax.annotate(dot.title, (x, y), (x * (1.25 if at == y else 1.8), at), fontsize=8, va="center", arrowprops=line)
    ax.set_xscale("log")
    ax.set_xlim(_FLOOR / 2, 30)  # room for the labels
    ax.set_xticks([10.0**k for k in range(-7, 1)], ["<1e-7", *(f"1e{k}" for k in range(-6, 0)), "1"])
    ax.minorticks_off()
    ax.set_ylim(bottom=min(0.0, min(at for _, at in taken) - 0.05 * top))
    worst = f"the worst of {len(VERIFY_TEXTS)} texts against PyTorch fp32"
    ax.set_xlabel(f"1 - centered cosine of {worst} (left is better)")
    ax.set_ylabel(f"tokens/s at {shape} (up is better)")
    ax.set_title(title)
    ax.legend(handles=_handles(), frameon=False, fontsize=8, loc="upper left")
    ax.grid(True, which="major", alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, out: Path, name: str) -> list[Path]:
    paths = [out / f"{name}.png", out / f"{name}.svg"]
    figure.tight_layout()
    for path in paths:
        figure.savefig(path, dpi=130)
    return paths
