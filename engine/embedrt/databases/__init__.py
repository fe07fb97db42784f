"""Texts and their vectors in a database: made from a corpus, kept up to date with it, and searched.

::

    from embedrt import Embedder
    from embedrt.databases import Entry, index, open_database, search

    with Embedder("intfloat/multilingual-e5-small") as model:
        database = open_database("notes.db", write=True)
        index(model, database, [Entry("서울의 날씨", id="1", columns={"lang": "ko"})])
        search(model, database, ["weather in Seoul"])[0].hits

Whatever has the methods of `Database` can be one; `open_database` knows those that come with embedrt.
"""

from embedrt.databases.model import Asked, Candidate, Database, Description, Entry, Hashes, Recipe, Row
from embedrt.databases.names import is_database
from embedrt.databases.opening import open_database
from embedrt.databases.searching import Answer, Hit, SearchOptions, search
from embedrt.databases.updating import Indexed, IndexOptions, index

__all__ = [
    "Answer",
    "Asked",
    "Candidate",
    "Database",
    "Description",
    "Entry",
    "Hashes",
    "Hit",
    "IndexOptions",
    "Indexed",
    "Recipe",
    "Row",
    "SearchOptions",
    "index",
    "is_database",
    "open_database",
    "search",
]
