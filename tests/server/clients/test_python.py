"""Python clients, unchanged and pinned, each in a virtual environment of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from tests.server.clients.harness import Client, install_python, run
from tests.server.serving import Served

HEAD = """
import json, os
URL, KEY, TEXTS, QUERY = os.environ["URL"], os.environ["KEY"], json.loads(os.environ["TEXTS"]), os.environ["QUERY"]
def answer(documents, query):
    print(json.dumps({"documents": [[float(x) for x in v] for v in documents], "query": [float(x) for x in query]}))
"""
OPENAI = """
from openai import OpenAI
client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
rows = client.embeddings.create(model="text-embedding-3-small", input=TEXTS).data
answer([row.embedding for row in rows], client.embeddings.create(model="lookup", input=QUERY).data[0].embedding)
"""
LANGCHAIN = """
from langchain_openai import OpenAIEmbeddings
made = OpenAIEmbeddings(model="text-embedding-3-small", base_url=f"{URL}/v1", api_key=KEY)
answer(made.embed_documents(TEXTS), made.embed_query(QUERY))
"""
LLAMA_OPENAI = """
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
made = OpenAILikeEmbedding(model_name="lookup", api_base=f"{URL}/v1", api_key=KEY)
answer(made.get_text_embedding_batch(TEXTS), made.get_query_embedding(QUERY))
"""
LLAMA_TEI = """
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
made = TextEmbeddingsInference(model_name="lookup", base_url=URL, auth_token=KEY)
answer(made.get_text_embedding_batch(TEXTS), made.get_query_embedding(QUERY))
"""
HAYSTACK_OPENAI = """
from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret
given = {"api_key": Secret.from_token(KEY), "model": "lookup", "api_base_url": f"{URL}/v1"}
documents = OpenAIDocumentEmbedder(**given, progress_bar=False).run([Document(content=text) for text in TEXTS])
answer([d.embedding for d in documents["documents"]], OpenAITextEmbedder(**given).run(QUERY)["embedding"])
"""
HAYSTACK_TEI = """
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder, HuggingFaceAPITextEmbedder
)
given = {"api_type": "text_embeddings_inference", "api_params": {"url": URL}, "token": Secret.from_token(KEY)}
documents = HuggingFaceAPIDocumentEmbedder(**given, progress_bar=False).run([Document(content=text) for text in TEXTS])
answer([d.embedding for d in documents["documents"]], HuggingFaceAPITextEmbedder(**given).run(QUERY)["embedding"])
"""
LITELLM = """
import litellm
given = {"api_base": f"{URL}/v1", "api_key": KEY}
rows = litellm.embedding(model="openai/lookup", input=TEXTS, **given).data
asked = litellm.embedding(model="openai/lookup", input=[QUERY], **given).data
answer([row["embedding"] for row in rows], asked[0]["embedding"])
"""
CHROMA_OPENAI = """
import chromadb
from chromadb.utils.embedding_functions import OpenAIEmbeddingFunction
os.environ["CHROMA_OPENAI_API_KEY"] = KEY
made = OpenAIEmbeddingFunction(api_base=f"{URL}/v1", model_name="text-embedding-3-small")
kept = chromadb.EphemeralClient().create_collection("texts", embedding_function=made)
kept.add(ids=[str(i) for i in range(len(TEXTS))], documents=TEXTS)  # which normalizes once more what it keeps
assert kept.query(query_texts=[TEXTS[1]], n_results=1)["ids"] == [["1"]]
answer(made(TEXTS), made([QUERY])[0])
"""
CHROMA_TEI = """
import chromadb
from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer
os.environ["SERVER_KEY"] = KEY
made = HuggingFaceEmbeddingServer(url=f"{URL}/embed", api_key_env_var="SERVER_KEY")
kept = chromadb.EphemeralClient().create_collection("texts", embedding_function=made)
kept.add(ids=[str(i) for i in range(len(TEXTS))], documents=TEXTS)  # which normalizes once more what it keeps
assert kept.query(query_texts=[TEXTS[1]], n_results=1)["ids"] == [["1"]]
answer(made(TEXTS), made([QUERY])[0])
"""
LANCEDB = """
import lancedb
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector
registry = get_registry()
registry.set_var("key", KEY)
made = registry.get("openai").create(name="text-embedding-3-small", dim=8, base_url=f"{URL}/v1", api_key="$var:key")
class Row(LanceModel):
    text: str = made.SourceField()
    vector: Vector(made.ndims()) = made.VectorField()
table = lancedb.connect("kept").create_table("texts", schema=Row)
table.add([{"text": text} for text in TEXTS])
answer(table.to_arrow()["vector"].to_pylist(), made.compute_query_embeddings(QUERY)[0])
"""
HUB = """
from huggingface_hub import InferenceClient
made = InferenceClient(model=URL, token=KEY)
asked = made.feature_extraction(QUERY, normalize=True, truncate=True)
answer([made.feature_extraction(text)[0] for text in TEXTS], asked[0])
"""

CLIENTS = [
    Client("openai", ("openai==3.57.0",), OPENAI),
    Client("langchain-by-its-defaults", ("langchain-openai==1.7.4",), LANGCHAIN, decoded=True),
    Client("llamaindex-openai", ("llama-index-embeddings-openai-like==0.4.0",), LLAMA_OPENAI),
    Client("llamaindex-tei", ("llama-index-embeddings-text-embeddings-inference==0.6.0",), LLAMA_TEI),
    Client("haystack-openai", ("haystack-ai==3.4.1",), HAYSTACK_OPENAI),
    Client("haystack-tei", ("haystack-ai==3.4.1", "huggingface-api-haystack==3.1.0"), HAYSTACK_TEI, raw=True),
    Client("litellm", ("litellm==1.110.2",), LITELLM),
    Client("chromadb-openai", ("chromadb==1.5.9", "openai==3.57.0"), CHROMA_OPENAI),
    Client("chromadb-tei", ("chromadb==1.5.9",), CHROMA_TEI),
    Client("lancedb", ("lancedb==0.40.0", "openai==3.57.0"), LANCEDB),
    Client("huggingface-hub", ("huggingface-hub==2.4.0", "numpy"), HUB),
]
# No client asks home: what they would send, and where they would look for models, is switched off.
QUIET = {"HAYSTACK_TELEMETRY_ENABLED": "False", "ANONYMIZED_TELEMETRY": "False", "DO_NOT_TRACK": "1",
         "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUTF8": "1"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_gets_the_librarys_vectors(
    client: Client, with_key: Served, tmp_path: Path, checked: Callable[..., None], request: pytest.FixtureRequest
):
    server, extra = with_key, QUIET
    if client.decoded:
        server = request.getfixturevalue("decoding")
        extra = QUIET | {"TIKTOKEN_CACHE_DIR": str(request.getfixturevalue("tiktoken_folder"))}
    python = install_python(tmp_path, client.packages)
    (tmp_path / "program.py").write_text(HEAD + client.program, encoding="utf-8")
    checked(client, run([python, "program.py"], tmp_path, server.url, **extra))


@pytest.mark.slow
def test_openais_client_asks_for_windows_by_extra_body(with_key: Served, library: Embedder, tmp_path: Path):
    python = install_python(tmp_path, ["openai==3.57.0"])
    program = OPENAI.replace("input=TEXTS", 'input=TEXTS, extra_body={"on_overflow": "windows"}')
    text = "a house of bread and paper " * 60
    (tmp_path / "program.py").write_text(HEAD + f"TEXTS = [{text!r}]\n" + program, encoding="utf-8")
    found = run([python, "program.py"], tmp_path, with_key.url, **QUIET)["documents"]
    np.testing.assert_array_equal(np.array(found, np.float32), library.encode([text], on_overflow="windows"))


@pytest.mark.slow
def test_langchain_by_its_defaults_is_told_what_to_do(with_key: Served, tmp_path: Path, tiktoken_folder: Path):
    """Where the server takes no token ids: OpenAI's error for it, with the switch's name."""
    python = install_python(tmp_path, ["langchain-openai==1.7.4"])
    program = LANGCHAIN.replace("answer(", "import openai\ntry: answer(") + (
        "except openai.BadRequestError as exc: print(json.dumps({'said': str(exc)}))\n"
    )
    (tmp_path / "program.py").write_text(HEAD + program, encoding="utf-8")
    extra = QUIET | {"TIKTOKEN_CACHE_DIR": str(tiktoken_folder)}
    said = run([python, "program.py"], tmp_path, with_key.url, **extra)["said"]
    assert "check_embedding_ctx_length=False" in said
