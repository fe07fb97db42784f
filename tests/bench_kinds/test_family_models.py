"""The seeded encoders of the speed tables: what their work is counted as."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from bench import models
from bench.family_models import SHAPES, seeded_family


@pytest.mark.parametrize("name", SHAPES)
def test_work_is_counted_from_the_model_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minilm_model: Path
) -> None:
    if not hasattr(transformers, SHAPES[name].model):
        pytest.skip(f"this transformers has no {SHAPES[name].model}")
    del minilm_model  # its tokenizer is read: skipped where it is not
    monkeypatch.setenv("EMBEDRT_BENCH_CACHE", str(tmp_path))
    path = seeded_family(name, layers=2)
    facts = models.model_facts(name, path)
    encoder = transformers.AutoModel.from_pretrained(path)
    in_layers = sum(one.numel() for key, one in encoder.named_parameters() if one.dim() == 2 and "layer" in key)
    assert facts.linear_parameters == in_layers
    assert facts.flop(10) == 2 * (10 * facts.linear_parameters + 100 * facts.attention)
    assert (facts.layers, facts.hidden) == (2, SHAPES[name].numbers["hidden_size"])
    assert seeded_family(name, layers=2) == path


def test_berts_work_is_known_from_its_config(minilm_model: Path) -> None:
    facts = models.model_facts("minilm", minilm_model)
    assert facts.linear_parameters == 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert facts.attention == 2 * 6 * 384
