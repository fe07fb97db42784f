"""`embedrt bench`."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedrt.cli import options as o
from embedrt.cli.base import Option, make_command

if TYPE_CHECKING:
    from rich.console import Console

    from embedrt.bundle import Bundle
    from embedrt.commands.bench.comparison import Comparison, Ratio
    from embedrt.commands.bench.report import BenchReport, Cell
    from embedrt.commands.bench.run import BenchPlan


_BUSY = 0.25  # load per CPU


@make_command(
    "bench",
    "Measure speed and memory on this machine.",
    examples=(
        ("this machine, about a minute", "embedrt bench minilm"),
        ("two variants, one thread and four", "embedrt bench minilm --variants fp32,int8 --threads 1,4"),
        ("both executors, side by side", "embedrt bench minilm --executors native,onnxruntime"),
        ("your own texts, kept for later", "embedrt bench minilm --texts queries.txt --json before.json"),
        ("after a change", "embedrt bench minilm --texts queries.txt --compare before.json"),
    ),
)
@o.bundle_argument
@click.option("--variants", cls=Option, formerly=["--variant"], envvar="EMBEDRT_VARIANT",
              **o.named_list(o.VARIANTS, "Which variants", "auto"))  # fmt: skip
@o.device_option
@click.option("--executors", cls=Option, formerly=["--executor"], envvar="EMBEDRT_EXECUTOR",
              **o.named_list(o.EXECUTORS, "What computes", "auto"))  # fmt: skip
@o.isa_option
@click.option("--threads", callback=o.split_numbers, metavar="LIST", envvar="EMBEDRT_THREADS",
              help="Thread counts, e.g. 1,4.  [default: what affinity and cgroup quota allow]")  # fmt: skip
@click.option("--lengths", callback=o.split_numbers, metavar="LIST",
              help="Tokens per text.  [default: 16, 128 and the limit; none with --texts]")  # fmt: skip
@click.option("--batch-sizes", default="1,8", show_default=True, callback=o.split_numbers, metavar="LIST",
              help="Texts per call, e.g. 1,8.")  # fmt: skip
@click.option(
    "--texts", type=o.HomePath(), metavar="FILE", help="Your own texts in their order, the first 2,000 different ones."
)
@o.reading_options
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True,
              help="All configurations are measured in turn, so often.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True,
              help="Time to measure for, over all.")  # fmt: skip
@o.json_option("the results")
@click.option("--plot", type=o.HomePath(path_type=Path), callback=o.output_path(*o.PLOTS), metavar="OUT",
              help="Draw the results, beside those of --compare (.html, .svg, .png; needs embedrt[plot]).")  # fmt: skip
@click.option("--compare", "earlier", type=o.HomePath(path_type=Path), metavar="FILE",
              help="Compare with an earlier --json.")  # fmt: skip
@o.quiet_option
def command(bundle: Path, json_path: Path | None, plot: Path | None, earlier: Path | None, **given: Any) -> None:
    """Measure latency and throughput of a bundle on this machine.

    Times are of whole calls: tokenizing, the model, pooling. Texts are random words of exactly the lengths asked
    for; tokens per second count real tokens, special ones included. Loading and memory are measured in processes
    of their own.
    """
    from embedrt.commands.bench.comparison import compare
    from embedrt.commands.bench.report import read_report
    from embedrt.commands.bench.run import run_bench
    from embedrt.commands.fonts import import_matplotlib
    from embedrt.commands.tables import write_whole
    from embedrt.opening import open_bundle

    before = read_report(earlier) if earlier is not None else None
    if plot is not None:
        import_matplotlib()  # before minutes of measuring
    opened = open_bundle(bundle)
    plan = _plan(opened, {**given, "json_path": json_path, "plot": plot})
    _warn_if_busy()
    report = run_bench(opened, plan, o.step_progress(given["quiet"]))
    to_stdout = json_path is not None and str(json_path) == "-"
    if to_stdout:
        click.echo(report.to_json(), nl=False)
    elif json_path is not None:
        write_whole(json_path, report.to_json())
    if plot is not None:
        from embedrt.commands.bench.plot import draw

        draw(report, plot, before)
    console = o.stderr_console() if to_stdout else o.stdout_console()
    _print_report(report, console)
    if before is not None:
        _print_comparison(compare(before, report), console)


def _plan(bundle: Bundle, given: dict[str, Any]) -> BenchPlan:
    from embedrt.commands.bench.run import MAX_OWN_TEXTS, BenchPlan, default_lengths
    from embedrt.executors.choice import choose_variant
    from embedrt.executors.devices import choose_device
    from embedrt.machine import available_threads

    own: list[str] = []
    if given["texts"] is not None:
        source = o.open_input(given["texts"], given)
        source.refuse_output(given["json_path"], given["plot"])
        every = list(source.texts())
        own = list(dict.fromkeys(every))  # alike ones in a call are embedded once
        if not own:
            raise click.UsageError(f"{source.name} holds no texts")
        if len(every) > min(len(own), MAX_OWN_TEXTS):
            used = f"the first {MAX_OWN_TEXTS:,} of these" if len(own) > MAX_OWN_TEXTS else "these"
            click.echo(f"{source.name}: {len(every):,} texts, {len(own):,} different; {used} are measured", err=True)
    device = choose_device(given["device"])
    variants = tuple(dict.fromkeys(choose_variant(bundle, name, device) for name in given["variants"]))
    lengths = given["lengths"] or (() if own else default_lengths(bundle.manifest.max_tokens))
    return BenchPlan(
        variants=variants,
        threads=given["threads"] or (available_threads(),),
        batches=given["batch_sizes"],
        lengths=lengths,
        own_texts=tuple(own[:MAX_OWN_TEXTS]),
        device=device,
        executors=given["executors"],
        isa=given["isa"],
        rounds=given["rounds"],
        seconds=given["seconds"],
    )


def _warn_if_busy() -> None:
    """A busy machine measures its other work."""
    if not hasattr(os, "getloadavg"):
        return
    load = os.getloadavg()[0]
    if load > _BUSY * (os.cpu_count() or 1):
        click.echo(f"warning: the machine is busy (load {load:.1f}); times will be too long", err=True)


def _print_report(report: BenchReport, console: Console) -> None:
    from embedrt.cli.tables import compact_table, size_text
    from embedrt.commands.bench.report import FEW_CALLS

    machine = report.machine
    console.print(f"[bold]{report.bundle}[/] on {machine['cpu']}, onnxruntime {machine['onnxruntime']}")
    table = compact_table(
        ("variant", "left"), ("threads", "right"), ("texts x tokens", "right"), ("p50 ms", "right"),
        ("p95 ms", "right"), ("p99 ms", "right"), ("tokens/s", "right"), ("calls", "right"),
    )  # fmt: skip
    several = len({cell.executor for cell in (result.cell for result in report.cells)}) > 1
    for result in report.cells:
        cell = result.cell
        few = "*" if result.calls < FEW_CALLS else " "
        table.add_row(
            _name(cell, several), str(cell.threads), cell.label, _ms(result.p50_ms), _ms(result.p95_ms),
            f"{_ms(result.p99_ms)}{few}", f"{result.tokens_per_s:,.0f}", f"{result.calls:,}",
        )  # fmt: skip
    console.print(table)
    if any(result.calls < FEW_CALLS for result in report.cells):
        console.print(f"[dim]* from fewer than {FEW_CALLS} calls: little more than the slowest (--seconds)[/]")
    console.print()
    loads = compact_table(
        ("variant", "left"), ("executor", "left"), ("threads", "right"), ("import s", "right"), ("load s", "right"),
        ("RSS loaded", "right"), ("RSS peak", "right"),
    )  # fmt: skip
    for load in report.loads:
        imported, loaded = (statistics.median(getattr(p, name) for p in load.probes) for name in ("import_s", "load_s"))
        resident, peak = (max(getattr(p, name) for p in load.probes) for name in ("rss_loaded_bytes", "rss_peak_bytes"))
        loads.add_row(
            load.variant, load.executor, str(load.threads), f"{imported:.2f}", f"{loaded:.2f}",
            size_text(resident), size_text(peak),
        )  # fmt: skip
    console.print(loads)


def _print_comparison(comparison: Comparison, console: Console) -> None:
    from rich.text import Text

    from embedrt.cli.tables import compact_table

    console.print()
    for title, run in (("earlier", comparison.earlier), ("now", comparison.now)):
        console.print(Text(f"{title}: {run}"))
    for warning in comparison.warnings:
        console.print(Text(f"warning: {warning}", "yellow"))
    if not comparison.ratios:
        console.print("the earlier run did none of this work")
        return
    table = compact_table(
        ("variant", "left"), ("threads", "right"), ("texts x tokens", "right"), ("earlier p50 ms", "right"),
        ("now", "right"), ("speed", "right"),
    )  # fmt: skip
    several = len({cell.executor for ratio in comparison.ratios for cell in (ratio.cell, ratio.earlier_cell)}) > 1
    for ratio in comparison.ratios:
        style = ("green" if ratio.speedup > 1 else "red") if ratio.is_clear else "dim"
        table.add_row(
            *_changed(ratio, several), ratio.cell.label, _ms(ratio.earlier_p50_ms), _ms(ratio.now_p50_ms),
            Text(f"{ratio.speedup:.2f}x{' ' if ratio.is_clear else '~'}", style),
        )  # fmt: skip
    console.print(table)
    if not all(ratio.is_clear for ratio in comparison.ratios):
        console.print("[dim]~ within what the rounds of one run differ by[/]")


def _changed(ratio: Ratio, several: bool) -> tuple[str, str]:
    """Variant and threads; where they are not what they were, then and now."""
    now, then = ratio.cell, ratio.earlier_cell
    name, earlier = _name(now, several), _name(then, several)
    return (
        name if name == earlier else f"{earlier} > {name.split()[-1]}",
        str(now.threads) if now.threads == then.threads else f"{then.threads} > {now.threads}",
    )


def _name(cell: Cell, several: bool) -> str:
    """The variant; with what computes it where there are several of these. Short, for 80 columns."""
    return f"{cell.variant} {'ort' if cell.executor == 'onnxruntime' else cell.executor}" if several else cell.variant


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
