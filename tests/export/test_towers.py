"""Towers of pictures and texts against PyTorch: tiny seeded models, run by the interpreter."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.families.towers import Towers, clip_end_of_text, find_towers, tower_configs
from tests.export.test_families import assert_close, disturb
from tests.interpreter import run, run_picture

VOCAB = 120
_SMALL: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80}
CLIPS = {
    "clip": ({"hidden_size": 48}, {"hidden_size": 32, "image_size": 32, "patch_size": 8}),
    "clip, gelu": (
        {"hidden_size": 48, "hidden_act": "gelu", "layer_norm_eps": 1e-6},
        {"hidden_size": 32, "image_size": 32, "patch_size": 8, "hidden_act": "gelu_new"},
    ),
    "clip, some pixels over": ({"hidden_size": 32}, {"hidden_size": 32, "image_size": 30, "patch_size": 7}),
}


def make_clip(text: dict[str, Any], vision: dict[str, Any], **settings: Any) -> tuple[Any, dict[str, Any]]:
    """A model, and the config.json that transformers writes of it."""
    config = transformers.CLIPConfig(
        text_config={"vocab_size": VOCAB, "max_position_embeddings": 77, **_SMALL, **text},
        vision_config={**_SMALL, **vision},
        **{"projection_dim": 24, **settings},
    )
    torch.manual_seed(3)
    model = transformers.CLIPModel(config).eval()
    disturb(model)
    return model, json.loads(config.to_json_string(use_diff=False))


def towers_of(config: dict[str, Any]) -> Towers:
    found = find_towers(config)
    assert found is not None
    return found


@pytest.mark.parametrize("name", CLIPS)
def test_texts_are_computed_as_in_pytorch(name: str) -> None:
    model, config = make_clip(*CLIPS[name])
    family, (part, _) = towers_of(config).text, tower_configs(config)
    spec, tensors = family.spec_of(part), family.tensors_of(part, model.state_dict())
    for length in (1, 2, 5, 77):
        ids = np.random.default_rng(length).integers(5, VOCAB, length).tolist()
        with torch.no_grad():
            want = model.text_model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
        assert_close(run(spec, tensors, ids), want)


@pytest.mark.parametrize("name", CLIPS)
def test_pictures_are_computed_as_in_pytorch(name: str) -> None:
    model, config = make_clip(*CLIPS[name])
    family, (_, part) = towers_of(config).vision, tower_configs(config)
    spec, tensors = family.spec_of(part), family.tensors_of(part, model.state_dict())
    assert spec.patches is not None
    size, edge = part["image_size"], spec.patches.edge
    pixels = np.random.default_rng(0).standard_normal((3, size, size)).astype(np.float32)
    with torch.no_grad():
        states = model.vision_model(pixel_values=torch.from_numpy(pixels)[None]).last_hidden_state
        want = model.vision_model.post_layernorm(states)[0].numpy()
    assert_close(run_picture(spec, tensors, cut(pixels, edge)), want)


def cut(pixels: np.ndarray, edge: int) -> np.ndarray:
    """Patches (N, 3 * edge * edge) of (3, H, W), one after the other."""
    rows, columns = pixels.shape[1] // edge, pixels.shape[2] // edge
    return np.stack(
        [
            pixels[:, edge * i : edge * (i + 1), edge * j : edge * (j + 1)].reshape(-1)
            for i in range(rows)
            for j in range(columns)
        ]
    )


def test_older_configs_come_before_the_newer() -> None:
    """As in transformers' CLIPConfig: openai's first checkpoints have both."""
    _, config = make_clip(*CLIPS["clip"])
    text, vision = tower_configs({**config, "vision_config_dict": {"hidden_size": 64}, "text_config_dict": None})
    assert text["hidden_size"] == 48
    assert vision == {"hidden_size": 64}


def test_the_end_of_a_text() -> None:
    assert clip_end_of_text({}) == 49407
    assert clip_end_of_text({"eos_token_id": 99}) == 99
    assert clip_end_of_text({"eos_token_id": 2}) is None
    with pytest.raises(UnsupportedModelError, match="eos_token_id"):
        clip_end_of_text({"eos_token_id": [1, 2]})


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [(0, "hidden_act", "mish"), (1, "patch_size", [8, 4]), (1, "num_channels", 4), (1, "something_new", True)],
)
def test_a_setting_that_is_not_known_is_refused(part: int, key: str, value: Any) -> None:
    _, config = make_clip(*CLIPS["clip"])
    towers, configs = towers_of(config), tower_configs(config)
    family = (towers.text, towers.vision)[part]
    with pytest.raises(UnsupportedModelError, match=key):
        family.spec_of({**configs[part], key: value})


def test_a_checkpoint_without_the_class_token_is_refused() -> None:
    model, config = make_clip(*CLIPS["clip"])
    state = {name: tensor for name, tensor in model.state_dict().items() if "class_embedding" not in name}
    with pytest.raises(SourceError, match="class_embedding"):
        towers_of(config).vision.tensors_of(tower_configs(config)[1], state)
