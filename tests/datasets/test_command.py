"""The two commands, and the line that a run shows."""

from __future__ import annotations

import json
from pathlib import Path

from embedrt.datasets.ledger import Totals
from embedrt.datasets.progress import duration, progress_line
from embedrt.datasets.run import Heard
from tests.datasets.conftest import Cli, write_parquet


def test_embed_then_check(cli: Cli, lookup_bundle: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--text", "body", "--id", "id", "--threads", 1, "--no-packed-cache"]
    done = cli.ok("embed-dataset", lookup_bundle, corpus, out, *options, "--price-per-hour", 3)
    assert "391 rows" in done.stderr
    assert "cost 0.00" in done.stderr
    assert "without a vector" in done.stderr
    assert "every row once" in cli.ok("check-dataset", out).stdout
    assert "--resume" in cli.fails("embed-dataset", lookup_bundle, corpus, out, *options)
    again = cli.ok("embed-dataset", lookup_bundle, corpus, out, *options, "--resume").stderr
    assert "by earlier runs); 0 vectors" in again
    next(out.glob("part-*")).unlink()
    assert "not whole" in cli.fails("check-dataset", out)
    found = json.loads(cli("check-dataset", out, "--json", "--no-input").stdout)
    assert (found["holds"], found["found"]) == (False, 1)


def test_what_could_not_be_done_is_an_error(cli: Cli, lookup_bundle: Path, corpus: Path, tmp_path: Path) -> None:
    (corpus / "z.parquet").write_bytes(b"PAR1 no")
    said = cli.fails("embed-dataset", lookup_bundle, corpus, tmp_path / "out", "--text", "body", "--no-packed-cache")
    assert "z.parquet cannot be read as parquet" in said
    assert "--resume" in said
    write_parquet(corpus / "z.parquet", 3, 1)
    cli.ok("embed-dataset", lookup_bundle, corpus, tmp_path / "out", "--text", "body", "--no-packed-cache", "--resume")


def test_the_line_of_progress() -> None:
    totals = Totals(1, 10, 1000, 20_000)
    start = Heard(totals, Totals(0, 2, 200, 4000), None, 10.0)
    now = Heard(totals, Totals(0, 6, 600, 12_000), None, 30.0)
    line = progress_line(start, now, 36.0)
    assert " 60.0 %  6/10 shards, 20 texts/s, 400 tokens/s (estimated), 20 s left, cost 0.30 of about 0.50" in line
    assert "no rate yet" in progress_line(start, start)


def test_durations() -> None:
    assert [duration(s) for s in (0, 59, 60, 3600, 3660, 90_000)] == [
        "0 s", "59 s", "1 min 0 s", "1 h 0 min", "1 h 1 min", "1 d 1 h",
    ]  # fmt: skip
