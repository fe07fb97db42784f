"""SigLIP from a model's directory to a bundle: padded texts, no class token, and a pooling of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from embedrt import Embedder, open_bundle
from embedrt.errors import UnsupportedModelError
from embedrt.pictures.attention_pooling import ACTIVATIONS, AttentionPooling, arrays_of
from embedrt.pictures.generated import generated_pictures
from embedrt_export.families import siglip
from embedrt_export.families.towers import SIGLIP, find_towers, tower_configs
from embedrt_export.tower_source import pillow_option
from tests.export.exporting import export
from tests.export.test_families import assert_close, disturb
from tests.export.test_towers import cut
from tests.interpreter import run, run_picture
from tests.tiny_clip import save_siglip, siglip_config, siglip_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

TEXTS = ["a cat", "", "the quick brown fox jumps over the lazy dog " * 3]
PICTURES = [Image.fromarray(pixels) for pixels in generated_pictures(4, seed=6)]


def test_both_towers_are_computed_as_in_pytorch() -> None:
    model = siglip_model()
    disturb(model)
    config = siglip_config().to_dict()
    assert find_towers(config) is SIGLIP
    text, vision = tower_configs(config)
    state = model.state_dict()
    ids = np.random.default_rng(0).integers(0, 400, 16).tolist()
    with torch.no_grad():
        want = model.text_model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    of_text = {name: tensor for name, tensor in state.items() if name.startswith("text_model.")}
    assert_close(run(siglip.text_spec(text), siglip.TEXT.tensors_of(text, of_text), ids), want)
    pixels = np.random.default_rng(1).standard_normal((3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        want = model.vision_model(pixel_values=torch.from_numpy(pixels)[None]).last_hidden_state[0].numpy()
    of_vision = {name: tensor for name, tensor in state.items() if name.startswith("vision_model.")}
    tensors = siglip.VISION.tensors_of(vision, of_vision)
    assert_close(run_picture(siglip.vision_spec(vision), tensors, cut(pixels, 8)), want)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("heads", [1, 4])
def test_the_pooling_is_pytorchs(activation: str, heads: int) -> None:
    names = {"gelu_tanh": "gelu_pytorch_tanh"}
    config = transformers.SiglipVisionConfig(
        hidden_size=32, num_attention_heads=heads, intermediate_size=48, hidden_act=names.get(activation, activation)
    )
    torch.manual_seed(0)
    head = transformers.models.siglip.modeling_siglip.SiglipMultiheadAttentionPoolingHead(config).eval()
    disturb(head)
    states = torch.randn(3, 9, 32)
    with torch.no_grad():
        want = head(states).numpy()
    arrays = arrays_of({name: tensor.numpy() for name, tensor in head.state_dict().items()}, heads)
    got = AttentionPooling(arrays, activation, config.layer_norm_eps)(states.numpy())
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_bundle_gives_transformers_vectors(side: str, tmp_path: Path) -> None:
    model = save_siglip(tmp_path / "tiny-siglip", side)
    export(model, tmp_path / "bundle", variants=["fp32", "int8"] if side == "right" else ["fp32"])
    loaded = transformers.SiglipModel.from_pretrained(model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    processor = transformers.AutoImageProcessor.from_pretrained(model, **pillow_option())
    ids = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=16, return_tensors="pt")["input_ids"]
    assert ids.shape == (3, 16)
    with torch.no_grad():
        found: list[Any] = [
            loaded.get_text_features(input_ids=ids),
            loaded.get_image_features(**processor(PICTURES, return_tensors="pt")),
        ]
    want = np.concatenate([getattr(part, "pooler_output", part).numpy() for part in found])  # version 4: the vectors
    with Embedder(tmp_path / "bundle", variant="fp32") as made:
        got = made.encode([*TEXTS, *PICTURES])
        assert made.encode(TEXTS[0], output_value="token_embeddings").shape == (16, 64)
    assert np.abs(got - want).max() < 3e-5 * np.abs(want).max()
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.pictures is not None
    assert manifest.pictures.texts is not None
    assert (manifest.pictures.texts.padded_to, manifest.pictures.texts.pads_left) == (16, side == "left")
    assert manifest.pictures.preprocessing.resized == (32, 32)


def test_a_tower_without_its_head_is_refused() -> None:
    _, vision = tower_configs(siglip_config().to_dict())
    with pytest.raises(UnsupportedModelError, match="vision_use_head"):
        siglip.vision_spec({**vision, "vision_use_head": False})
