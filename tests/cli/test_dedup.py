from __future__ import annotations

import csv
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt.commands import tables
from embedrt.commands.writers import AppendFile, naming
from embedrt.embedder import Embedder

TEXTS = ["the water", "the the water", "stone", "the water", "a river of light", "stone", "물은 water"]


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    return path


def report_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_stays_is_pairwise_below_the_threshold_and_what_goes_is_above(cli, lookup_bundle, lines, tmp_path):
    out, report = tmp_path / "out.txt", tmp_path / "report.jsonl"
    shown = cli.ok("dedup", lookup_bundle, lines, "--threshold", 0.9, "-o", out, "--report", report, "--json")
    kept = out.read_text(encoding="utf-8").splitlines()
    with Embedder(lookup_bundle) as embedder:
        scores = embedder.similarity(embedder.encode(kept), embedder.encode(kept))
        for row in report_of(report):
            pair = embedder.encode([row["text"], row["kept_text"]])
            assert row["score"] == pytest.approx(float(pair[0] @ pair[1]), abs=1e-5)
            assert row["score"] >= 0.9
            assert row["exact"] == (row["text"] == row["kept_text"])
            assert (row["line"], row["kept_line"]) == (row["row"] + 1, row["kept_row"] + 1)
            assert row["kept_text"] in kept
    assert (scores - np.eye(len(kept))).max() < 0.9
    counts = json.loads(shown.stdout)
    assert counts["rows"] == len(TEXTS)
    assert counts["kept"] == len(kept) == len(TEXTS) - counts["exact"] - counts["near"]
    assert counts["exact"] == 2
    assert counts["near"] >= 1, "the the water"


def test_the_longest_stays_if_asked(cli, lookup_bundle, lines, tmp_path):
    cli.ok("dedup", lookup_bundle, lines, "--threshold", 0.9, "--keep-longest", "-o", tmp_path / "out.txt")
    kept = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    assert "the the water" in kept
    assert "the water" not in kept
    assert kept.count("stone") == 1


def test_only_equal_texts_go_at_a_threshold_of_one_half_over_rounding(cli, lookup_bundle, lines):
    shown = json.loads(cli.ok("dedup", lookup_bundle, lines, "--threshold", 1, "--json").stdout)
    assert (shown["exact"], shown["groups"]) == (2, 2)


def in_format(folder, suffix):
    """The texts with an id, in a format, and a function that reads the ids again."""
    path = folder / f"in{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(f'{{"id": {i},  "text":{json.dumps(t)}}}\n\n' for i, t in enumerate(TEXTS)))
        return path, lambda p: [json.loads(line)["id"] for line in p.read_text().splitlines() if line]
    if suffix == ".json":
        path.write_text(json.dumps([{"id": i, "text": text} for i, text in enumerate(TEXTS)]))
        return path, lambda p: [item["id"] for item in json.loads(p.read_text())]
    if suffix == ".parquet":
        table = pa.table({"id": pa.array(range(len(TEXTS)), pa.int16()), "text": TEXTS})
        pq.write_table(table, path, row_group_size=2)
        return path, lambda p: pq.read_table(p)["id"].to_pylist()
    if suffix == ".tsv":
        path.write_text("id\ttext\r\n" + "".join(f"{i}\t{text}\r\n" for i, text in enumerate(TEXTS)), newline="")
        return path, lambda p: [int(line.split("\t")[0]) for line in p.read_text().splitlines()[1:]]
    with path.open("w", newline="") as stream:  # a field with a line end, before and behind others
        csv.writer(stream).writerows(
            [("id", "note", "text"), *((i, 'two\nlines, "so"', text) for i, text in enumerate(TEXTS))]
        )
    return path, lambda p: [int(row["id"]) for row in csv.DictReader(io.StringIO(p.read_bytes().decode(), newline=""))]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_rows_stay_as_they_are_in_every_format(cli, lookup_bundle, tmp_path, suffix):
    source, ids = in_format(tmp_path, suffix)
    out = tmp_path / f"out{suffix}"
    cli.ok("dedup", lookup_bundle, source, "--threshold", 1, "-o", out)
    assert ids(out) == [0, 1, 2, 4, 6]
    if suffix == ".parquet":
        assert pq.read_schema(out) == pq.read_schema(source)
    elif suffix != ".json":
        assert set(out.read_bytes().splitlines(True)) <= set(source.read_bytes().splitlines(True))


def test_packed_and_encoded_input_and_a_mark(cli, lookup_bundle, tmp_path):
    for name, encoding, mark in (("a.txt.gz", "cp949", b""), ("b.txt.gz", "utf-16-le", b"\xff\xfe")):
        source, out = tmp_path / name, tmp_path / f"{name}.out.txt"
        source.write_bytes(gzip.compress(mark + "물은\r\n물은\r\nwater".encode(encoding)))
        options = () if mark else ("--encoding", encoding)
        cli.ok("dedup", lookup_bundle, source, "-o", out, "--threshold", 1, *options)
        assert out.read_bytes() == mark + "물은\r\nwater".encode(encoding)


def test_the_table_of_groups_is_narrow(cli, lookup_bundle, lines):
    shown = cli.ok("dedup", lookup_bundle, lines, "--threshold", 0.9).stdout
    assert "7 texts: " in shown
    assert "2 repeat one letter for letter" in shown
    assert shown.count("stays") == 2
    assert max(map(len, shown.splitlines())) <= 80


def test_bad_input_is_said_in_a_line(cli, lookup_bundle, lines, tmp_path):
    empty, one = tmp_path / "empty.txt", tmp_path / "one.txt"
    empty.write_bytes(b"")
    one.write_text("water\n")
    assert "holds no texts" in cli.fails("dedup", lookup_bundle, empty)
    assert cli.ok("dedup", lookup_bundle, one).stdout.startswith("1 text: 1 stays, 0 ")
    assert "no column 'no'" in cli.fails("dedup", lookup_bundle, in_format(tmp_path, ".csv")[0], "--column", "no")
    assert "must end in .txt" in cli.fails("dedup", lookup_bundle, lines, "-o", tmp_path / "out.csv", code=2)
    cli.fails("dedup", lookup_bundle, lines, "--threshold", 1.5, code=2)
    assert "is the input itself" in cli.fails("dedup", lookup_bundle, lines, "-o", lines)
    (tmp_path / "there.txt").write_text("mine")
    assert "--force" in cli.fails("dedup", lookup_bundle, lines, "-o", tmp_path / "there.txt")
    assert "must be a file" in cli.fails("dedup", lookup_bundle, "-")


def test_a_full_disk_leaves_what_was_there(cli, lookup_bundle, lines, tmp_path, monkeypatch):
    def full(part, columns, rows):
        part.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(tables._WRITERS, ".csv", full)
    report = tmp_path / "report.csv"
    report.write_text("earlier")
    said = cli.fails("dedup", lookup_bundle, lines, "--report", report, "--force")
    assert "report.csv: No space left on device" in said
    assert report.read_text() == "earlier"
    assert not list(tmp_path.glob("*.part"))


def test_vectors_of_embed_are_taken(cli, lookup_bundle, lines, tmp_path, monkeypatch):
    cli.ok("embed", lookup_bundle, lines, "-o", tmp_path / "made.npy", "-q")

    def none(*_args, **_kwargs):
        raise AssertionError("nothing is to be embedded")

    monkeypatch.setattr(Embedder, "encode_stream", none)
    result = cli.ok("dedup", lookup_bundle, lines, "--vectors", tmp_path / "made.npy")
    assert "reused 7 vectors" in result.stderr
    assert "reused 7 vectors" in cli.ok("dedup", lookup_bundle, lines).stderr


def test_embedding_goes_on_after_an_interruption(cli, lookup_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("embedrt.commands.index_builder._BLOCK_TEXTS", 4)
    monkeypatch.setattr("embedrt.commands.index_builder._SAVE_SECONDS", 0.0)
    source = tmp_path / "in.txt"
    source.write_text("".join(f"{'water ' * i}stone\n" for i in range(12)))
    whole, seen = Embedder.encode_stream, list[str]()

    def partly(self, texts, **options):
        for i, block in enumerate(whole(self, texts, **options)):
            if i == 2:
                raise KeyboardInterrupt
            yield block

    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "encode_stream", partly)
        stopped = cli("dedup", lookup_bundle, source, "-o", tmp_path / "out.txt")
    assert stopped.exit_code == 130
    assert "what is embedded is kept; the next run goes on from it" in stopped.stderr
    assert not (tmp_path / "out.txt").exists()

    def watched(self, texts, **options):
        return whole(self, (seen.append(text) or text for text in texts), **options)

    monkeypatch.setattr(Embedder, "encode_stream", watched)
    assert "embedding the corpus from text 8" in cli.ok("dedup", lookup_bundle, source).stderr
    assert len(seen) == 4


@pytest.mark.parametrize("name", ["in.txt", "in.json"])
def test_a_disk_that_fills_up_names_the_output_and_not_the_input(cli, lookup_bundle, tmp_path, monkeypatch, name):
    """The one is written while the other is read."""
    texts = tmp_path / name
    texts.write_text("water\nstone\n" if name.endswith("txt") else '["water", "stone"]')

    def full(self, data):
        with naming(self.path):
            raise OSError(28, "No space left on device")

    cli.ok("dedup", lookup_bundle, texts)  # its vectors are kept
    monkeypatch.setattr(AppendFile, "write", full)
    said = cli.fails("dedup", lookup_bundle, texts, "-o", tmp_path / f"rest{texts.suffix}", "--threshold", 1)
    assert "No space left on device" in said
    assert f"rest{texts.suffix}" in said
    assert f"{name} cannot be read" not in said
