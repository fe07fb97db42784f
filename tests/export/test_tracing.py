"""A traced graph is the encoder: for lengths and paddings that were not traced, and the encoder stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from embedrt import ExportError
from embedrt_export.tracing import graph_inputs, quiet, trace
from tests.export.encoders import CONFIGS, VOCAB, make_encoder
from tests.sessions import open_session


def _texts(lengths: list[int], pad: int, *, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask (B, S)."""
    mask = np.zeros((len(lengths), max(lengths)), np.int64)
    for row, length in enumerate(lengths):
        mask[row, -length:] = left
        mask[row, :length] |= not left
    ids = np.random.default_rng(len(lengths)).integers(5, VOCAB, mask.shape)
    return np.where(mask == 1, ids, pad), mask


@pytest.mark.parametrize("kind", CONFIGS)
def test_lengths_and_paddings_that_were_not_traced(kind: str, tmp_path: Path) -> None:
    encoder = make_encoder(kind)
    trace(encoder, tmp_path / "model.onnx")
    session = open_session(str(tmp_path / "model.onnx"))
    assert tuple(value.name for value in session.get_inputs()) == graph_inputs(encoder)
    for lengths, left in (([1], False), ([40], False), ([3, 17, 1], False), ([3, 17, 1], True)):
        ids, mask = _texts(lengths, encoder.config.pad_token_id, left=left)
        every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        got = session.run(None, {name: every[name] for name in graph_inputs(encoder)})[0]
        with torch.no_grad():
            expected = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).last_hidden_state.numpy()
        np.testing.assert_allclose(got[mask == 1], expected[mask == 1], atol=2e-5)


def test_the_encoder_stays_as_it_was(tmp_path: Path) -> None:
    encoder = make_encoder("bert")
    ids = torch.arange(5, 14)[None]
    before = encoder(ids).last_hidden_state
    attention = encoder.config._attn_implementation
    trace(encoder, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="tracing the architecture 'bert' failed"):
        trace(_broken(encoder), tmp_path / "model.onnx")
    del encoder.encoder.forward
    assert "forward" not in vars(encoder)
    assert encoder.config._attn_implementation == attention
    assert torch.equal(encoder(ids).last_hidden_state, before)


def _broken(encoder: Any) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise IndexError("0")

    encoder.encoder.forward = fail
    return encoder


@pytest.mark.parametrize("kind", CONFIGS)
def test_optimum_traces_the_same_graph(kind: str, tmp_path: Path) -> None:
    optimum = pytest.importorskip("optimum.exporters.onnx", reason="optimum-onnx, the other exporter, is not installed")
    encoder = make_encoder(kind)
    trace(encoder, tmp_path / "ours.onnx")
    with quiet():
        optimum.onnx_export_from_model(
            encoder, output=tmp_path, opset=18, task="feature-extraction", library_name="transformers",
            no_post_process=True, do_validation=False,
        )  # fmt: skip
    ours, theirs = onnx.load(tmp_path / "ours.onnx").graph, onnx.load(tmp_path / "model.onnx").graph
    assert [node.op_type for node in ours.node] == [node.op_type for node in theirs.node]
    for a, b in zip(ours.initializer, theirs.initializer, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))
