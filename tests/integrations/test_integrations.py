"""Each class against the real library: vectors as embedrt gives them, with the right prompts, also after a pickle."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.errors import BundleNotFoundError
from embedrt.integrations.lazy import LazyEmbedder
from tests.integrations.conftest import SETTINGS, TEXTS

MODULES = ("langchain", "llama_index", "haystack", "chroma", "lancedb", "sklearn")


@pytest.fixture(scope="module")
def documents(own: Embedder) -> list[list[float]]:
    return own.encode_document(TEXTS).tolist()


@pytest.fixture(scope="module")
def query(own: Embedder) -> list[float]:
    return own.encode_query(TEXTS[0]).tolist()


def test_prompts_matter(documents: list[list[float]], query: list[float]) -> None:
    assert documents[0] != query


def test_langchain(bundle: str, documents: list[list[float]], query: list[float]) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.vectorstores import InMemoryVectorStore

    from embedrt.integrations.langchain import EmbedrtEmbeddings

    embeddings = pickle.loads(pickle.dumps(EmbedrtEmbeddings(bundle, **SETTINGS)))
    assert embeddings.embed_documents(TEXTS) == documents
    assert embeddings.embed_query(TEXTS[0]) == query
    assert asyncio.run(embeddings.aembed_documents(TEXTS)) == documents
    assert embeddings.embed_documents([]) == []
    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    found = store.similarity_search_with_score(TEXTS[1], k=3)
    assert {hit.page_content for hit, _score in found} == set(TEXTS)


def test_llama_index(bundle: str, documents: list[list[float]], query: list[float]) -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import TextNode

    from embedrt.integrations.llama_index import EmbedrtEmbedding

    model = pickle.loads(pickle.dumps(EmbedrtEmbedding(bundle, settings=SETTINGS)))
    assert model.get_text_embedding_batch(TEXTS) == documents
    assert model.get_text_embedding(TEXTS[1]) == pytest.approx(documents[1])
    assert model.get_query_embedding(TEXTS[0]) == query
    assert asyncio.run(model.aget_query_embedding(TEXTS[0])) == query
    assert [node.embedding for node in model([TextNode(text=text) for text in TEXTS])] == documents
    assert model.to_dict()["bundle"] == bundle


def test_haystack(bundle: str, documents: list[list[float]], query: list[float]) -> None:
    pytest.importorskip("haystack")
    from haystack import Document, Pipeline

    from embedrt.integrations.haystack import EmbedrtDocumentEmbedder, EmbedrtTextEmbedder

    pipeline = Pipeline()
    pipeline.add_component("documents", EmbedrtDocumentEmbedder(bundle, SETTINGS))
    pipeline.add_component("query", EmbedrtTextEmbedder(bundle, SETTINGS))
    pipeline = Pipeline.loads(pipeline.dumps(), allowed_modules=["embedrt.integrations.haystack"])  # as YAML
    given = [Document(content=text, meta={"title": "t"}) for text in TEXTS]
    done = pipeline.run({"documents": {"documents": given}, "query": {"text": TEXTS[0]}})
    assert [one.embedding for one in done["documents"]["documents"]] == documents
    assert done["query"]["embedding"] == query
    assert all(one.embedding is None for one in given)
    titled = EmbedrtDocumentEmbedder(bundle, SETTINGS, meta_fields_to_embed=["title", "none"])
    assert titled._text(given[2]) == "t\na"
    assert titled.run([])["documents"] == []
    with pytest.raises(TypeError, match="EmbedrtDocumentEmbedder"):
        EmbedrtTextEmbedder(bundle).run(given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="EmbedrtTextEmbedder"):
        EmbedrtDocumentEmbedder(bundle).run("text")  # type: ignore[arg-type]


def test_chroma(bundle: str, documents: list[list[float]], query: list[float], tmp_path: Path) -> None:
    chromadb = pytest.importorskip("chromadb")
    from embedrt.integrations.chroma import EmbedrtEmbeddingFunction

    settings = chromadb.config.Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(str(tmp_path), settings)
    client.create_collection("texts", embedding_function=EmbedrtEmbeddingFunction(bundle, SETTINGS))
    collection = client.get_collection("texts")  # finds the function by its name
    collection.add(ids=["0", "1", "2"], documents=TEXTS)
    kept = collection.get(ids=["0", "1", "2"], include=["embeddings"])["embeddings"]
    np.testing.assert_allclose(kept, documents, atol=1e-7)  # Chroma normalizes what is in a cosine space
    found = collection.query(query_texts=[TEXTS[0]], n_results=3)
    distances = dict(zip(found["ids"][0], found["distances"][0], strict=True))
    cosine = np.array(documents) @ np.array(query)
    assert [distances[name] for name in "012"] == pytest.approx(list(1 - cosine), abs=1e-5)


def test_lancedb(bundle: str, documents: list[list[float]], query: list[float], tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb")
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    from embedrt.integrations import lancedb as _registers  # noqa: F401

    model = get_registry().get("embedrt").create(bundle=bundle, settings=SETTINGS)

    class Row(LanceModel):
        text: str = model.SourceField()
        vector: Vector(model.ndims()) = model.VectorField()  # type: ignore[valid-type]

    table = lancedb.connect(tmp_path).create_table("texts", schema=Row)
    table.add([{"text": text} for text in TEXTS])
    table = lancedb.connect(tmp_path).open_table("texts")  # what it kept is enough
    rows = {row["text"]: row["vector"] for row in table.to_arrow().to_pylist()}
    np.testing.assert_array_equal([rows[text] for text in TEXTS], np.array(documents, np.float32))
    (first,) = table.search(TEXTS[0]).metric("dot").limit(1).to_list()
    best = int(np.argmax(np.array(documents) @ np.array(query)))
    assert first["text"] == TEXTS[best]


def test_sklearn(bundle: str, own: Embedder) -> None:
    pytest.importorskip("sklearn")
    import pandas as pd
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from embedrt.integrations.sklearn import EmbedrtTransformer

    transformer = clone(EmbedrtTransformer(bundle, kind="document", settings=SETTINGS))
    np.testing.assert_array_equal(transformer.fit_transform(TEXTS), own.encode_document(TEXTS))
    series = pd.Series(TEXTS, index=[5, 6, 7])
    frame = transformer.set_output(transform="pandas").transform(series)
    assert list(frame.columns[:2]) == ["embedrt0", "embedrt1"]
    assert list(frame.index) == [5, 6, 7]
    again = transformer.set_output(transform="default").set_params(kind="query")
    np.testing.assert_array_equal(again.transform(TEXTS), own.encode_query(TEXTS))
    again.set_params(settings={**SETTINGS, "truncate_dim": 4})
    assert again.transform(TEXTS).shape == (3, 4)
    pipeline = make_pipeline(EmbedrtTransformer(bundle, settings=SETTINGS), LogisticRegression())
    pipeline.fit(TEXTS * 4, [0, 1, 1] * 4)
    loaded = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(loaded.predict(TEXTS), pipeline.predict(TEXTS))


def test_an_embedder_is_taken_as_it_is(own: Embedder) -> None:
    assert LazyEmbedder(own, {}).embedder is own
    assert LazyEmbedder(own, {"truncate_dim": 4}).embedder.dimension == 4


def test_the_model_is_opened_at_first_use(tmp_path: Path) -> None:
    lazy = LazyEmbedder(str(tmp_path / "missing"), {})
    with pytest.raises(BundleNotFoundError, match="missing"):
        lazy.query("a")


@pytest.mark.parametrize("module", MODULES)
def test_a_missing_library_is_named(module: str) -> None:
    program = (
        "import sys\n"
        "for name in ('langchain_core', 'llama_index', 'haystack', 'chromadb', 'lancedb', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        "from embedrt import DependencyError\n"
        f"try:\n    import embedrt.integrations.{module}\nexcept DependencyError as exc:\n    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install" in done.stdout
