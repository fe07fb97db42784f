"""OpenAI's API: what the official clients send and read, and the vectors against the library's."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings

from embedrt import Embedder
from tests.server.serving import Served, serving

TEXTS = ["the water", "a", "", "light river stone", "안녕하세요", "a"]


@pytest.fixture(scope="module")
def client(served: Served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0) as made:
        yield made


def embed(served: Served, **body: object) -> np.ndarray:
    """Vectors by way of JSON numbers."""
    answer = served.post("/v1/embeddings", body)
    assert answer.status_code == 200, answer.text
    return np.array([row["embedding"] for row in answer.json()["data"]], dtype=np.float32)


def bits(vectors: object) -> bytes:
    return np.ascontiguousarray(vectors, dtype=np.float32).tobytes()


def test_base64_and_numbers_are_the_librarys_bits(served: Served, library: Embedder):
    wanted = library.encode(TEXTS)
    assert bits(embed(served, input=TEXTS)) == bits(wanted)
    answer = served.post("/v1/embeddings", {"input": TEXTS, "encoding_format": "base64"}).json()
    assert b"".join(base64.b64decode(row["embedding"]) for row in answer["data"]) == bits(wanted)
    assert [row["index"] for row in answer["data"]] == list(range(len(TEXTS)))


@pytest.mark.parametrize(
    ("variant", "executor"), [("int8", "auto"), ("int8", "onnxruntime"), ("fp32", "auto"), ("fp16", "auto")]
)
def test_a_transformers_vectors_are_the_librarys(tiny_bundle: Path, variant: str, executor: str):
    """int8 rows are quantized by themselves, so bits hold whatever shares the batch; ONNX Runtime's floating-point
    kernels promise no bits across shapes, so for those the tolerance is that of fp32 sums of this size."""
    texts = ["hello", "a fox jumps over the lazy dog", "", "서울의 날씨", "the quick brown fox " * 20, "metro"] * 3
    with serving(tiny_bundle, variant=variant, executor=executor, batch_tokens=64) as server:
        single = np.concatenate([embed(server, input=text) for text in texts])
        together = embed(server, input=texts)
        with Embedder(tiny_bundle, variant=variant, executor=executor, num_threads=1) as library:
            wanted = library.encode_detailed(texts).embeddings
    if variant == "int8":
        assert bits(together) == bits(wanted)
        assert bits(single) == bits(wanted)
    np.testing.assert_allclose(together, wanted, atol=1e-6)
    np.testing.assert_allclose(single, wanted, atol=1e-6)


def test_the_official_client(client: openai.OpenAI, library: Embedder):
    answer = client.embeddings.create(model="lookup", input=TEXTS)
    assert bits([row.embedding for row in answer.data]) == bits(library.encode(TEXTS))
    assert answer.model == "lookup"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(library.count_tokens(TEXTS))
    one = client.embeddings.create(model="lookup", input="the water", encoding_format="float", user="somebody")
    assert bits(one.data[0].embedding) == bits(library.encode("the water"))


def test_the_official_client_lists_models(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["lookup", "lookup:query", "lookup:document"]
    assert client.models.retrieve("lookup:query").owned_by == "tests/lookup"
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'; there are: lookup, lookup:query"):
        client.models.retrieve("gpt")


def test_the_official_clients_exceptions(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="lookup:passages", input="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="input must not be empty"):
        client.embeddings.create(model="lookup", input=[])


def test_azures_client(lookup_bundle: Path, library: Embedder):
    with serving(lookup_bundle, variant="fp32", api_keys=("secret",)) as server:
        options: dict[str, Any] = {"azure_endpoint": server.url, "api_version": "2024-10-21", "max_retries": 0}
        with openai.AzureOpenAI(api_key="secret", **options) as made:
            answer = made.embeddings.create(model="lookup:query", input=TEXTS)
            assert bits([row.embedding for row in answer.data]) == bits(library.encode_query(TEXTS))
            with pytest.raises(openai.NotFoundError, match="there is no model 'other'"):
                made.embeddings.create(model="other", input=TEXTS)
        with openai.AzureOpenAI(api_key="wrong", **options) as made, pytest.raises(openai.AuthenticationError):
            made.embeddings.create(model="lookup", input=TEXTS)


def test_a_base_url_without_v1(served: Served, library: Embedder):
    for base in ("", "/openai/v1"):
        with openai.OpenAI(base_url=f"{served.url}{base}", api_key="unused", max_retries=0) as made:
            answer = made.embeddings.create(model="lookup", input=TEXTS)
            assert bits([row.embedding for row in answer.data]) == bits(library.encode(TEXTS))
            assert [model.id for model in made.models.list()] == ["lookup", "lookup:query", "lookup:document"]
            with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
                made.models.retrieve("gpt")


def test_langchain(served: Served, library: Embedder):
    made = OpenAIEmbeddings(
        model="lookup", base_url=f"{served.url}/v1", api_key="unused", check_embedding_ctx_length=False
    )
    assert bits(made.embed_documents(TEXTS)) == bits(library.encode(TEXTS))
    assert bits(made.embed_query("the water")) == bits(library.encode("the water"))


def test_prompts_by_model_name_and_by_input_type(served: Served, library: Embedder):
    query, document = library.encode_query(TEXTS), library.encode_document(TEXTS)
    assert bits(query) != bits(document)
    assert bits(embed(served, input=TEXTS, model="lookup:query")) == bits(query)
    assert bits(embed(served, input=TEXTS, model="lookup:document")) == bits(document)
    assert bits(embed(served, input=TEXTS, input_type="query")) == bits(query)
    assert bits(embed(served, input=TEXTS, input_type="passage")) == bits(document)
    assert bits(embed(served, input=TEXTS, input_type="query", task="stone")) == bits(
        library.encode_query(TEXTS, task="stone")
    )
    assert bits(embed(served, input=TEXTS, model="tests/lookup:query")) == bits(query)  # the source's id
    contradiction = served.post("/v1/embeddings", {"input": "a", "model": "lookup:query", "input_type": "document"})
    assert contradiction.status_code == 400


def test_the_models_own_token_ids(taking_ids: Served, library: Embedder):
    ids = library.tokenize(["the water", "stone"])
    assert bits(embed(taking_ids, input=ids)) == bits(library.encode(["the water", "stone"]))
    assert bits(embed(taking_ids, input=ids[0])) == bits(library.encode(["the water"]))
    bare = [row[1:-1] for row in ids]  # the special tokens are added where they are missing
    assert bits(embed(taking_ids, input=bare)) == bits(library.encode(["the water", "stone"]))


def test_dimensions_are_normalized_again(served: Served, library: Embedder):
    assert bits(embed(served, input=TEXTS, dimensions=4)) == bits(library.encode(TEXTS, truncate_dim=4))
    assert bits(embed(served, input=TEXTS, dimensions=8)) == bits(library.encode(TEXTS))


def test_dimensions_are_refused_for_models_that_were_not_trained_for_it(lookup_bundle: Path):
    with serving(lookup_bundle) as server:
        answer = server.post("/v1/embeddings", {"input": "a", "dimensions": 4})
        assert answer.status_code == 400
        assert "--matryoshka lookup" in answer.json()["error"]["message"]
        assert server.post("/v1/embeddings", {"input": "a", "dimensions": 8}).status_code == 200


def test_what_was_cut_is_said_in_header_and_field(served: Served, library: Embedder):
    answer = served.post("/v1/embeddings", {"input": ["a", "stone " * 50]})
    assert answer.json()["truncated"] == [{"index": 1, "num_tokens": 52, "limit": 32}]
    assert answer.headers["x-embedrt-truncated"] == "1"
    assert answer.headers["x-embedrt-tokens"] == str(3 + 32) == str(answer.json()["usage"]["prompt_tokens"])
    assert answer.json()["identity"] == answer.headers["x-embedrt-identity"] == library.identity
    assert answer.headers["x-embedrt-model"] == "lookup"
    phases = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert set(phases) == {"parse", "tokenize", "queue", "compute", "write", "total"}
    assert sum(map(float, phases.values())) <= 2 * float(phases["total"])


REFUSED = [
    (b'{"input": "a"', 400, "not JSON"),
    (b'{"input": [NaN]}', 400, "not JSON"),
    (b"\xff\xfe", 400, "it is UTF-16"),
    ({}, 400, "the field 'input' is missing"),
    ({"input": None}, 400, "input: expected"),
    ({"input": 3}, 400, "input: expected"),
    ({"input": ["a", 3]}, 400, "input[1] is of another sort"),
    ({"input": ["a", None]}, 400, "input[1]: expected"),
    ({"input": [1.5]}, 400, "input[0]: expected"),
    ({"input": [True]}, 400, "input[0]: expected"),
    ({"input": [-1]}, 400, "input[0]: expected"),
    ({"input": [2**40]}, 400, "input[0]: expected"),
    ({"input": [[1, 2], [3]]}, 400, "check_embedding_ctx_length=False"),
    ({"input": "a", "dimensions": 9}, 400, "more than the vector's 8"),
    ({"input": "a", "dimensions": 0}, 400, "dimensions: expected `int` >= 1"),
    ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format must be one of base64, float, not 'hex'"),
    ({"input": "a", "temperature": 1}, 400, "there is no field 'temperature'; the fields are: input, model"),
    ({"input": "a", "task": "stone"}, 400, "goes with queries only"),
    ({"input": ["a", "stone " * 50], "truncate": False}, 400, "text 1: has 52 tokens, the model takes 32"),
    (b'{"input": ["a", "\\ud800"]}', 400, "half a surrogate pair (byte 17)"),
]


@pytest.mark.parametrize(("body", "status", "message"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_is_refused_says_why(served: Served, body: object, status: int, message: str):
    answer = served.post("/v1/embeddings", body)
    assert (answer.status_code, set(answer.json())) == (status, {"error"})
    error = answer.json()["error"]
    assert message in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": [[1, 2], [9999]]}, "input[1]: token ids go to"),
        ({"input": [[]]}, "input[0] has no token ids"),
        ({"input": [4, 5], "input_type": "query"}, "cannot take the prompt"),
        ({"input": [[4], "a"]}, "input[1] is of another sort"),
    ],
)
def test_token_ids_that_are_refused(taking_ids: Served, body: object, message: str):
    answer = taking_ids.post("/v1/embeddings", body)
    assert (answer.status_code, message in answer.json()["error"]["message"]) == (400, True), answer.text
