"""Pictures over HTTP: data URIs at OpenAI's path, infinity's modality, and what is refused before it is decoded."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from embedrt import Embedder
from embedrt.pictures.generated import generated_pictures
from tests.server.serving import Served, serving

PICTURES = [Image.fromarray(pixels) for pixels in generated_pictures(4, seed=8)]


def uri(image: Image.Image, kind: str = "PNG") -> str:
    stream = io.BytesIO()
    image.save(stream, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


@pytest.fixture(scope="module")
def clip_server(clip_bundle: Path) -> Iterator[Served]:
    with serving(f"clip={clip_bundle}", variant="int8", request_pictures=3, picture_mpixels=0.1) as made:
        yield made


@pytest.fixture(scope="module")
def clip_library(clip_bundle: Path) -> Iterator[Embedder]:
    with Embedder(clip_bundle, variant="int8", num_threads=1) as made:
        yield made


def vectors(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array([row["embedding"] for row in answer.json()["data"]], np.float32)


def message(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"]["message"])


def close(got: np.ndarray, want: np.ndarray) -> None:
    cosines = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
    assert cosines.min() > 0.999999


def test_pictures_are_embedded_as_by_the_library(clip_server: Served, clip_library: Embedder) -> None:
    uris = [uri(PICTURES[0]), uri(PICTURES[1]), uri(PICTURES[0])]
    want = clip_library.encode_pictures(uris)
    for extra in ({"modality": "image"}, {}):
        answer = clip_server.post("/v1/embeddings", {"input": uris, **extra})
        close(vectors(answer), want)
        assert answer.json()["usage"]["prompt_tokens"] == 3 * 17
        assert answer.json()["identity"] == clip_library.identity
    close(vectors(clip_server.post("/v1/embeddings", {"input": uris[0], "modality": "image"})), want[:1])


def test_texts_of_the_same_model_are_compared_with_them(clip_server: Served, clip_library: Embedder) -> None:
    texts = ["a cat", "two dogs"]
    close(vectors(clip_server.post("/v1/embeddings", {"input": texts})), clip_library.encode(texts))
    as_text = clip_server.post("/v1/embeddings", {"input": uri(PICTURES[0])[:60], "modality": "text"})
    close(vectors(as_text), clip_library.encode_query([" " + uri(PICTURES[0])[:60]]))


def test_the_official_client_sends_pictures(clip_server: Served, clip_library: Embedder) -> None:
    with openai.OpenAI(base_url=f"{clip_server.url}/v1", api_key="unused", max_retries=0) as client:
        answer = client.embeddings.create(
            input=[uri(PICTURES[0])], model="clip", extra_body={"modality": "image"}, encoding_format="float"
        )
    close(np.array([answer.data[0].embedding], np.float32), clip_library.encode_pictures([PICTURES[0]]))


def test_models_say_what_they_take(clip_server: Served, served: Served) -> None:
    assert clip_server.get("/v1/models/clip").json()["modalities"] == ["text", "image"]
    assert served.get("/v1/models/lookup").json()["modalities"] == ["text"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a text"], r"input[0] is no picture: give data:image/png;base64"),
        ("https://example.org/cat.png", "Addresses are never fetched"),
        ([uri(PICTURES[0]), "/etc/passwd"], "input[1] is no picture"),
        (["data:image/png;base64,????"], "picture 0: the data URI is no valid base64"),
        (["data:image/png;base64,aGVsbG8="], "picture 0: is no picture of a format that is read"),
        ([uri(PICTURES[0]), uri(PICTURES[1])[:400]], "picture 1: "),
        ([[1, 2]], "input[0] is no picture"),
        ([], "must not be empty"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_by_its_place(clip_server: Served, given: Any, said: str) -> None:
    answer = clip_server.post("/v1/embeddings", {"input": given, "modality": "image"})
    assert said in message(answer, 400)


@pytest.mark.parametrize("path", ["/embed", "/embed_all"])
def test_paths_for_texts_refuse_pictures(clip_server: Served, served: Served, path: str) -> None:
    """Their letters would be embedded, and nobody would know."""
    for given, place in ((uri(PICTURES[0]), "inputs"), (["a text", uri(PICTURES[0])], "inputs[1]")):
        answer = clip_server.post(path, {"inputs": given})
        assert answer.status_code == 422
        assert answer.json()["error"] == (
            f"{place} is a picture, and texts are embedded here; pictures go to /v1/embeddings"
        )
    assert "pictures need a model of pictures" in served.post(path, {"inputs": uri(PICTURES[0])}).text


def test_a_model_of_texts_takes_the_letters_of_a_picture_only_when_asked(served: Served) -> None:
    refused = served.post("/v1/embeddings", {"input": uri(PICTURES[0]), "modality": "image"})
    assert message(refused, 400) == "lookup embeds texts only, no pictures"
    given = uri(PICTURES[0])[:60]
    said = message(served.post("/v1/embeddings", {"input": given}), 400)
    assert said == (
        "lookup embeds texts only, no pictures; with modality: text, the letters of a data URI are embedded"
    )
    assert served.post("/v1/embeddings", {"input": given, "modality": "text"}).status_code == 200
    assert "modality" in message(served.post("/v1/embeddings", {"input": "a", "modality": "audio"}), 400)


def test_texts_and_pictures_go_into_requests_of_their_own(clip_server: Served) -> None:
    answer = clip_server.post("/v1/embeddings", {"input": [uri(PICTURES[0]), "a text"]})
    assert "texts go into a request of their own" in message(answer, 400)
    assert answer.json()["error"]["param"] == "input[1]"


def test_a_path_is_a_text_here(clip_server: Served, clip_library: Embedder, tmp_path: Path) -> None:
    """The library takes the path of a file for the picture; a server never opens what a client names."""
    path = tmp_path / "a.png"
    PICTURES[0].save(path)
    got = vectors(clip_server.post("/v1/embeddings", {"input": [str(path)]}))
    close(got, clip_library.encode([f" {path}"]))
    assert (got[0] * clip_library.encode(path)).sum() < 0.99 * np.linalg.norm(got[0]) ** 2


def test_too_many_and_too_large_ones_are_refused_before_they_are_decoded(
    clip_server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = clip_server.post("/v1/embeddings", {"input": [uri(PICTURES[0])] * 4, "modality": "image"})
    assert "may have 3 pictures, this has 4" in message(many, 413)
    picture = uri(Image.new("RGB", (400, 300)))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    large = clip_server.post("/v1/embeddings", {"input": picture, "modality": "image"})
    assert "has 400 x 300 pixels, more than the 100,000 that are decoded" in message(large, 400)


def test_texts_and_pictures_of_many_clients_at_once(clip_server: Served, clip_library: Embedder) -> None:
    texts = [f"text {i}" for i in range(6)]
    want_texts, want_pictures = clip_library.encode(texts), clip_library.encode_pictures(PICTURES)
    found: dict[int, np.ndarray] = {}

    def ask(place: int) -> None:
        given = texts[place] if place < 6 else uri(PICTURES[place - 6])
        found[place] = vectors(clip_server.post("/v1/embeddings", {"input": given}))[0]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close(np.stack([found[i] for i in range(10)]), np.concatenate([want_texts, want_pictures]))
