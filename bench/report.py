"""What is written: one JSON file with everything, a Markdown table, plots."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measure import QUIET, Series
from bench.measured import Report
from bench.plots import write_plots
from bench.systems import ANCHORS, SYSTEMS

MIB = 1 << 20
_BATCHINGS = ("own", "own-32", "own-8", "arrival-8", "arrival-32", "arrival-256", "sorted-8", "sorted-32")
_OURS = ("ours-int8", "ours-int8-ort")  # whose speed is set against peers'


def write_report(report: Report, out: Path) -> list[Path]:
    """Write report.md, report.json and the plots into `out`; returns the paths, report.md first."""
    out.mkdir(parents=True, exist_ok=True)
    stem = f"{report.facts.name}"
    table, data = out / f"{stem}.md", out / f"{stem}.json"
    data.write_text(json.dumps(to_json(report), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    plots = write_plots(report, out, stem)
    table.write_text(to_markdown(report, [p.name for p in plots if p.suffix == ".png"]), encoding="utf-8")
    return [table, data, *plots]


def to_json(report: Report) -> dict[str, Any]:
    """Everything that was measured, every round of it."""
    systems = {name: asdict(one) | {"spec": asdict(one.spec)} for name, one in report.systems.items()}
    rows = []
    for s in report.series:
        row = {
            "system": s.system, "kind": s.case.kind, "case": s.case.name, "batching": s.case.batching,
            "group": s.group, "num_texts": len(s.case.lengths), "num_tokens": s.case.num_tokens,
            "tokens_per_s": s.tokens_per_s, "median_s": s.seconds, "round_medians_s": s.medians,
            "spread": (max(s.medians) - min(s.medians)) / s.seconds, "calls": [len(t) for t in s.turns],
            "machine_busy_elsewhere": s.others, "share_of_limit": report.share(s),
        }  # fmt: skip
        if s.case.kind == "latency":
            row |= {f"p{q}_s": s.percentile(q) for q in (50, 90, 99)}
        rows.append(row)
    facts = asdict(report.facts) | {"path": report.facts.path.name}
    sets = [{"name": s.name, "source": s.source, "num_texts": len(s.texts), "num_tokens": s.num_tokens,
             "lengths": s.lengths} for s in report.sets]  # fmt: skip
    return {
        "date": report.date, "command": report.command, "seconds": report.seconds, "cut_short": report.cut_short,
        "machine": asdict(report.machine), "peaks": asdict(report.peaks), "model": facts, "ragged_sets": sets,
        "groups": report.groups, "memory_budget_bytes": report.memory_budget, "systems": systems,
        "not_timed": report.failures, "results": rows, "ratios": ratios(report), "best_peers": best_peers(report),
    }  # fmt: skip


def ratios(report: Report) -> list[dict[str, Any]]:
    """What the project expects of itself: speeds of embedrt int8, per executor, over a peer's, within one group.

    Printed, never asserted.
    """
    wanted: list[tuple[str, str, str, Callable[[str], bool], float, str]] = [
        ("shape", name, "ort-int8", bool, 0.9, "ONNX Runtime int8") for name in report.case_names("shape")
    ]
    for name in report.case_names("ragged"):
        wanted += [
            ("ragged", name, "st-ort-int8", lambda b: b == "own-32", 1.3, "sentence-transformers ONNX int8, batch 32"),
            ("ragged", name, "st-ort-int8", bool, 1.3, "sentence-transformers ONNX int8, best batch size"),
            ("ragged", name, "ort-int8", lambda b: b.startswith("arrival"), 1.3, "ONNX Runtime int8, arrival order"),
        ]
    found = []
    for ours_name in _OURS:
        for kind, name, peer, accept, goal, title in wanted:
            theirs = report.best(kind, name, peer, accept)
            ours = report.beside(theirs, ours_name) if theirs is not None else None
            if theirs is not None and ours is not None:
                ratio = theirs.seconds / ours.seconds
                of = SYSTEMS[ours_name].title
                found.append({"kind": kind, "case": name, "of": of, "against": title, "ratio": ratio, "expected": goal})
    return found


def best_peers(report: Report) -> list[dict[str, Any]]:
    """At each case, embedrt int8 over the fastest peer of any accuracy, and bf16 over the fastest in bf16.

    Each ratio is from the peer's own group.
    """
    arrival: Callable[[str], bool] = lambda b: b.startswith(("arrival", "own-32"))  # noqa: E731
    cases: list[tuple[str, str, str, Callable[[str], bool]]] = [
        ("shape", name, "", bool) for name in report.case_names("shape")
    ]
    cases += [("latency", name, "", bool) for name in report.case_names("latency")]
    for name in report.case_names("ragged"):
        cases += [("ragged", name, ", best batching", bool), ("ragged", name, ", arrival order", arrival)]
    found = []
    peers = [key for key in report.systems if not key.startswith("ours")]
    narrow = [key for key in peers if SYSTEMS[key].compute == "bf16"]
    against = {"ours-int8": peers, "ours-int8-accurate": peers, "ours-bf16": narrow}
    for ours_name, (kind, name, note, accept) in itertools.product(against, cases):
        rows = []
        for peer in against[ours_name]:
            theirs = report.best(kind, name, peer, accept)
            ours = report.beside(theirs, ours_name) if theirs is not None else None
            if theirs is not None and ours is not None:
                rows.append((theirs.seconds / ours.seconds, peer))
        if rows:
            ratio, peer = min(rows)
            found.append({"kind": kind, "case": name + note, "of": ours_name, "peer": peer, "ratio": ratio,
                          "peer_cosine_min": report.systems[peer].deviation.cosine_min})  # fmt: skip
    return found


def to_markdown(report: Report, plots: Sequence[str]) -> str:
    """The tables of a run."""
    parts = [_head(report), _systems(report), _shapes(report), _ragged(report), _best_peers(report), _ratios(report)]
    parts.append(_notes(report))
    parts += [f"![{name}]({name})" for name in plots]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(report: Report) -> str:
    m, p, f = report.machine, report.peaks, report.facts
    peaks = [f"{kind} {peak.value:,.0f} G{'OP' if kind == 'int8' else 'FLOP'}/s ({peak.how})"
             for kind in ("int8", "bf16", "fp32") if (peak := p.compute(kind))]  # fmt: skip
    peaks.append(f"memory {p.memory.value:.1f} GB/s ({p.memory.how})")
    versions = ", ".join(f"{k} {v}" for k, v in m.packages.items() if v != "absent")
    return "\n".join((
        f"# {f.name}: {f.layers} layers, {f.hidden} wide, {f.linear_parameters / 1e6:.0f} M weights in linear layers",
        "",
        f"- `{report.command}`, {report.date}, {report.seconds / 60:.1f} minutes, revision {m.revision}",
        f"- {m.cpu}, {', '.join(m.flags)}; {m.threads} threads of {m.processors} processors for every system, "
        f"{m.memory_bytes / 2**30:.0f} GiB",
        f"- measured peaks of these {m.threads} threads: {'; '.join(peaks)}",
        f"- model: {f.provenance}",
        f"- Python {m.python}, {versions}",
    ))  # fmt: skip


def _systems(report: Report) -> str:
    rows = []
    for name, one in report.systems.items():
        d = one.deviation
        latency = report.best("latency", "short query", name)
        times = ("", "") if latency is None else tuple(f"{latency.percentile(q) * 1e3:.1f}" for q in (50, 99))
        rows.append([
            one.spec.title, f"{d.cosine_mean:.5f}", f"{d.cosine_min:.5f}", f"{d.centered_min:.5f}",
            f"{d.alone_min:.6f}", f"{one.load_seconds:.1f}", f"{one.rss_loaded / MIB:,.0f}",
            f"{one.rss_after / MIB:,.0f}" if one.rss_after else "", *times,
        ])  # fmt: skip
    head = ["system", "cosine mean", "min", "centered min", "alone = batch, min", "load s", "RSS loaded MiB",
            "RSS after MiB", "one query p50 ms", "p99 ms"]  # fmt: skip
    texts = next(iter(report.systems.values())).deviation.num_texts if report.systems else 0
    title = f"## Deviation from PyTorch fp32 ({texts} texts in many languages), load, memory, one short text"
    return f"{title}\n\n{_table(head, rows)}"


def _shapes(report: Report) -> str:
    names = report.case_names("shape")
    rows = []
    for name, one in report.systems.items():
        found = [report.best("shape", shape, name) for shape in names]
        rows.append([one.spec.title, f"{one.deviation.centered_min:.5f}", *(_speed(report, s) for s in found)])
    title = "## Fixed shapes, batch x tokens: tokens/s (share of the machine's limit for that arithmetic)"
    return f"{title}\n\n{_table(['system', 'centered min', *names], rows)}" if names else ""


def _ragged(report: Report) -> str:
    parts = []
    for texts in report.sets:
        every = {s.case.batching for s in report.series if s.case.name == texts.name}
        if not every:  # the run ended before
            continue
        batchings = [b for b in _BATCHINGS if b in every]
        rows = []
        for name, one in report.systems.items():
            cells = [_speed(report, report.best("ragged", texts.name, name, lambda b, x=x: b == x)) for x in batchings]
            rows.append([one.spec.title, f"{one.deviation.centered_min:.5f}", *cells])
        title = (f"## {texts.name}: {len(texts.texts)} texts of {min(texts.lengths)}-{max(texts.lengths)} tokens, "
                 f"{texts.num_tokens:,} in all ({texts.source})")  # fmt: skip
        parts.append(f"{title}\n\n{_table(['system', 'centered min', *batchings], rows)}")
    if parts:
        parts.append("Real tokens/s of the whole call, tokenizing included, padding not counted. `own`: the system's "
                     "own batching (32 and 8 are sentence-transformers' batch sizes; it sorts by characters); "
                     "`arrival`: batches in the given order; `sorted`: by tokens.")  # fmt: skip
    return "\n\n".join(parts)


def _ratios(report: Report) -> str:
    found = ratios(report)
    if not found:
        return ""
    rows = [[r["case"], r["of"], r["against"], f"{r['ratio']:.2f}", f"{r['expected']:.1f}",
             "yes" if r["ratio"] >= r["expected"] else "no"] for r in found]  # fmt: skip
    head = ["case", "system", "against", "ratio of speeds", "expected", "reached"]
    return f"## Ratios (within one group of this run)\n\n{_table(head, rows)}"


def _best_peers(report: Report) -> str:
    rows = [
        [
            r["case"],
            SYSTEMS[r["of"]].title,
            SYSTEMS[r["peer"]].title,
            f"{r['peer_cosine_min']:.5f}",
            f"{r['ratio']:.2f}",
        ]
        for r in best_peers(report)
    ]
    head = ["case", "system", "fastest peer", "its cosine, min", "ratio of speeds"]
    title = "## embedrt int8 against the fastest peer of any accuracy, bf16 against the fastest in bf16"
    return f"{title}\n\n{_table(head, rows)}" if rows else ""


def _notes(report: Report) -> str:
    lines = ["## How it was run", ""]
    lines += [f"- not timed: **{name}**: {reason}" for name, reason in report.failures.items()]
    for number, members in enumerate(report.groups, 1):
        lines.append(f"- group {number}, rounds interleaved: {', '.join(members)}")
    if len(report.groups) > 1:
        lines.append(f"- groups because all at once do not fit in the memory budget of "
                     f"{report.memory_budget / 1e9:.0f} GB; {' and '.join(ANCHORS)} ran in each. The tables show "
                     f"their first group; ratios are taken within a group:")  # fmt: skip
        lines += _drift(report)
    turns = [share for s in report.series for share in s.others]
    noisy = sum(share > QUIET for share in turns)
    lines.append(f"- {len(turns)} turns; in {noisy} of them more than {QUIET:.0%} of the machine was busy with "
                 f"something else (most: {max(turns, default=0):.0%})")  # fmt: skip
    spreads = sorted((max(s.medians) - min(s.medians)) / s.seconds for s in report.series if len(s.turns) > 1)
    if spreads:
        lines.append(f"- spread between rounds, (slowest - fastest) / median: half of the results under "
                     f"{spreads[len(spreads) // 2]:.0%}, all under {spreads[-1]:.0%}")  # fmt: skip
    if report.cut_short:
        lines.append("- the run ended before all rounds of all cases were done")
    counts = sorted({len(s.turns) for s in report.series if s.case.kind != "ragged"})
    lines.append(f"- rounds of fixed shapes and one query: {', '.join(map(str, counts))}")
    lines += [f"- {one.spec.title}: {one.spec.detail}; {one.description}" for one in report.systems.values()]
    return "\n".join(lines)


def _drift(report: Report) -> Iterable[str]:
    """The anchors' speeds in each group: how far the machine moved between them."""
    for name in ANCHORS:
        for case in report.case_names("shape"):
            found = [s for s in report.series if s.system == name and (s.case.kind, s.case.name) == ("shape", case)]
            if len(found) > 1:
                speeds = ", ".join(f"{s.tokens_per_s:,.0f}" for s in sorted(found, key=lambda s: s.group))
                yield f"  - {name} at {case}: {speeds} tokens/s"


def _speed(report: Report, series: Series | None) -> str:
    if series is None:
        return ""
    share = report.share(series)
    mark = "~" if len(series.turns) > 1 and sum(o > QUIET for o in series.others) * 2 > len(series.turns) else ""
    return f"{mark}{series.tokens_per_s:,.0f}" + (f" ({share:.0%})" if share is not None else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
