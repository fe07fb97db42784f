from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import matplotlib
import pytest

from embedrt.commands.bench import run as run_module
from embedrt.commands.bench.comparison import compare
from embedrt.commands.bench.plot import draw
from embedrt.commands.bench.probe import Probe, run_probe
from embedrt.commands.bench.report import BenchReport, Cell, CellResult, LoadResult, read_report
from embedrt.commands.bench.run import BenchPlan, default_lengths, run_bench
from embedrt.commands.bench.texts import make_texts
from embedrt.embedder import Embedder
from embedrt.errors import ExecutorError, FileFormatError, OptionError
from embedrt.opening import open_bundle
from embedrt.progress import NullProgress

PROBE = Probe("onnxruntime", 0.1, 0.2, 10, 20, 30)


@pytest.fixture
def no_probe(monkeypatch):
    """Loading is not measured: a process each would take seconds."""
    monkeypatch.setattr(
        run_module,
        "run_probe",
        lambda *_, executor, **__: replace(PROBE, executor="onnxruntime" if executor == "auto" else executor),
    )


def result(cell: Cell, p50: float) -> CellResult:
    return CellResult(cell, 10, p50, p50 * 2, p50 * 3, 100.0, (p50,))


def report(*cells: CellResult, machine: str = "x", identity: str = "i", own: str | None = None) -> BenchReport:
    loads = (LoadResult("int8", "native", 2, (PROBE,)),)
    return BenchReport(1, "now", {"cpu": machine}, "b", "m", {"int8": identity}, own, 1, cells, loads)


@pytest.mark.parametrize("lengths", [[3, 4, 5], [16] * 8, [128, 31, 32, 33]])
def test_texts_have_exactly_the_tokens_asked_for(lookup_bundle, lengths):
    with Embedder(lookup_bundle) as embedder:
        texts = make_texts(embedder.count_tokens, lengths)
        assert embedder.count_tokens(texts) == lengths
        assert texts == make_texts(embedder.count_tokens, lengths), "the same on every run"
    assert len(set(texts)) == len(texts)


def test_texts_for_a_tokenizer_whose_words_have_several_tokens():
    """Every character is a token, a space too; or two letters alike merge, so that lengths must be mended."""
    texts = make_texts(lambda texts: [2 + len(text) for text in texts], [3, 7, 30])
    assert [2 + len(text) for text in texts] == [3, 7, 30]

    def merging(texts: Sequence[str]) -> list[int]:
        return [2 + len([w for i, w in enumerate(words) if words[i - 1 : i] != [w]]) for words in map(str.split, texts)]

    assert merging(make_texts(merging, [4, 100, 300])) == [4, 100, 300]


def test_texts_that_cannot_be_made(lookup_bundle):
    with Embedder(lookup_bundle) as embedder, pytest.raises(OptionError, match="2 are special tokens"):
        make_texts(embedder.count_tokens, [2])
    with pytest.raises(OptionError, match="--texts FILE"):
        make_texts(lambda texts: [3 for _ in texts], [16])


def test_every_configuration_is_measured_in_every_round(lookup_bundle, no_probe):
    plan = BenchPlan(
        ("fp32", "int8"),
        (1, 2),
        (1, 4),
        (8, 32),
        ("water", "a light", "in"),
        "cpu",
        ("auto", "onnxruntime"),
        "auto",
        3,
        0.01,
    )
    found = run_bench(open_bundle(lookup_bundle), plan, NullProgress())
    cells = [item.cell for item in found.cells]
    shapes = {(cell.batch, cell.tokens) for cell in cells}
    assert shapes == {(1, 8), (4, 8), (1, 32), (4, 32), (1, None), (None, None)}, "a batch of 4 has no 3 texts"
    assert len(cells) == len(set(cells)) == 2 * 2 * 6, "auto is ONNX Runtime here, once"
    for item in found.cells:
        assert len(item.round_p50_ms) == 3
        assert item.calls >= 3
        assert 0 < item.p50_ms <= item.p95_ms <= item.p99_ms
        assert item.tokens_per_s > 0
    assert set(found.identities) == {"fp32", "int8"}


def test_tokens_per_second_counts_real_tokens(lookup_bundle):
    """Own texts of 3 and 5 tokens, a call of each that takes 1 s: the median of 3 and 5 per second."""
    work = run_module._Work((["water"], ["a light stone"]), (3, 5))
    assert run_module._result(Cell("int8", "native", 1, 1, None), [[1.0, 1.0], [1.0, 1.0]], work).tokens_per_s == 4


def test_a_length_over_the_limit_is_refused(cli, lookup_bundle):
    assert "over the model's limit of 32" in cli.fails("bench", lookup_bundle, "--lengths", "33", code=2)
    assert default_lengths(256) == (16, 128, 256)
    assert default_lengths(32) == (16, 32)


def test_the_command(cli, lookup_bundle, tmp_path, no_probe):
    out, plot = tmp_path / "a.json", tmp_path / "a.svg"
    args = ("bench", lookup_bundle, "--seconds", "0.05", "--rounds", "2", "--lengths", "4,8", "--batch-sizes", "1,2")
    shown = cli.ok(*args, "--variant", "fp32,auto", "--threads", "1", "--json", out, "--plot", plot).stdout
    for text in ("p50 ms", "p95 ms", "p99 ms", "tokens/s", "2 x 8", "RSS peak", "fp32", "int8"):
        assert text in shown, text
    assert max(map(len, shown.splitlines())) <= 80
    assert plot.read_text().startswith("<?xml")
    assert json.loads(out.read_text())["rounds"] == 2
    assert read_report(out).to_json() == out.read_text()

    again = cli.ok(*args, "--threads", "1", "--compare", out).stdout
    assert "earlier p50 ms" in again
    assert "another" not in again
    changed = json.loads(out.read_text())
    changed["machine"]["cpu"] = "abacus"
    out.write_text(json.dumps(changed))
    assert "another machine: cpu was abacus" in cli.ok(*args, "--threads", "1", "--compare", out).stdout


def test_own_texts(cli, lookup_bundle, tmp_path, no_probe):
    (tmp_path / "own.txt").write_text("water\nthe light\nwater\n")
    args = (
        "bench",
        lookup_bundle,
        "--seconds",
        "0.02",
        "--rounds",
        "1",
        "--texts",
        tmp_path / "own.txt",
        "--json",
        "-",
    )
    found = json.loads(cli.ok(*args).stdout)
    assert [(item["cell"]["batch"], item["cell"]["tokens"]) for item in found["cells"]] == [(1, None), (None, None)]
    (tmp_path / "own.txt").write_bytes(b"")
    cli.fails(*args, code=2)


@pytest.mark.parametrize(
    "options",
    [
        ["--lengths", "x"],
        ["--batch-sizes", "0"],
        ["--variant", "fp64"],
        ["--plot", "a.gif"],
        ["--rounds", "0"],
        ["--executor", "gpu"],
    ],
)
def test_usage(cli, lookup_bundle, options):
    cli.fails("bench", lookup_bundle, *options, code=2)


def test_the_earlier_run_is_read_before_anything_is_measured(cli, lookup_bundle, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    assert "no report" in cli.fails("bench", lookup_bundle, "--compare", tmp_path / "a.json")
    assert "is not there" in cli.fails("bench", lookup_bundle, "--compare", tmp_path / "b.json")


def test_comparison():
    cell, other = Cell("int8", "native", 2, 1, 16), Cell("int8", "native", 2, 8, 16)
    found = compare(report(result(cell, 10), result(other, 1)), report(result(cell, 5)))
    assert [(ratio.cell, ratio.speedup) for ratio in found.ratios] == [(cell, 2.0)]
    assert found.warnings == ("left out: 1 configuration that only one of the runs has",)
    assert found.now == "b, now, x, 2 threads"
    found = compare(report(machine="y", identity="j"), report(result(cell, 5)))
    assert found.ratios == ()
    assert len(found.warnings) == 3
    own = replace(cell, tokens=None)
    found = compare(report(result(own, 10), own="a"), report(result(own, 5), own="b"))
    assert "other texts" in found.warnings[0]
    assert found.ratios == (), "the times of other texts say nothing"


def test_runs_with_other_threads_or_another_executor_are_compared_where_there_is_no_choice():
    two, four = Cell("int8", "native", 2, 1, 16), Cell("int8", "native", 4, 1, 16)
    found = compare(report(result(two, 10)), report(result(four, 5), machine="y"))
    assert [(r.earlier_cell, r.cell, r.speedup) for r in found.ratios] == [(two, four, 2.0)]
    assert found.warnings == ("another machine: cpu was x, now y",)
    assert (found.earlier, found.now) == ("b, now, x, 2 threads", "b, now, y, 4 threads")
    # the same threads are paired first, and a choice is not made
    found = compare(report(result(two, 10), result(four, 8)), report(result(four, 5)))
    assert [(r.earlier_cell, r.cell) for r in found.ratios] == [(four, four)]
    eight = replace(two, threads=8)
    assert compare(report(result(two, 10), result(four, 8)), report(result(eight, 5))).ratios == ()
    other = replace(two, executor="onnxruntime")
    assert compare(report(result(two, 10)), report(result(other, 20))).ratios[0].earlier_cell == two
    assert compare(report(result(two, 10)), report(result(replace(two, variant="fp32"), 20))).ratios == ()


@pytest.mark.parametrize("suffix", [".html", ".svg", ".png"])
def test_the_picture_shows_both_runs_and_says_what_is_embedded(tmp_path, suffix):
    two, four = Cell("int8", "native", 2, 8, 16), Cell("int8", "native", 4, 8, 16)
    path = tmp_path / f"bench{suffix}"
    runs = [replace(report(result(cell, 10)), machine={"cpu": "x", "onnxruntime": "1"}) for cell in (two, four)]
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(runs[1], path, runs[0])
    if suffix == ".png":
        assert path.read_bytes().startswith(b"\x89PNG")
        return
    drawn = path.read_text(encoding="utf-8")
    for text in ("8 texts of 16 tokens", "earlier (grey): b, now, x, 2 threads", "now: b, now, x, 4 threads"):
        assert text in drawn
    assert "(earlier 2 threads)" in drawn
    assert drawn.startswith("<!doctype html>" if suffix == ".html" else "<?xml")


def test_texts_that_are_left_out_are_counted(cli, lookup_bundle, tmp_path, no_probe):
    (tmp_path / "own.txt").write_text("".join(f"a{i}\n" for i in range(2100)) + "a1\n")
    args = ("bench", lookup_bundle, "--seconds", "0.01", "--rounds", "1", "--texts", tmp_path / "own.txt")
    shown = cli.ok(*args).stderr
    assert "2,101 texts, 2,100 different; the first 2,000 of these are measured" in shown


@pytest.mark.parametrize(
    ("before", "now", "clear"),
    [((10, 11, 12), (5, 6, 7), True), ((5, 6), (7, 9), True), ((10, 11, 12), (9, 10), False), ((4,), (4,), False)],
)
def test_a_change_is_clear_if_the_rounds_of_both_runs_lie_apart(before, now, clear):
    cell = Cell("int8", "native", 2, 1, 16)
    runs = [report(replace(result(cell, 1), round_p50_ms=tuple(map(float, rounds)))) for rounds in (before, now)]
    assert compare(*runs).ratios[0].is_clear is clear


def test_a_report_of_another_format_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(replace(report(), format=2).to_json())
    with pytest.raises(FileFormatError, match="format is 2"):
        read_report(path)


def test_the_probe_is_a_process_of_its_own(lookup_bundle):
    options = {"device": "cpu", "executor": "onnxruntime", "isa": "auto", "num_threads": 1}
    found = run_probe(lookup_bundle, "int8", texts=["water", "light"], **options)
    assert found.load_s > 0
    assert found.executor == "onnxruntime"
    assert found.import_s > 0.001, "numpy and onnxruntime take more"
    assert 0 < found.rss_import_bytes <= found.rss_peak_bytes
    assert found.rss_loaded_bytes <= found.rss_peak_bytes
    with pytest.raises(ExecutorError, match="is not there"):
        run_probe(lookup_bundle / "none", "int8", texts=["water"], **options)
