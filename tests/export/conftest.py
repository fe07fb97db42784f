"""The graphs of the tiny encoders, made once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embedrt_export.graph import EncoderGraph, build_fp32
from tests.export.encoders import CONFIGS, VOCAB, make_encoder


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, EncoderGraph]]:
    out = {}
    for kind in CONFIGS:
        encoder = make_encoder(kind)
        out[kind] = encoder, build_fp32(encoder, tmp_path_factory.mktemp(kind))
    return out


@pytest.fixture(scope="session")
def calibration() -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(5, VOCAB, length).tolist() for length in rng.integers(2, 24, 60)]
