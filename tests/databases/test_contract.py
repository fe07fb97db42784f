"""What every database does, whichever it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embedrt.databases import Entry, IndexOptions, SearchOptions, index, search
from embedrt.embedder import Embedder
from embedrt.errors import DatabaseError, FileFormatError, IdentityError, OptionError
from tests.cli.embedding import many_texts

ENTRIES = [
    Entry("the water", "1", {"lang": "en", "year": 2020, "open": True}),
    Entry("a stone in the river", "2", {"lang": "en", "year": None, "open": False}),
    Entry("안녕하세요 가나다", "3", {"lang": "ko", "year": 2021, "open": True}),
    Entry("물은 물", "it's 4", {"lang": "ko", "year": 2022, "open": None}),
    Entry("the water", "5", {"lang": None, "year": 2022, "open": True}),
    Entry("", "6", {"lang": "en", "year": 2022, "open": True}),
]
BY_ID = IndexOptions(ids="number")


def ids_of(model, database, query, **options):
    return [hit.id for hit in search(model, database, [query], SearchOptions(**options))[0].hits]


def test_what_is_indexed_is_found(model, reopened):
    done = index(model, reopened(), ENTRIES, BY_ID)
    assert (done.num_added, done.num_embedded, done.table.num_rows) == (6, 5, 6), "alike texts once"
    database = reopened()
    table = database.describe()
    assert table.recipe.identity == model.identify(kind="document")
    assert table.recipe.columns == {"lang": "text", "year": "integer", "open": "boolean"}
    (answer,) = search(model, database, ["river water"], SearchOptions(k=4))
    scores = model.similarity(model.encode_query(["river water"]), model.encode_document([e.text for e in ENTRIES]))[0]
    order = np.lexsort((np.array([entry.id for entry in ENTRIES]), -scores))[:4]
    assert [hit.id for hit in answer.hits] == [ENTRIES[i].id for i in order]
    np.testing.assert_allclose([hit.score for hit in answer.hits], scores[order], atol=1e-6)
    assert [(hit.text, hit.columns) for hit in answer.hits] == [(ENTRIES[i].text, ENTRIES[i].columns) for i in order]


def test_vectors_come_back_as_they_were(model, reopened):
    index(model, reopened(), ENTRIES, BY_ID)
    found = reopened().vectors(["it's 4", "1", "1"])
    np.testing.assert_array_equal(found, model.encode_document(["물은 물", "the water", "the water"]))


def test_only_what_changed_is_embedded(model, reopened, embedded):
    index(model, reopened(), ENTRIES, BY_ID)
    embedded.clear()
    assert index(model, reopened(), ENTRIES, BY_ID).to_json()["unchanged"] == 6
    now = [
        replace(ENTRIES[0], text="light"),
        replace(ENTRIES[1], columns={**ENTRIES[1].columns, "year": 1999}),
        *ENTRIES[3:],
        Entry("a stone in the river", "7", {}),
        Entry("bread", "8"),
    ]
    done = index(model, reopened(), now, BY_ID)
    assert (done.num_added, done.num_changed, done.num_deleted, done.num_same) == (2, 2, 1, 3)
    assert embedded == ["light", "bread"]
    database = reopened()
    assert {row_id for row_id, _ in database.ids_and_hashes()} == {entry.id for entry in now}
    np.testing.assert_array_equal(
        database.vectors(["7", "1"]), model.encode_document(["a stone in the river", "light"])
    )
    (hit,) = search(model, database, ["stone"], SearchOptions(1, where="year = 1999"))[0].hits
    assert hit.id == "2"


def test_only_rows_that_are_there_are_looked_for(model, reopened, monkeypatch):
    """What is new is added without a look at the table, which would grow dearer with every block of a large corpus."""
    database, replaced = reopened(), []
    upsert = database.upsert
    monkeypatch.setattr(database, "upsert", lambda rows: replaced.extend(row.id for row in rows) or upsert(rows))
    monkeypatch.setattr(database, "add", lambda rows: upsert(rows))
    index(model, database, ENTRIES, BY_ID)
    assert replaced == []
    index(model, database, [replace(ENTRIES[0], text="light"), *ENTRIES[1:], Entry("bread", "8")], BY_ID)
    assert replaced == [ENTRIES[0].id]


def test_rows_that_are_gone_can_stay(model, reopened):
    index(model, reopened(), ENTRIES, BY_ID)
    done = index(model, reopened(), ENTRIES[:1], replace(BY_ID, delete=False))
    assert (done.num_deleted, done.table.num_rows) == (0, 6)


def test_texts_as_ids(model, reopened, embedded):
    texts = ["the water", "light", "the water"]
    index(model, reopened(), [Entry(text) for text in texts])
    done = index(model, reopened(), iter([Entry(text) for text in ["light", "bread", "the water"]]))
    assert (done.num_added, done.num_deleted, done.num_same) == (1, 1, 2)
    assert embedded == ["the water", "light", "bread"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("lang = 'ko'", {"3", "it's 4"}),
        ("lang <> 'ko'", {"1", "2", "6"}),
        ("NOT lang = 'ko'", {"1", "2", "6"}),
        ("lang IS NULL OR year < 2021", {"1", "5"}),
        ("NOT (lang IS NULL OR year < 2021)", {"3", "it's 4", "6"}),
        ("year IN (2020, 2022) AND open = true", {"1", "5", "6"}),
        ("year NOT IN (2020, 2022)", {"3"}),
        ("year > 2021 AND open IS NOT NULL", {"5", "6"}),
        ("open <> true", {"2"}),
        ("lang NOT IN ('ko', 'it''s')", {"1", "2", "6"}),
        ("year = 1", set()),
    ],
)
def test_conditions(model, reopened, where, expected):
    index(model, reopened(), ENTRIES, BY_ID)
    assert set(ids_of(model, reopened(), "water", where=where)) == expected


def test_texts_compare_by_their_bytes(model, reopened, url):
    index(model, reopened(), [*ENTRIES, Entry("light", "7", {"lang": "Zz"})], BY_ID)
    if url.startswith("qdrant"):
        with pytest.raises(OptionError, match="Qdrant compares 'lang' with = and !=, not with >="):
            ids_of(model, reopened(), "water", where="lang >= 'ek'")
    else:
        assert set(ids_of(model, reopened(), "water", where="lang >= 'ek'")) == {"1", "2", "3", "it's 4", "6"}


def test_names_of_columns(model, reopened):
    columns = {"언어": "한국어", "Doc year %": 3, "Select": 1.5, "a b": "x"}
    index(model, reopened(), [Entry("the water", columns=columns), Entry("light")])
    for where in ("언어 = '한국어'", "`Doc year %` = 3", "Select > 1", "\"a b\" = 'x'"):
        (hit,) = search(model, reopened(), ["water"], SearchOptions(where=where))[0].hits
        assert hit.columns == columns


def test_another_identity_is_refused(model, lookup_bundle, reopened):
    index(model, reopened(), ENTRIES, BY_ID)
    with Embedder(lookup_bundle, variant="fp32" if model.variant != "fp32" else "int8", num_threads=1) as other:
        with pytest.raises(IdentityError, match="holds vectors of identity"):
            index(other, reopened(), ENTRIES, BY_ID)
        with pytest.raises(IdentityError, match="not to be compared"):
            search(other, reopened(), ["water"])
    with pytest.raises(IdentityError, match="prompt 'to '"):
        index(model, reopened(), ENTRIES, replace(BY_ID, prompt="to "))
    with pytest.raises(OptionError, match="knows its rows by the column 'number', not by their texts"):
        index(model, reopened(), ENTRIES)
    done = index(model, reopened(), [Entry("light")], IndexOptions(prompt="to ", rebuild=True))
    assert (done.table.num_rows, done.num_added) == (1, 1)
    assert ids_of(model, reopened(), "light")


def test_fewer_dimensions(model, reopened):
    index(model, reopened(), ENTRIES, IndexOptions(ids="n", truncate_dim=4))
    hits = search(model, reopened(), ["stone"], SearchOptions(2))[0].hits
    scores = model.similarity(
        model.encode_query(["stone"], truncate_dim=4), model.encode_document([e.text for e in ENTRIES], truncate_dim=4)
    )[0]
    np.testing.assert_allclose([hit.score for hit in hits], -np.sort(-scores)[:2], atol=1e-6)


def test_nothing_to_index_deletes_nothing(model, reopened):
    with pytest.raises(FileFormatError, match="the corpus is empty"):
        index(model, reopened(), [])
    index(model, reopened(), ENTRIES, BY_ID)
    with pytest.raises(FileFormatError, match="the corpus is empty"):
        index(model, reopened(), [], BY_ID)
    assert reopened().describe().num_rows == 6


def test_a_database_without_a_table(model, reopened):
    assert reopened().describe() is None
    with pytest.raises(DatabaseError, match="holds no table; 'embedrt index' makes one"):
        search(model, reopened(), ["water"])


def test_wrong_wishes(model, reopened):
    with pytest.raises(OptionError, match=r"searches exact, .* not 'magic'"):
        index(model, reopened(), ENTRIES, IndexOptions(approximate="magic"))
    with pytest.raises(OptionError, match=r"full-text indexes by none.* not 'magic'"):
        index(model, reopened(), ENTRIES, IndexOptions(words="magic"))
    index(model, reopened(), ENTRIES, BY_ID)
    with pytest.raises(OptionError, match="has no full-text index"):
        search(model, reopened(), ["water"], SearchOptions(mode="both"))
    with pytest.raises(OptionError, match="a column 'new', which the table does not"):
        index(model, reopened(), [Entry("x", "1", {"new": 1})], BY_ID)
    with pytest.raises(OptionError, match="line 3: the table's column 'year' holds whole numbers"):
        index(model, reopened(), [Entry("x", "1", {"year": "soon"}, "line 3")], BY_ID)


def test_a_text_that_cannot_be_embedded_is_told_by_its_place(model, reopened):
    entries = [Entry("light", place="line 1"), Entry("water " * 40, place="line 2")]
    with pytest.raises(FileFormatError, match=r"line 2: .*tokens"):
        index(model, reopened(), entries, IndexOptions(on_overflow="error"))
    assert index(model, reopened(), entries).num_cut == 1


def test_an_interruption_loses_little(model, reopened, embedded, monkeypatch):
    monkeypatch.setattr("embedrt.databases.updating._SAVE_SECONDS", 0.0)
    texts = list(dict.fromkeys(many_texts(900)))[:600]
    entries = [Entry(text) for text in texts]
    whole = Embedder.encode_stream

    def breaking(self, *args, **options):
        for number, block in enumerate(whole(self, *args, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield block

    with monkeypatch.context() as patched:
        patched.setattr(Embedder, "encode_stream", breaking)
        with pytest.raises(KeyboardInterrupt):
            index(model, reopened(), entries)
    assert len(list(reopened().ids_and_hashes())) == 512, "two blocks"
    done = index(model, reopened(), entries)
    assert (done.num_same, done.num_embedded, done.table.num_rows) == (512, len(texts) - 512, len(texts))


def test_every_approximate_index_finds_nearly_what_the_exact_search_does(model, reopened):
    texts = list(dict.fromkeys(many_texts(900)))[:500]
    entries = [Entry(text, columns={"even": row % 2 == 0}) for row, text in enumerate(texts)]
    queries = many_texts(40)[20:]
    exact = None
    for kind in ("exact", *reopened().approximations):
        done = index(model, reopened(), entries, IndexOptions(approximate=kind))
        assert done.table.approximate == kind
        assert done.num_embedded == (len(texts) if kind == "exact" else 0)
        answers = search(model, reopened(), queries, SearchOptions(10, where="even = true", refine=20))
        found = [[hit.score for hit in answer.hits] for answer in answers]
        exact = exact or found
        kept = np.mean(
            [min(len(set(np.round(a, 5)) & set(np.round(b, 5))), 10) for a, b in zip(exact, found, strict=True)]
        )
        full = np.mean([len(set(np.round(a, 5))) for a in exact])
        assert kept >= (0.6 if kind == "binary" else 0.9) * full, kind  # 8 signs say little
    index(model, reopened(), [*entries, Entry("bread bread bread")], IndexOptions())
    assert reopened().describe().approximate == kind, "an index stays until another one is asked for"
    (hit,) = search(model, reopened(), ["stone"], SearchOptions(1, where="even IS NULL"))[0].hits
    assert hit.text == "bread bread bread", "later rows are found, too"


def test_too_few_rows_for_an_index(model, reopened):
    for kind in reopened().approximations:
        done = index(model, reopened(), ENTRIES, replace(BY_ID, approximate=kind))
        assert (done.too_few, done.table.approximate) == (True, "exact")


def test_words_and_both(model, reopened):
    for tokenizer in reopened().tokenizers:
        done = index(model, reopened(), ENTRIES, replace(BY_ID, words=tokenizer))
        assert done.table.words == tokenizer
        assert ids_of(model, reopened(), "stone", mode="words") == ["2"]
        assert ids_of(model, reopened(), 'zzz ("', mode="words") == []
        assert ids_of(model, reopened(), "water", mode="words", where="year = 2022") == ["5"]
        both = search(model, reopened(), ["stone"], SearchOptions(3, mode="both"))[0].hits
        by_vector = ids_of(model, reopened(), "stone", k=6)
        assert both[0].score == pytest.approx(1 / 61 + 1 / (61 + by_vector.index("2")))
    index(model, reopened(), [*ENTRIES, Entry("paper", "9")], BY_ID)
    if reopened().tokenizers:
        assert ids_of(model, reopened(), "paper", mode="words") == ["9"], "later rows are in the index, too"
        assert index(model, reopened(), ENTRIES, replace(BY_ID, words="none")).table.words is None
