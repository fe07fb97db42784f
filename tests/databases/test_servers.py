"""URLs, wrong ones too, and servers that are not there."""

from __future__ import annotations

import pytest

from embedrt.databases import Entry, IndexOptions, SearchOptions, index, is_database, open_database, search
from embedrt.databases.names import Place, postgres_place, qdrant_place
from embedrt.databases.postgres import without_password
from embedrt.errors import DatabaseError, OptionError


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("qdrant://host/notes", Place("http://host:6333", "notes")),
        ("qdrant://host:7/notes/", Place("http://host:7", "notes")),
        ("http://host/notes", Place("http://host:6333", "notes")),
        ("https://host/db/%EB%A9%94%EB%AA%A8", Place("https://host/db", "메모")),
        ("qdrant+file:///a/b/notes", Place("/a/b", "notes")),
        ("qdrant+file://a/notes", Place("a", "notes")),
    ],
)
def test_places_of_qdrant(url, place):
    assert qdrant_place(url) == place
    assert is_database(url)


@pytest.mark.parametrize("url", ["qdrant://host", "https://host/", "qdrant+file://notes"])
def test_places_without_a_collection(url):
    with pytest.raises(OptionError, match="names no collection"):
        open_database(url)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://me@host/db", Place("postgresql://me@host/db", "embedrt")),
        ("postgres://me:x%40y@host:7/db?table=notes", Place("postgres://me:x%40y@host:7/db", "notes")),
        (
            "postgresql:///db?host=/run/a b&table=n&user=me",
            Place("postgresql:///db?host=%2Frun%2Fa%20b&user=me", "n"),
        ),
    ],
)
def test_places_of_postgres(url, place):
    assert postgres_place(url) == place
    assert is_database(url)


def test_passwords_are_not_told():
    assert without_password("postgresql://me:secret@host/db") == "postgresql://me@host/db"
    with pytest.raises(DatabaseError) as raised:
        open_database("postgresql://me:secret@127.0.0.1:9/db")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["qdrant://127.0.0.1:9/notes", "postgresql://127.0.0.1:9/notes"])
def test_a_server_that_is_down(cli, lookup_bundle, tmp_path, url):
    corpus = tmp_path / "a.txt"
    corpus.write_text("water\n")
    for args in (["index", lookup_bundle, corpus, url], ["search", url, "water"]):
        error = cli.fails(*args)
        assert error.startswith(f"error: {url}: ")
        assert error.count("\n") == 1
        assert "refused" in error


def test_the_command_line_on_each(cli, lookup_bundle, tmp_path, url):
    corpus = tmp_path / "a.csv"
    corpus.write_text("text,lang\nthe water,en\n물은 물,ko\n")
    assert "2 added" in cli.ok("index", lookup_bundle, corpus, url, "--keep", "lang").stderr
    assert "nothing changed" in cli.ok("index", lookup_bundle, corpus, url).stderr
    assert "물은 물" in cli.ok("search", url, "물은", "--where", "lang = 'ko'").stdout
    error = cli.fails("index", lookup_bundle, corpus, url, "--approximate", "ivf-pq", code=0 if url[0] == "/" else 2)
    assert url[0] == "/" or "searches exact, hnsw" in error


def test_a_table_of_somebody_else_is_left_alone(model, postgres):
    import psycopg

    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE theirs (a int)")
    for options in (None, IndexOptions(rebuild=True)):
        database = open_database(f"{postgres}&table=theirs", write=True)
        try:
            with pytest.raises(DatabaseError, match="was not made by 'embedrt index'"):
                index(model, database, [Entry("a")], options)
        finally:
            database.close()
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT count(*) FROM theirs").fetchone() == (0,)


def test_one_writer_of_a_table_at_a_time(postgres):
    holder = open_database(f"{postgres}&table=held", write=True)
    try:
        with pytest.raises(DatabaseError, match="is being written by another run"):
            open_database(f"{postgres}&table=held", write=True)
        open_database(f"{postgres}&table=held").close()
    finally:
        holder.close()
    open_database(f"{postgres}&table=held", write=True).close()


def test_a_connection_that_breaks(model, postgres):
    import psycopg

    database = open_database(f"{postgres}&table=broken", write=True)
    index(model, database, [Entry("water")])
    with psycopg.connect(postgres, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(DatabaseError, match="table=broken: ") as raised:
        index(model, database, [Entry("light")])
    assert "\n" not in str(raised.value)
    database.close()
    database = open_database(f"{postgres}&table=broken", write=True)
    assert index(model, database, [Entry("light"), Entry("water")]).num_embedded == 1
    database.close()


def test_a_condition_cannot_say_more_than_a_condition(model, postgres):
    """Values go as parameters, names in quotes."""
    column = 'a"; DROP TABLE x; --'
    database = open_database(f"{postgres}&table=quoted%25", write=True)
    try:
        index(model, database, [Entry("water", columns={column: "'; DROP TABLE x; --", "b": "%s"})])
        where = f"`{column}` = '''; DROP TABLE x; --' AND b = '%s'"
        assert len(search(model, database, ["water"], SearchOptions(where=where))[0].hits) == 1
    finally:
        database.close()
