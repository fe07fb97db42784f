"""A benchmark as a picture: latency and throughput per configuration, beside an earlier run's if there is one."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any

from embedrt.commands.bench.comparison import compare
from embedrt.commands.bench.report import BenchReport, Cell, CellResult
from embedrt.commands.fonts import import_matplotlib
from embedrt.commands.tables import write_aside, write_whole

SUFFIXES = (".png", ".svg", ".html")
_INKS = {"fp32": "#0072b2", "fp16": "#00785a", "int8": "#c24e00"}  # as on the page of parity
_EARLIER = "#8a919c"
_BAR = 0.6  # of a row


def draw(report: BenchReport, path: Path, earlier: BenchReport | None = None) -> None:
    """Write the picture in the format of the suffix.

    Raises:
        DependencyError: matplotlib is missing.
        FileFormatError: the disk is full.
    """
    figure = _figure(report, earlier)
    kind = path.suffix.lower().removeprefix(".")
    if kind != "html":
        write_aside(path, lambda part: figure.savefig(part, format=kind), hint="")
        return
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    svg = drawn.getvalue()
    title = html.escape(f"embedrt bench: {report.title}")
    page = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n<body>\n'
    write_whole(path, f"{page}{svg[svg.index('<svg') :]}</body></html>\n")


def _figure(report: BenchReport, earlier: BenchReport | None) -> Any:
    figure_class, _ = import_matplotlib()
    cells = report.cells[::-1]  # bars are drawn from the bottom
    before = _earlier_results(report, earlier)
    names = [_name(result.cell, before.get(result.cell)) for result in cells]
    figure = figure_class(figsize=(10, 1.9 + 0.34 * len(cells)), dpi=150, layout="constrained")
    times, speeds = figure.subplots(1, 2, sharey=True)
    _draw_times(times, cells, before)
    _draw_speeds(speeds, cells, before)
    times.set_yticks(range(len(cells)), names)
    times.set_ylim(-0.7, len(cells) - 0.3)
    for axes in (times, speeds):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#dddddd")
        axes.set_axisbelow(True)
    title = f"{report.title}, onnxruntime {report.machine['onnxruntime']}"
    if earlier is not None:
        title = f"now: {title}\nearlier (grey): {earlier.title}, onnxruntime {earlier.machine['onnxruntime']}"
    figure.suptitle(title, fontsize=10)
    return figure


def _earlier_results(report: BenchReport, earlier: BenchReport | None) -> dict[Cell, CellResult]:
    """The earlier run's result for each of this run's configurations that it has."""
    if earlier is None:
        return {}
    results = {result.cell: result for result in earlier.cells}
    return {ratio.cell: results[ratio.earlier_cell] for ratio in compare(earlier, report).ratios}


def _name(cell: Cell, before: CellResult | None) -> str:
    name = f"{cell.variant} {cell.executor}, {_threads(cell.threads)}, {cell.words}"
    other = None if before is None else before.cell
    if other is None or (other.threads, other.executor) == (cell.threads, cell.executor):
        return name
    executor = "" if other.executor == cell.executor else f"{other.executor}, "
    return f"{name}\n(earlier {executor}{_threads(other.threads)})"


def _draw_times(axes: Any, cells: tuple[CellResult, ...], before: dict[Cell, CellResult]) -> None:
    from matplotlib import ticker

    for place, result in enumerate(cells):
        ink = _INKS.get(result.cell.variant, _INKS["fp32"])
        shift = 0.18 if result.cell in before else 0.0
        for shown, at, color in ((result, place + shift, ink), (before.get(result.cell), place - shift, _EARLIER)):
            if shown is not None:
                axes.hlines([at], [shown.p50_ms], [shown.p99_ms], colors=[color], alpha=0.4, linewidth=5)
                axes.scatter([shown.p50_ms], [at], s=36, c=[color], zorder=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel("milliseconds per call")
    axes.set_title("point: p50, bar: to p99", fontsize=9, loc="left")


def _draw_speeds(axes: Any, cells: tuple[CellResult, ...], before: dict[Cell, CellResult]) -> None:
    from matplotlib import ticker

    for place, result in enumerate(cells):
        ink = _INKS.get(result.cell.variant, _INKS["fp32"])
        both = result.cell in before
        height = _BAR / 2 if both else _BAR
        shift = height / 2 if both else 0.0
        for shown, at, color in ((result, place + shift, ink), (before.get(result.cell), place - shift, _EARLIER)):
            if shown is not None:
                bars = axes.barh([at], [shown.tokens_per_s], color=color, height=height)
                axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=6 if both else 8)
    axes.margins(x=0.15)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("tokens per second (median)")


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"
