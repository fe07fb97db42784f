"""`embedrt index` and `embedrt search DB`, in a folder."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from embedrt.databases import open_database
from tests.cli.embedding import many_texts

FAQ = """id,lang,year,text
a1,ko,2020,물은 안녕하세요
a2,en,2021,the water
a3,en,2022,a stone in the river
a4,,2022,light of the house
"""


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "faq.csv"
    path.write_text(FAQ)
    return path


@pytest.fixture
def made(cli, lookup_bundle, corpus, tmp_path):
    """A database of the corpus, and the arguments that make it."""
    args = ["index", lookup_bundle, corpus, tmp_path / "faq.db"]
    result = cli.ok(*args, "--id", "id", "--keep", "lang,year", "--full-text", "ngram")
    assert "faq.db: 4 rows; 4 added, 4 texts embedded (identity " in result.stderr
    return args


def hits(cli, *args):
    return json.loads(cli.ok("search", *args, "--json").stdout)["answers"][0]["hits"]


def test_a_search_needs_only_the_database(cli, made, lookup_bundle, corpus):
    found = hits(cli, made[-1], "stone", "-k", 2)
    assert found[0]["id"] == "a3"
    assert found[0]["columns"] == {"lang": "en", "year": "2022"}
    in_file = hits(cli, lookup_bundle, corpus, "stone", "-k", 2)
    assert [hit["text"] for hit in found] == [hit["text"] for hit in in_file]
    assert [hit["score"] for hit in found] == pytest.approx([hit["score"] for hit in in_file], abs=1e-6)


def test_the_table_on_the_terminal(cli, made):
    lines = cli.ok("search", made[-1], "물은", "-k", 2, "--where", "lang = 'ko'").stdout.splitlines()
    assert lines[0].split() == ["score", "id", "lang", "year", "text"]
    assert lines[2].split() == ["1", lines[2].split()[1], "a1", "ko", "2020", "물은", "안녕하세요"]
    assert len(lines) == 3
    several = cli.ok("search", made[-1], "stone", "light", "-k", 1, "--keep", "year").stdout
    assert several.splitlines()[0] == "stone"
    assert "lang" not in several
    assert cli.ok("search", made[-1], "light", "--where", "lang = 'xx'").stdout == "no hits\n"


def test_what_was_asked_for_once_need_not_be_said_again(cli, made, corpus):
    corpus.write_text(FAQ.replace("the water", "bread").replace("a4,,2022,light of the house\n", ""))
    result = cli.ok(*made)
    assert "faq.db: 3 rows; 1 changed, 1 deleted, 1 text embedded" in result.stderr
    assert hits(cli, made[-1], "bread", "--mode", "words")[0]["columns"] == {"lang": "en", "year": "2021"}
    assert "nothing changed, 0 texts embedded" in cli.ok(*made).stderr
    value = json.loads(cli.ok(*made, "--json", "-q").stdout)
    assert (value["rows"], value["unchanged"], value["full_text"], value["approximate"]) == (3, 3, "ngram", "exact")


def test_the_bundle_is_elsewhere(cli, made, lookup_bundle, tmp_path, monkeypatch):
    away = tmp_path / "moved"
    bundle = tmp_path / "bundle"
    bundle.symlink_to(lookup_bundle)
    args = ["index", bundle, made[2], tmp_path / "other.db"]
    cli.ok(*args)
    bundle.rename(away)
    error = cli.fails("search", tmp_path / "other.db", "stone")
    assert error.startswith("error: the bundle that ")
    assert error.endswith("or say where it is: --bundle\n")
    assert hits(cli, tmp_path / "other.db", "stone", "--bundle", away)


def test_another_model_is_refused(cli, made, tiny_bundle):
    error = cli.fails("search", made[-1], "stone", "--bundle", tiny_bundle)
    assert "not to be compared" in error
    assert error.count("\n") == 1
    error = cli.fails("index", tiny_bundle, *made[2:])
    assert "take another database, or make this one anew with --rebuild" in error
    assert "4 added" in cli.ok("index", tiny_bundle, *made[2:], "--rebuild").stderr


def test_which_is_which(cli, made, lookup_bundle, corpus, tmp_path):
    database = made[-1]
    assert "--column does not go with this" in cli.fails("search", database, "x", "--column", "text", code=2)
    assert "--where does not go with this" in cli.fails(
        "search", lookup_bundle, corpus, "x", "--where", "lang = 'ko'", code=2
    )
    assert "Missing argument 'QUERY...'" in cli.fails("search", database, code=2)
    assert "Missing argument 'CORPUS'" in cli.fails("search", lookup_bundle, code=2)
    assert "Missing argument 'QUERY...'" in cli.fails("search", lookup_bundle, corpus, code=2)
    error = cli.fails("search", lookup_bundle, database, "how is it", code=2)
    assert f"{database} is a database, which knows its bundle: embedrt search {database} QUERY" in error
    error = cli.fails("search", tmp_path / "misspelt.db", "how is it", code=2)
    assert "misspelt.db is no database that 'embedrt index' made" in error


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--id", "nothing"], 1, "has no column 'nothing' for --id"),
        (["--id", "nothing", "--keep", "lang"], 1, "has no column 'nothing' for --id and --keep"),
        (["--keep", "nothing"], 1, "has no column 'nothing' for --keep"),
        (["--id", "lang"], 1, "faq.csv, line 4: the id 'en' stands in"),
        (["--keep", "text"], 2, "a column 'text' of its own"),
        (["--approximate", "magic"], 2, "magic"),
        (["--prompt", "x", "--prompt-name", "y"], 2, "exclude each other"),
        (["--truncate-dim", "9"], 2, "truncate_dim"),
        (["--prompt-name", "nothing"], 2, "nothing"),
    ],
)
def test_wrong_wishes(cli, lookup_bundle, corpus, tmp_path, options, code, message):
    error = cli.fails("index", lookup_bundle, corpus, tmp_path / "x.db", *options, code=code)
    assert message in error
    assert not (tmp_path / "x.db").exists(), "nothing came of it"


@pytest.mark.parametrize(
    ("where", "message"),
    [("lang =", "a value"), ("nothing = 1", "no column 'nothing'; its columns: lang, year"), ("year = 2020", "'2020'")],
)
def test_wrong_conditions(cli, made, where, message):
    error = cli.fails("search", made[-1], "x", "--where", where, code=2)
    assert message in error
    assert error.count("\n") == 1


def test_corpora_that_cannot_be_indexed(cli, lookup_bundle, tmp_path):
    empty, lines = tmp_path / "empty.txt", tmp_path / "lines.txt"
    empty.write_text("")
    lines.write_text("the water\n")
    target = tmp_path / "x.db"
    assert "the corpus is empty" in cli.fails("index", lookup_bundle, empty, target)
    assert "plain lines have no columns" in cli.fails("index", lookup_bundle, lines, target, "--id", "id", code=2)
    assert "is not there" in cli.fails("index", lookup_bundle, tmp_path / "none.txt", target)
    assert "must be a file" in cli.fails("index", lookup_bundle, "-", target, stdin=b"water\n")
    assert "1 row; 1 added" in cli.ok("index", lookup_bundle, lines, target).stderr
    assert "too few for an index" in cli.ok("index", lookup_bundle, lines, target, "--approximate", "hnsw").stderr
    lines.write_text("the " * 50)
    error = cli.fails("index", lookup_bundle, lines, target, "--on-overflow", "error")
    assert "lines.txt, line 1: " in error
    assert "warning: 1 text of the corpus cut at 32 tokens" in cli.ok("index", lookup_bundle, lines, target).stderr


def test_places_that_are_no_database(cli, lookup_bundle, corpus, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    for place, message in (
        (corpus, "is a file; a database is a folder"),
        (other, "is a folder that 'embedrt index' did not make"),
        (lookup_bundle, "is a folder that 'embedrt index' did not make"),
        (corpus / "below", "Not a directory"),
    ):
        assert message in cli.fails("index", lookup_bundle, corpus, place)
    assert sorted(path.name for path in other.iterdir()) == ["letter.txt"]
    (tmp_path / "fresh").mkdir()
    cli.ok("index", lookup_bundle, corpus, tmp_path / "fresh")


def test_a_table_of_somebody_else(cli, tmp_path):
    import lancedb
    import pyarrow as pa

    lancedb.connect(tmp_path / "x.db").create_table("texts", data=pa.table({"a": [1]}))
    assert "x.db was not made by 'embedrt index'" in cli.fails("search", tmp_path / "x.db", "light")


def test_damaged_folders(cli, made):
    table = made[-1] / "texts.lance"
    for path in (table / "data").iterdir():
        path.unlink()
    for args in (["search", made[-1], "stone"], made):
        error = cli.fails(*args)
        assert "if the folder is damaged, remove it and index again" in error
        assert error.count("\n") == 1
    shutil.rmtree(table / "_versions")  # as after a kill while the table was made
    assert "holds no table" in cli.fails("search", made[-1], "stone")
    assert "4 added" in cli.ok(*made).stderr


def test_one_writer_at_a_time(cli, made):
    holder = open_database(made[-1], write=True)
    try:
        assert "is being written by another run" in cli.fails(*made)
        assert hits(cli, made[-1], "stone"), "readers do not wait"
    finally:
        holder.close()
    cli.ok(*made)


def run_of(lookup_bundle, corpus, database):
    code = "import sys, embedrt.databases.updating as u; from embedrt.cli import main; u._SAVE_SECONDS = 0\n"
    return [
        sys.executable,
        "-c",
        f"{code}sys.exit(main({['index', *map(str, (lookup_bundle, corpus, database)), '-q']}))",
    ]


def test_a_killed_run_goes_on_where_it_ended(cli, lookup_bundle, tmp_path):
    corpus, database = tmp_path / "many.txt", tmp_path / "many.db"
    texts = [f"{text} {number}" for number, text in enumerate(many_texts(12_000))]
    corpus.write_text("".join(f"{text}\n" for text in texts))
    with subprocess.Popen(run_of(lookup_bundle, corpus, database)) as process:
        deadline = time.monotonic() + 60
        while len(list(database.glob("texts.lance/_versions/*.manifest"))) < 5:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    kept = open_database(database).describe().num_rows
    assert 0 < kept < len(texts)
    value = json.loads(cli.ok("index", lookup_bundle, corpus, database, "--json").stdout)
    assert (value["unchanged"], value["embedded"], value["rows"]) == (kept, len(texts) - kept, len(texts))


def test_a_full_disk_is_told_and_loses_nothing(cli, lookup_bundle, tmp_path):
    """A limit on the size of files stands for the disk's end; the system refuses in the same calls."""
    corpus, database = tmp_path / "many.txt", tmp_path / "many.db"
    corpus.write_text("".join(f"{text} {number}\n" for number, text in enumerate(many_texts(3000))))
    command = run_of(lookup_bundle, corpus, database)
    limited = command[2].replace("u._SAVE_SECONDS = 0", "u._SAVE_SECONDS = 9; import resource; "
                                 "resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))")  # fmt: skip
    done = subprocess.run([*command[:2], limited], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error: {database}: ")
    assert done.stderr.count("\n") == 1
    assert "File too large (os error 27); what is embedded is kept" in done.stderr
    value = json.loads(cli.ok("index", lookup_bundle, corpus, database, "--json").stdout)
    assert value["rows"] == 3000
