"""--long: windows and pieces in `embed` and `search`."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedrt.commands import piece_source
from embedrt.embedder import Embedder

SENTENCES = ("the water is light .", "안녕하세요 물은 . ", "a stone in the river !", "bread and paper .")
LONG = " ".join(SENTENCES * 5)
TEXTS = ["the water", LONG, "", "paper"]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": f"n{i}", "text": text}) + "\n" for i, text in enumerate(TEXTS)))
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_pieces_say_where_they_lie(cli, lookup_bundle, corpus, tmp_path):
    out = tmp_path / "out.jsonl"
    options = ("--long", "pieces", "--piece-tokens", "20", "--piece-overlap", "0", "--with-text", "--keep", "id")
    cli.ok("embed", lookup_bundle, corpus, "-o", out, *options)
    rows = lines(out)
    assert [row["row"] for row in rows] == list(range(len(rows)))
    assert {row["text_row"] for row in rows} == {0, 1, 2, 3}
    with Embedder(lookup_bundle, num_threads=1) as embedder:
        assert sum(row["text_row"] == 1 for row in rows) == len(embedder.split(LONG, tokens=20, overlap=0)) > 2
        for row in rows:
            assert row["id"] == f"n{row['text_row']}"
            assert row["text"] == TEXTS[row["text_row"]][row["start"] : row["end"]]
            np.testing.assert_allclose(row["embedding"], embedder.encode(row["text"]), rtol=1e-6)


def test_pieces_in_parquet_and_out_of_a_pipe(cli, lookup_bundle, corpus, tmp_path):
    out = tmp_path / "out.parquet"
    cli.ok("embed", lookup_bundle, corpus, "-o", out, "--long", "pieces")
    table = pq.read_table(out)
    assert table.column_names == ["row", "text_row", "start", "end", "embedding"]
    piped = cli.ok(
        "embed", lookup_bundle, "-", "-o", "-", "--long", "pieces", "--input-format", "jsonl", stdin=corpus.read_bytes()
    )
    assert [json.loads(line)["start"] for line in piped.stdout.splitlines()] == table["start"].to_pylist()


def test_windows_read_all_of_a_text(cli, lookup_bundle, corpus, tmp_path):
    out = tmp_path / "out.npy"
    result = cli.ok("embed", lookup_bundle, corpus, "-o", out, "--long", "windows")
    assert "cut" not in result.stderr
    with Embedder(lookup_bundle, num_threads=1) as embedder:
        np.testing.assert_array_equal(np.load(out), embedder.encode(TEXTS, on_overflow="windows"))
    cut = cli.ok("embed", lookup_bundle, corpus, "-o", tmp_path / "cut.npy")
    assert "--long windows reads them whole" in cut.stderr


def test_resume_refuses_another_size_of_pieces(cli, lookup_bundle, corpus, tmp_path):
    out = tmp_path / "out.jsonl"
    cli.ok("embed", lookup_bundle, corpus, "-o", out, "--long", "pieces")
    again = ("embed", lookup_bundle, corpus, "-o", out, "--resume", "--long", "pieces")
    assert "complete already" in cli.ok(*again).stderr
    assert "--long pieces (tokens, overlap) was" in cli.fails(*again, "--piece-tokens", "20")


def test_records_without_a_text_are_skipped_by_their_line(cli, lookup_bundle, tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text(json.dumps({"text": LONG}) + "\n" + '{"text": 3}\n{"text": "\\ud800"}\n{"text": "paper"}\n')
    cli.ok("embed", lookup_bundle, path, "-o", out, "--long", "pieces", "--on-error", "skip")
    assert lines(out)[-1]["text_row"] == 3
    assert [item["line"] for item in lines(tmp_path / "out.jsonl.skipped.jsonl")] == [2, 3]


def test_a_hit_is_a_piece(cli, lookup_bundle, corpus):
    options = ("--long", "pieces", "--piece-tokens", "12", "--keep", "id", "-k", "2")
    found = json.loads(cli.ok("search", lookup_bundle, corpus, "bread and paper", *options, "--json").stdout)
    hit = next(hit for hit in found["answers"][0]["hits"] if hit["row"] == 1)
    assert hit["text"] == LONG[slice(*hit["piece"])]
    assert "bread" in hit["text"]
    assert hit["kept"] == {"id": "n1"}
    assert (hit["line"], len(hit["text"]) < len(LONG)) == (2, True)
    shown = cli.ok("search", lookup_bundle, corpus, "bread and paper", *options).stdout
    assert "characters" in shown
    assert "{}-{}".format(*hit["piece"]) in shown
    assert "text_row" not in shown


def test_a_second_search_cuts_and_embeds_nothing(cli, lookup_bundle, corpus, monkeypatch):
    search = ("search", lookup_bundle, corpus, "water", "--long", "pieces", "--json")
    first = cli.ok(*search).stdout
    monkeypatch.setattr(piece_source.PieceSource, "_spans", None)
    second = cli.ok(*search)
    assert second.stdout == first
    assert "reused" in second.stderr


def test_a_changed_corpus_embeds_only_new_pieces(cli, lookup_bundle, corpus):
    search = ("search", lookup_bundle, corpus, "water", "--long", "pieces", "--piece-tokens", "12")
    cli.ok(*search)
    with corpus.open("a") as stream:
        stream.write(json.dumps({"text": LONG + " stone . "}) + "\n")
    assert "embedded 2 changed rows, reused" in cli.ok(*search).stderr, "the last one, and its new end"
    folder = corpus.with_name("in.jsonl.embedrt") / "pieces-12-32-1"
    assert len(list(folder.glob("places-*"))) == 1, "those of the earlier corpus are gone"


def test_whole_texts_windows_and_pieces_have_indexes_of_their_own(cli, lookup_bundle, corpus):
    ways = ((), ("--long", "windows"), ("--long", "pieces"))
    for way in ways:
        cli.ok("search", lookup_bundle, corpus, "water", *way)
    for way in ways:
        assert "reused" in cli.ok("search", lookup_bundle, corpus, "water", *way).stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--piece-tokens", "20"), "--piece-tokens goes with --long pieces"),
        (("--long", "windows", "--piece-overlap", "2"), "--piece-overlap goes with --long pieces"),
        (("--long", "whole"), "'whole' is not one of 'windows', 'pieces'"),
        (("--long", "pieces", "--piece-tokens", "0"), "0 is not in the range"),
        (("--long", "pieces", "--piece-tokens", "5"), "tokens must be at least"),
        (("--long", "windows", "--on-overflow", "error"), "exclude each other"),
    ],
)
def test_wrong_values(cli, lookup_bundle, corpus, tmp_path, options, says):
    assert says in cli.fails("embed", lookup_bundle, corpus, "-o", tmp_path / "out.jsonl", *options, code=2)


def test_places_need_a_format_that_holds_them(cli, lookup_bundle, corpus, tmp_path):
    error = cli.fails("embed", lookup_bundle, corpus, "-o", tmp_path / "out.npy", "--long", "pieces", code=2)
    assert "goes with .parquet and .jsonl" in error


def test_a_kept_column_may_not_be_called_as_a_place(cli, lookup_bundle, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"text": "paper", "start": 3}) + "\n")
    options = ("--long", "pieces", "--keep", "start")
    assert "pieces have a column 'start'" in cli.fails(
        "embed", lookup_bundle, path, "-o", tmp_path / "o.jsonl", *options
    )


@pytest.fixture
def database(tmp_path):
    pytest.importorskip("lancedb")
    return tmp_path / "texts.db"


def database_hits(cli, *args):
    return json.loads(cli.ok("search", *args, "--json").stdout)["answers"][0]["hits"]


def test_a_database_of_pieces_stays_one(cli, lookup_bundle, corpus, database):
    index = ("index", lookup_bundle, corpus, database)
    first = cli.ok(*index, "--id", "id", "--long", "pieces", "--piece-tokens", "12", "--piece-overlap", "0")
    found = database_hits(cli, database, "bread and paper", "-k", "3")
    hit = next(hit for hit in found if hit["columns"]["text_row"] == 1)
    assert hit["id"] == f"n1#{hit['columns']['start']}"
    assert hit["text"] == LONG[hit["columns"]["start"] : hit["columns"]["end"]]
    assert "nothing changed" in cli.ok(*index).stderr, "without --long it is made as it was"
    with corpus.open("a") as stream:
        stream.write(json.dumps({"id": "n4", "text": LONG}) + "\n")
    again = cli.ok(*index).stderr
    with Embedder(lookup_bundle, num_threads=1) as embedder:
        count = len(embedder.split(LONG, tokens=12, overlap=0, kind="document"))
    assert f"{count + 3} rows" in first.stderr
    assert f"{2 * count + 3} rows; {count} added, 0 texts embedded" in again
    assert "holds pieces-12-0-1, this would add windows" in cli.fails(*index, "--long", "windows", code=2)


def test_a_database_of_windows(cli, lookup_bundle, corpus, database):
    index = ("index", lookup_bundle, corpus, database)
    assert "cut" not in cli.ok(*index, "--long", "windows").stderr
    assert "nothing changed" in cli.ok(*index).stderr
    score = database_hits(cli, database, LONG, "-k", "1")[0]["score"]
    with Embedder(lookup_bundle, num_threads=1) as embedder, pytest.warns(UserWarning, match="cut"):
        query, document = embedder.encode_query(LONG), embedder.encode_document(LONG, on_overflow="windows")
    assert score == pytest.approx(float(query @ document), abs=1e-5)
    assert "exclude each other" in cli.fails(*index, "--long", "windows", "--on-overflow", "error", code=2)
