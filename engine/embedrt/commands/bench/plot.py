"""A benchmark as a picture: latency and throughput per configuration."""

from __future__ import annotations

from pathlib import Path

from embedrt.commands.bench.report import BenchReport
from embedrt.commands.fonts import import_matplotlib

SUFFIXES = (".png", ".svg")
_INKS = {"fp32": "#0072b2", "fp16": "#00785a", "int8": "#c24e00"}  # as on the page of parity


def draw(report: BenchReport, path: Path) -> None:
    """Write the picture.

    Raises:
        DependencyError: matplotlib is missing.
    """
    figure_class, _ = import_matplotlib()
    from matplotlib import ticker

    cells = report.cells[::-1]  # bars are drawn from the bottom
    names = [f"{r.cell.variant} {r.cell.executor}, {_threads(r.cell.threads)}, {r.cell.label}" for r in cells]
    inks = [_INKS.get(r.cell.variant, _INKS["fp32"]) for r in cells]
    places = range(len(cells))
    figure = figure_class(figsize=(10, 1.6 + 0.32 * len(cells)), dpi=150, layout="constrained")
    times, speeds = figure.subplots(1, 2, sharey=True)
    p50 = [result.p50_ms for result in cells]
    times.hlines(places, p50, [result.p99_ms for result in cells], colors=inks, alpha=0.4, linewidth=5)
    times.scatter(p50, places, s=36, c=inks, zorder=3)
    times.set_xscale("log")
    times.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    times.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    times.xaxis.set_minor_formatter(ticker.NullFormatter())
    times.set_yticks(places, names)
    times.set_xlabel("milliseconds per call")
    times.set_ylim(-0.7, len(cells) - 0.3)
    times.set_title("point: p50, bar: to p99", fontsize=9, loc="left")
    bars = speeds.barh(places, [result.tokens_per_s for result in cells], color=inks, height=0.6)
    speeds.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    speeds.margins(x=0.15)
    speeds.xaxis.set_major_locator(ticker.MaxNLocator(4))
    speeds.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    speeds.set_xlabel("tokens per second (median)")
    for axes in (times, speeds):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#dddddd")
        axes.set_axisbelow(True)
    figure.suptitle(
        f"{report.bundle} on {report.machine['cpu']}, onnxruntime {report.machine['onnxruntime']}", fontsize=10
    )
    figure.savefig(path)


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"
