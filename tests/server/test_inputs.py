"""What token ids mean: refused by default, the model's own, or OpenAI's, which become texts again."""

from __future__ import annotations

import base64
import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.errors import OptionError
from embedrt.server import inputs as server_inputs
from embedrt.server import tiktoken
from tests.server.serving import Served, serving, wait_until

PIECES = [*(bytes([i]) for i in range(256)), b"the", b" water", "물".encode(), b" stone"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """tiktoken's folder with a file of its format, made by hand."""
    rows = b"".join(base64.b64encode(piece) + b" %d\n" % rank for rank, piece in enumerate(PIECES))
    (tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").write_bytes(rows)
    return tmp_path


def sha256(folder: Path) -> str:
    return hashlib.sha256(next(folder.iterdir()).read_bytes()).hexdigest()


def ids_of(*pieces: bytes) -> list[int]:
    return [PIECES.index(piece) for piece in pieces]


def test_ids_become_text(folder: Path):
    decoder = tiktoken.load_decoder([folder], sha256=sha256(folder))
    assert decoder.text(ids_of(b"the", b" water", b"!", "물".encode())) == "the water!물"
    assert decoder.text([*"é".encode(), "물".encode()[0]]) == "é\ufffd"
    with pytest.raises(KeyError):
        decoder.text([len(PIECES)])


def test_a_file_that_is_missing_or_another_says_how_to_get_it(folder: Path, tmp_path: Path):
    with pytest.raises(OptionError, match="is not cl100k_base: its sha256 is another"):
        tiktoken.load_decoder([folder])
    with pytest.raises(OptionError, match=r"TIKTOKEN_CACHE_DIR=.*nowhere python -c"):
        tiktoken.load_decoder([tmp_path / "nowhere"])
    assert tiktoken.tiktoken_folders({"TIKTOKEN_CACHE_DIR": "/a", "DATA_GYM_CACHE_DIR": "/b"}) == [Path("/a")]
    assert tiktoken.tiktoken_folders({"DATA_GYM_CACHE_DIR": "/b"}) == [Path("/b")]
    assert tiktoken.tiktoken_folders({})[0].name == "data-gym-cache"


def test_the_names_are_tiktokens_own():
    """The file's name and hash as the library has them, which is installed with the tests' clients."""
    source = (Path(pytest.importorskip("tiktoken_ext.openai_public").__file__)).read_text()
    address = next(line.split('"')[1] for line in source.splitlines() if "cl100k_base.tiktoken" in line)
    assert hashlib.sha1(address.encode()).hexdigest() in tiktoken._NAMES
    assert tiktoken._SHA256 in source


def test_ids_of_openais_tokenizer_are_embedded_as_the_texts_they_stand_for(
    lookup_bundle: Path, folder: Path, library: Embedder, monkeypatch: pytest.MonkeyPatch
):
    made = tiktoken.load_decoder([folder], sha256=sha256(folder))
    monkeypatch.setattr(server_inputs, "load_decoder", lambda: made)
    ids = [ids_of(b"the", b" water"), ids_of(b"t", b"h", b"e", b" stone")]
    with serving(lookup_bundle, variant="fp32", token_ids="cl100k_base") as server:
        rows = server.post("/v1/embeddings", {"input": ids}).json()["data"]
        wanted = library.encode(["the water", "the stone"])
        assert np.array_equal(np.array([row["embedding"] for row in rows], np.float32), wanted)
        query = server.post("/v1/embeddings", {"input": ids[0], "input_type": "query"}).json()["data"]
        assert np.array_equal(np.array(query[0]["embedding"], np.float32), library.encode_query("the water"))
        beyond = server.post("/v1/embeddings", {"input": [[1], [100257]]})
        assert (beyond.status_code, beyond.json()["error"]["param"]) == (400, "input[1]")
        own = server.post("/embed", {"inputs": library.tokenize(["the water"])})  # TEI's ids are what /tokenize gives
        assert np.array_equal(np.array(own.json(), np.float32), wanted[:1])


def test_a_server_without_the_file_does_not_start(lookup_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with (
        pytest.raises(OptionError, match="needs tiktoken's file"),
        serving(lookup_bundle, token_ids="cl100k_base"),
    ):
        pass


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/embed_all"])
def test_ids_are_refused_unless_asked_for(served: Served, path: str):
    field = "input" if path.startswith("/v1") else "inputs"
    for given in ([15339, 1917], [[15339, 1917]], [[4]]):
        answer = served.post(path, {field: given})
        assert answer.status_code == (400 if path.startswith("/v1") else 422)
        assert "--token-ids own" in answer.text
        assert "check_embedding_ctx_length=False" in answer.text


def test_the_first_ids_that_are_taken_are_logged(taking_ids: Served):
    records: list[logging.LogRecord] = []
    handler, logger = logging.Handler(), logging.getLogger("embedrt.server")
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    taking_ids.service.inputs._told.clear()
    try:
        for _ in range(2):
            assert taking_ids.post("/v1/embeddings", {"input": [4, 5]}).status_code == 200
        wait_until(lambda: sum(record.getMessage() == "request" for record in records) >= 2)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    (line,) = [record for record in records if record.getMessage() == "token ids are taken"]
    assert line.fields == {"model": "lookup", "api": "openai", "read_as": "own"}
