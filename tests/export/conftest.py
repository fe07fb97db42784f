"""The graphs of the tiny encoders, made once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embedrt_export.graph import EncoderGraph
from embedrt_export.tracing import trace_encoder
from tests.export.encoders import CONFIGS, VOCAB, make_encoder, make_graph


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, EncoderGraph]]:
    out = {}
    for kind in CONFIGS:
        encoder = make_encoder(kind)
        if kind == "mpnet":  # stands for encoders without a file, though it has one
            out[kind] = encoder, trace_encoder(encoder, tmp_path_factory.mktemp(kind))
        else:
            out[kind] = encoder, make_graph(encoder)
    return out


@pytest.fixture(scope="session")
def calibration() -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(5, VOCAB, length).tolist() for length in rng.integers(2, 24, 60)]
