"""BGE-M3's three outputs from one pass against its layers in torch, and FlagEmbedding where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedrt import Embedder, InputError, Model, MultiVectorEncoder, OptionError, SparseEncoder
from tests import tiny

TEXTS = [*tiny.CORPUS, "dog fox dog", "a"]


@pytest.fixture(scope="module")
def m3(export_outputs: Callable[..., tuple[Path, Path]]) -> tuple[Path, Path]:
    return export_outputs("m3", variants=("fp32", "int8"))


def reference(model: Path, texts: list[str]) -> tuple[Any, list[dict[int, float]], list[Any]]:
    """Dense vectors, weights by token, vectors of tokens: by FlagEmbedding's formulas."""
    whole = SentenceTransformer(str(model), device="cpu")
    layers = [torch.load(model / name, weights_only=True) for name in ("sparse_linear.pt", "colbert_linear.pt")]
    weights, rows = [], []
    special = {0, 1, 2, 3}  # <s>, <pad>, </s>, <unk>
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([whole.tokenizer(text, truncation=True, max_length=48)["input_ids"]])
            hidden = whole[0].model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            numbers = torch.relu(hidden @ layers[0]["weight"][0] + layers[0]["bias"]).tolist()
            found: dict[int, float] = {}
            for number, weight in zip(ids[0].tolist(), numbers, strict=True):
                if weight > found.get(number, 0) and number not in special:
                    found[number] = weight
            weights.append(found)
            tokens = hidden[1:] @ layers[1]["weight"].T + layers[1]["bias"]
            rows.append(torch.nn.functional.normalize(tokens, dim=-1).numpy())
    return whole.encode(texts), weights, rows


@pytest.mark.parametrize(
    ("variant", "executor", "tolerance"),
    [("fp32", "auto", 1e-5), ("int8", "native", 0.03), ("int8", "onnxruntime", 0.03)],
)
def test_three_outputs_come_from_one_run(
    m3: tuple[Path, Path], variant: Any, executor: Any, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, weights, rows = reference(m3[0], TEXTS)
    with Model(m3[1], variant=variant, executor=executor, num_threads=1) as model:
        assert model.outputs == ("dense", "sparse", "tokens")
        runs = []
        kind = type(model._loaded.executor)
        run = kind.run
        monkeypatch.setattr(kind, "run", lambda self, *given, **named: runs.append(1) or run(self, *given, **named))
        found = model.encode(TEXTS)
        count = len(runs)
        model.encode(TEXTS, outputs=("dense",))
        assert len(runs) == 2 * count
    assert found.dense is not None
    assert found.sparse is not None
    assert found.tokens is not None
    np.testing.assert_allclose(found.dense, dense, atol=2 * tolerance)
    for ours, theirs in zip(found.sparse, weights, strict=True):
        if tolerance < 1e-4:
            assert ours.as_dict() == pytest.approx(theirs, rel=1e-3, abs=1e-5)
        else:
            np.testing.assert_allclose(ours.to_dense()[list(theirs)], list(theirs.values()), atol=0.2)
    for rows_ours, rows_theirs in zip(found.tokens, rows, strict=True):
        assert (rows_ours * rows_theirs).sum(axis=1).min() > 1 - tolerance


def test_each_class_gives_its_own_output_of_the_same_bundle(m3: tuple[Path, Path]) -> None:
    options: dict[str, Any] = {"variant": "fp32", "num_threads": 1}
    with Model(m3[1], **options) as model:
        whole = model.encode(TEXTS)
    with Embedder(m3[1], **options) as embedder:
        np.testing.assert_array_equal(embedder.encode(TEXTS), whole.dense)
    with SparseEncoder(m3[1], **options) as sparse:
        found = sparse.encode(TEXTS)
        np.testing.assert_array_equal(found.values, whole.sparse.values if whole.sparse else None)
    with MultiVectorEncoder(m3[1], **options) as tokens:
        for ours, theirs in zip(tokens.encode(TEXTS), whole.tokens or [], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_scores_are_joined_as_flagembedding_joins_them(m3: tuple[Path, Path]) -> None:
    dense, weights, rows = reference(m3[0], TEXTS)
    lexical = np.array([[sum(w * b.get(k, 0) for k, w in a.items()) for b in weights] for a in weights])
    late = np.array([[(a @ b.T).max(axis=1).mean() for b in rows] for a in rows])
    with Model(m3[1], variant="fp32", num_threads=1) as model:
        found = model.encode(TEXTS)
        joined = model.score(found, found)
        np.testing.assert_allclose(joined, 0.4 * dense @ dense.T + 0.2 * lexical + 0.4 * late, rtol=1e-3, atol=1e-4)
        even = model.score(found, found, weights={"dense": 1, "sparse": 1, "tokens": 1})
        np.testing.assert_allclose(even, (dense @ dense.T + lexical + late) / 3, rtol=1e-3, atol=1e-4)
        two = model.encode(TEXTS, outputs=("dense", "sparse"))
        np.testing.assert_allclose(
            model.score(two, found), (0.4 * dense @ dense.T + 0.2 * lexical) / 0.6, rtol=1e-3, atol=1e-4
        )
        with pytest.raises(OptionError, match="both sides must have tokens"):
            model.score(two, found, weights={"tokens": 1})
        with pytest.raises(OptionError, match="all weights are 0"):
            model.score(two, found, weights={"dense": 0})


def test_outputs_are_flagembeddings(m3: tuple[Path, Path]) -> None:
    library = pytest.importorskip("FlagEmbedding", exc_type=ImportError)  # 1.4 does not load beside transformers 5
    theirs = library.BGEM3FlagModel(str(m3[0]), use_fp16=False, devices="cpu")
    expected = theirs.encode(TEXTS, max_length=48, return_dense=True, return_sparse=True, return_colbert_vecs=True)
    with Model(m3[1], variant="fp32", num_threads=1) as model:
        found = model.encode(TEXTS)
    np.testing.assert_allclose(found.dense, expected["dense_vecs"], atol=1e-5)
    for ours, words in zip(found.sparse or [], expected["lexical_weights"], strict=True):
        assert ours.as_dict() == pytest.approx({int(k): float(w) for k, w in words.items()}, rel=1e-3)
    for rows, vectors in zip(found.tokens or [], expected["colbert_vecs"], strict=True):
        np.testing.assert_allclose(rows, vectors, atol=1e-5)


def test_what_is_not_there_cannot_be_asked_for(m3: tuple[Path, Path], tiny_bundle: Path) -> None:
    with Model(tiny_bundle, variant="fp32", num_threads=1) as model:
        assert model.outputs == ("dense",)
        with pytest.raises(OptionError, match="outputs of this bundle are dense, not 'sparse'"):
            model.encode("fox", outputs=("sparse",))
        with pytest.raises(OptionError, match="no outputs"):
            model.encode("fox", outputs=())
        assert model.encode([]).dense is not None
        with pytest.raises(InputError, match="text 1"):
            model.encode(["fox", 1])  # type: ignore[list-item]
        with pytest.raises(OptionError, match="unknown option 'truncate_dim'"):
            model.encode("fox", truncate_dim=3)  # type: ignore[call-arg]


def test_pickles_of_other_objects_are_not_read(m3: tuple[Path, Path], tmp_path: Path) -> None:
    from embedrt.errors import SourceError
    from embedrt_export.output_heads import read_linear

    torch.save({"weight": Path("x"), "bias": 1}, tmp_path / "sparse_linear.pt")
    with pytest.raises(SourceError, match=r"sparse_linear\.pt is no linear layer"):
        read_linear(tmp_path / "sparse_linear.pt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "sparse_linear.pt")
    with pytest.raises(SourceError, match="no linear layer"):
        read_linear(tmp_path / "sparse_linear.pt")
