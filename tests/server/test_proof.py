"""A model that is not what it was anymore is not served: files that change, vectors that change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.server import proof
from embedrt.server.proof import Proof, Weights
from tests.conftest import Rerankers
from tests.server.serving import Served, serving, wait_until

BODY = {"input": "the water"}


@pytest.fixture
def bundle(lookup_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(lookup_bundle, tmp_path / "bundle"))


@pytest.fixture
def server(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr("embedrt.server.watch._LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("embedrt.server.watch._LOOK_BEFORE_BATCH_S", 0.0)
    with serving(f"m={bundle}", variant="fp32", proof_every_s=0.02) as made:
        yield made


def reason(server: Served) -> str:
    answer = server.get("/health/ready")
    return "" if answer.status_code == 200 else answer.json()["error"]


def metric(server: Served, name: str) -> float:
    rows = [row for row in server.get("/metrics").text.splitlines() if row.startswith(f"embedrt_{name}")]
    return sum(float(row.rpartition(" ")[2]) for row in rows)


def change(server: Served, row: np.ndarray) -> None:
    """From now on the model gives this for whatever it is proven by."""
    found = server.engine.watch.proof
    found._told = replace(found._told, run=lambda _: row)


def write_in_place(path: Path, at: int, data: bytes) -> bytes:
    with path.open("r+b") as stream:
        stream.seek(at)
        before = stream.read(len(data))
        stream.seek(at)
        stream.write(data)
    return before


def test_an_idle_model_is_proven_again_and_again(server: Served):
    wait_until(lambda: metric(server, 'proofs_total{model="m",same="yes"}') >= 3)
    assert reason(server) == ""
    assert metric(server, "model_unfit") == 0


def test_what_is_written_into_the_weights_stops_the_model_until_they_are_restored(server: Served, bundle: Path):
    weights = bundle / "fp32/model.onnx"
    before = write_in_place(weights, 200, b"\xff" * 8)
    answer = server.post("/v1/embeddings", BODY)  # no batch is run with them, whether anybody looked before or not
    assert answer.status_code == 503
    assert "model.onnx was written to" in answer.json()["error"]["message"]
    assert "m: " in reason(server)
    assert "was written to under the running server" in reason(server)
    assert metric(server, "model_unfit") == 1
    write_in_place(weights, 200, before)
    assert server.post("/v1/embeddings", BODY).status_code == 200
    assert reason(server) == ""


def test_an_idle_server_notices_a_truncation(server: Served, bundle: Path):
    os.truncate(bundle / "fp32/model.onnx", 100)
    wait_until(lambda: reason(server))
    assert "bytes became 100; restore the bundle" in reason(server)
    assert server.post("/embed", {"inputs": "stone"}).status_code == 503
    assert server.get("/health/live").status_code == 200


def test_a_new_time_alone_is_no_change(server: Served, bundle: Path):
    os.utime(bundle / "fp32/model.onnx")
    assert server.post("/v1/embeddings", BODY).status_code == 200
    assert reason(server) == ""


def test_a_file_that_was_replaced_is_said_once_and_does_no_harm(
    server: Served, bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    monkeypatch.setattr(proof, "log", lambda *_, path, **__: said.append(path))
    other = bundle / "fp32/other"
    other.write_bytes(b"something else")
    other.replace(bundle / "fp32/model.onnx")
    wait_until(lambda: said)
    proofs = metric(server, "proofs_total")
    wait_until(lambda: metric(server, "proofs_total") > proofs + 2)
    assert said == [str(bundle / "fp32/model.onnx")]
    assert server.post("/v1/embeddings", BODY).status_code == 200


def test_a_vector_that_is_another_one_stops_the_model(server: Served):
    change(server, np.full(8, 0.25, np.float32))
    wait_until(lambda: reason(server))
    assert "parity text " in reason(server)
    assert metric(server, 'proofs_total{model="m",same="no"}') >= 1
    assert server.post("/v1/embeddings", BODY).status_code == 503


def test_a_reranker_is_proven_too(rerankers: Rerankers, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("embedrt.server.watch._LOOK_EVERY_S", 0.02)
    body = {"query": "fox", "texts": ["dog"]}
    with serving(f"m={rerankers.bundle('bert')}", proof_every_s=0.02) as server:
        wait_until(lambda: metric(server, 'proofs_total{model="m",same="yes"}') >= 5)
        assert reason(server) == ""
        assert server.post("/rerank", body).status_code == 200
        change(server, np.full(1, 0.25, np.float32))
        wait_until(lambda: reason(server))
        assert "does not get what it got when the model was loaded" in reason(server)
        assert "parity pair " in reason(server)
        assert server.post("/rerank", body).status_code == 503


def test_a_busy_model_is_proven_more_rarely(lookup_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    with Embedder(lookup_bundle, variant="fp32") as embedder:
        now = [1000.0]
        monkeypatch.setattr(proof, "time", SimpleNamespace(monotonic=lambda: now[0]))
        made = Proof(embedder, 60.0, proof.texts_of)
        due = []
        for after in (59, 61, 599, 601):
            now[0] = 1000.0 + after
            due.append((made.is_due(idle=True), made.is_due(idle=False)))
        assert due == [(False, False), (True, False), (True, False), (True, True)]
        assert made.prove()
        assert not made.is_due(idle=True)
        assert not Proof(embedder, 0, proof.texts_of).is_due(idle=True)
        made.weights.close()


def test_a_file_without_a_known_hash_must_keep_its_time(tmp_path: Path):
    path = tmp_path / "packed"
    path.write_bytes(b"abc")
    weights = Weights({path: None})
    assert weights.what_changed() is None
    os.utime(path, ns=(1, 1))
    assert "was written to" in str(weights.what_changed())
    weights.close()
