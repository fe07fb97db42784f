"""Clients of rerankers, unchanged and pinned: what they get is what the library gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder, Reranker
from tests.conftest import Rerankers
from tests.server.clients.harness import KEY, QUERY, TEXTS, install_python, run
from tests.server.clients.test_python import QUIET
from tests.server.serving import Served, serving

DOCUMENTS = list(dict.fromkeys(TEXTS))
HEAD = """
import json, os
URL, KEY, QUERY = os.environ["URL"], os.environ["KEY"], os.environ["QUERY"]
DOCUMENTS = list(dict.fromkeys(json.loads(os.environ["TEXTS"])))
def answer(*found):
    print(json.dumps(found))
"""
COHERE = """
import cohere
found = []
for made in (cohere.Client(KEY, base_url=URL), cohere.ClientV2(KEY, base_url=URL)):
    results = made.rerank(model="ranker", query=QUERY, documents=DOCUMENTS).results
    found.append([[DOCUMENTS[one.index], one.relevance_score] for one in results])
cut = cohere.ClientV2(KEY, base_url=URL).rerank(
    model="ranker", query=QUERY, documents=DOCUMENTS, top_n=2, max_tokens_per_doc=3
)
assert len(cut.results) == 2
answer(*found)
"""
LANGCHAIN = """
from langchain_cohere import CohereRerank
made = CohereRerank(cohere_api_key=KEY, base_url=URL, model="ranker", top_n=100)
answer([[DOCUMENTS[one["index"]], one["relevance_score"]] for one in made.rerank(DOCUMENTS, QUERY)])
"""
LLAMA = """
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
nodes = [NodeWithScore(node=TextNode(text=text), score=0) for text in DOCUMENTS]
tei = TextEmbeddingInference(top_n=100, base_url=URL, auth_token=f"Bearer {KEY}")
jina = JinaRerank(top_n=100, model="ranker", base_url=f"{URL}/v1", api_key=KEY)
answer(*([[one.text, one.score] for one in made.postprocess_nodes(nodes, QueryBundle(QUERY))] for made in (tei, jina)))
"""
HAYSTACK = """
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker, TruncationDirection
from haystack_integrations.components.rankers.jina import JinaRanker
documents = [Document(content=text) for text in DOCUMENTS]
tei = HuggingFaceTEIRanker(url=URL, top_k=100, token=Secret.from_token(KEY))
jina = JinaRanker(model="ranker", base_url=f"{URL}/v1/rerank", api_key=Secret.from_token(KEY), top_k=100)
found = [made.run(query=QUERY, documents=documents)["documents"] for made in (tei, jina)]
found.append(tei.run(query=QUERY, documents=documents, truncation_direction=TruncationDirection.LEFT)["documents"])
answer(*([[one.content, one.score] for one in ranked] for ranked in found))
"""


@dataclass(frozen=True)
class Ranking:
    """A client: its packages, and a program that prints rankings, each [[text, score], ...], best first."""

    name: str
    packages: tuple[str, ...]
    program: str


HAYSTACK_PACKAGES = ("haystack-ai==3.4.1", "huggingface-api-haystack==3.1.0", "jina-haystack==2.0.1")
LLAMA_PACKAGES = (
    "llama-index-postprocessor-tei-rerank==0.6.0",
    "llama-index-postprocessor-jinaai-rerank==0.6.0",
)
CLIENTS = [
    Ranking("cohere", ("cohere==7.3.1",), COHERE),
    Ranking("langchain", ("langchain-cohere==0.6.0",), LANGCHAIN),
    Ranking("llamaindex", LLAMA_PACKAGES, LLAMA),
    Ranking("haystack", HAYSTACK_PACKAGES, HAYSTACK),
]
HUB = """
from huggingface_hub import InferenceClient
client = InferenceClient(token=KEY)
near = client.sentence_similarity(QUERY, other_sentences=DOCUMENTS, model=f"{URL}/similarity")
classes = client.text_classification(QUERY, model=f"{URL}/predict")
vector = client.feature_extraction(QUERY, model=URL)
answer(near, [[one.label, one.score] for one in classes], vector.tolist())
"""  # of pairs it knows nothing


@pytest.fixture(scope="module")
def ranking(rerankers: Rerankers, lookup_bundle: Path) -> Iterator[Served]:
    """A reranker beside an embedder, behind a key."""
    bundles = (f"embedder={lookup_bundle}", f"ranker={rerankers.bundle('bert')}")
    with serving(*bundles, variant="fp32", api_keys=(KEY,)) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_gets_the_librarys_ranking(client: Ranking, ranking: Served, rerankers: Rerankers, tmp_path: Path):
    python = install_python(tmp_path, client.packages)
    (tmp_path / "program.py").write_text(HEAD + client.program, encoding="utf-8")
    found = run([python, "program.py"], tmp_path, ranking.url, **QUIET)
    with Reranker(rerankers.bundle("bert"), variant="fp32", num_threads=1) as reranker:
        wanted = reranker.rank(QUERY, DOCUMENTS, activation_fn="sigmoid", return_documents=True)
    assert len(found) >= 1
    for ranked in found:
        assert [text for text, _ in ranked] == [hit["text"] for hit in wanted]
        np.testing.assert_allclose([score for _, score in ranked], [hit["score"] for hit in wanted], atol=1e-6)


@pytest.mark.slow
def test_the_hubs_client_compares_classifies_and_embeds(
    ranking: Served, library: Embedder, rerankers: Rerankers, tmp_path: Path
):
    python = install_python(tmp_path, ["huggingface-hub==2.4.0", "numpy"])
    (tmp_path / "program.py").write_text(HEAD + HUB, encoding="utf-8")
    near, classes, (vector,) = run([python, "program.py"], tmp_path, ranking.url, **QUIET)
    wanted = library.similarity(library.encode([QUERY]), library.encode(DOCUMENTS))[0]
    np.testing.assert_allclose(near, wanted, atol=1e-6)
    np.testing.assert_array_equal(np.array(vector, np.float32), library.encode(QUERY))
    with Reranker(rerankers.bundle("bert"), variant="fp32", num_threads=1) as reranker:
        ((label, score),) = classes
        assert (label, score) == (
            reranker.labels[0],
            pytest.approx(float(reranker.predict([[QUERY]], activation_fn="sigmoid")[0]), abs=1e-6),
        )
