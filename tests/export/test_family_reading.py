"""What families take from a config.json and a checkpoint, and what they refuse: nothing is guessed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from embedrt import SourceError, UnsupportedModelError
from embedrt_export.families import FAMILIES, find_family
from embedrt_export.families.distances import alibi_slopes, bucket_of
from embedrt_export.families.shapes import shapes_of

SIZES: dict[str, Any] = {
    "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
    "max_position_embeddings": 20,
}  # fmt: skip
BERT = {"model_type": "bert", **SIZES}
LLAMA = {"model_type": "llama", **SIZES}
MODERNBERT = {"model_type": "modernbert", **SIZES}


def state_of(config: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """A checkpoint with all names of a family, in the shapes that its tensors have there."""
    family = find_family(config)
    assert family is not None
    shapes = shapes_of(family.spec_of(config))
    state: dict[str, np.ndarray] = {}
    for to, source in family.sources_of(config).items():
        if source.names:
            shape = tuple(size or 2 for size in shapes[to])
            part = np.ones(shape[::-1] if to.endswith(".weight") else shape, np.float32)
            name = prefix + source.names[0]
            state[name] = np.concatenate((state[name], part)) if name in state else part  # a packed one grows
    return state


def tensors_of(config: dict[str, Any], state: dict[str, Any]) -> dict[str, np.ndarray]:
    family = find_family(config)
    assert family is not None
    return family.tensors_of(config, state, "my-model")


def spec_of(config: dict[str, Any]) -> Any:
    family = find_family(config)
    assert family is not None
    return family.spec_of(config)


def test_no_two_families_claim_one_model() -> None:
    claims = [name for family in FAMILIES for name in (*family.model_types, *family.classes)]
    assert len(set(claims)) == len(claims)
    assert find_family({"model_type": "mamba"}) is None
    assert find_family({}) is None


def test_code_of_its_own_is_another_model_whatever_its_model_type_says() -> None:
    own = {"model_type": "bert", "auto_map": {"AutoModel": "someone/code--modeling.OtherBertModel"}}
    assert find_family(own) is None
    assert find_family({"model_type": "bert", "auto_map": {}}) is not None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**BERT, "position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'.*'absolute'"),
        ({**BERT, "hidden_act": "mish"}, "hidden_act 'mish' is not supported yet, only 'gelu' or"),
        ({**BERT, "is_decoder": True}, "is_decoder True.*only False"),
        ({**MODERNBERT, "pruned_heads": {"0": [1]}}, r"pruned_heads \{'0': \[1\]\}.*only \{\}"),
        ({**BERT, "use_new_attention": 2}, "use_new_attention 2 is not supported: its effect is not known"),
        ({**BERT, "quantization_config": {"bits": 4}}, r"quantization_config \{'bits': 4\}"),
        ({**LLAMA, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'.*default, linear"),
        ({**LLAMA, "hidden_size": 9}, "hidden_size 9.*multiple of the 2 heads"),
        ({**MODERNBERT, "layer_types": ["full_attention", "chunked"]}, "layer_types 'chunked'"),
        ({"model_type": "bert", "hidden_size": 8}, "does not say num_attention_heads"),
    ],
)
def test_a_setting_that_would_change_the_numbers_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        spec_of(config)


def test_settings_of_training_heads_and_generation_are_none() -> None:
    noise = {
        "attention_probs_dropout_prob": 0.1, "classifier_dropout": None, "id2label": {"0": "a"}, "_name_or_path": "x",
        "initializer_range": 0.02, "pad_token_id": 0, "bos_token_id": 1, "use_cache": True, "dtype": "bfloat16",
        "architectures": ["BertForMaskedLM"], "gradient_checkpointing": False, "directionality": "bidi",
        "pooler_fc_size": 768, "torch_dtype": "float16", "transformers_version": "4.9", "something_new": None,
    }  # fmt: skip
    assert spec_of({**BERT, **noise}) == spec_of(BERT)


@pytest.mark.parametrize("config", [BERT, LLAMA, MODERNBERT], ids=lambda config: config["model_type"])
def test_what_every_config_of_transformers_4_says_is_none(config: dict[str, Any]) -> None:
    """A whole to_dict, as in the configs of two towers."""
    every = {"is_decoder": False, "pruned_heads": {}, "is_encoder_decoder": False, "tie_encoder_decoder": False,
             "add_cross_attention": False, "chunk_size_feed_forward": 0, "tf_legacy_loss": False}  # fmt: skip
    assert spec_of({**config, **every}) == spec_of(config)


def test_both_spellings_of_rotary_settings_say_the_same() -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 10}  # fmt: skip
    old = {**LLAMA, "rope_theta": 5e5, "rope_scaling": scaling}
    new = {**LLAMA, "rope_parameters": {"rope_theta": 5e5, **scaling}}
    name = "rotary.global.frequencies"
    for family in (find_family(old), find_family(new)):
        assert family is not None
    first, second, plain = (tensors_of(config, state_of(config))[name] for config in (old, new, LLAMA))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, plain)
    assert spec_of(old) == spec_of(new)


def test_both_spellings_of_modernberts_windows_say_the_same() -> None:
    old = {**MODERNBERT, "global_attn_every_n_layers": 2, "global_rope_theta": 9e4, "local_rope_theta": 50.0}
    new = {
        **MODERNBERT,
        "layer_types": ["full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 9e4},
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
    }
    assert spec_of(old) == spec_of(new)
    assert [block.attention.window for block in spec_of(old).blocks] == [None, 64]
    for name in ("rotary.global.frequencies", "rotary.local.frequencies"):
        first, second = (tensors_of(config, state_of(config))[name] for config in (old, new))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("prefix", ["", "bert.", "model.encoder."])
def test_names_may_have_what_a_task_puts_before_them(prefix: str) -> None:
    state = state_of(BERT, prefix)
    head = {"cls.predictions.bias": np.zeros(3, np.float32), f"{prefix}pooler.dense.weight": np.zeros(3, np.float32)}
    assert set(tensors_of(BERT, {**state, **head})) == set(tensors_of(BERT, state))


def test_old_names_of_norms_are_known() -> None:
    state = state_of(BERT)
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in state.items()}
    old["embeddings.LayerNorm.gamma"] = np.full(8, 3, np.float32)
    np.testing.assert_array_equal(tensors_of(BERT, old)["embeddings.norm.gamma"], np.full(8, 3))


def test_a_checkpoint_that_lacks_a_weight_is_refused() -> None:
    state = state_of(BERT)
    del state["encoder.layer.1.attention.self.query.weight"]
    with pytest.raises(
        SourceError, match=r"my-model: .*lacks 1 of the encoder's 37 weights, .*1\.attention\.self\.query"
    ):
        tensors_of(BERT, state)


def test_names_that_nothing_takes_are_refused() -> None:
    state = state_of({**BERT, "num_hidden_layers": 3})
    with pytest.raises(SourceError, match=r"has 16 weights for which config\.json has no place.*encoder\.layer\.2\."):
        tensors_of(BERT, state)


def test_a_weight_of_another_shape_is_refused() -> None:
    state = state_of(BERT)
    state["embeddings.word_embeddings.weight"] = np.ones((31, 8), np.float32)
    with pytest.raises(SourceError, match=re.escape("embeddings.word has the shape (31, 8) and should have (30, 8)")):
        tensors_of(BERT, state)


def test_quantized_weights_are_refused() -> None:
    state = state_of(BERT)
    state["encoder.layer.0.output.dense.weight"] = np.ones((8, 12), np.int8)
    with pytest.raises(SourceError, match=r"encoder\.layer\.0\.output\.dense\.weight holds int8, quantized weights"):
        tensors_of(BERT, state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_torchs_tensors_are_widened(dtype: torch.dtype) -> None:
    state = {name: torch.from_numpy(array).to(dtype) for name, array in state_of(BERT).items()}
    tensors = tensors_of(BERT, state)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())


@pytest.mark.parametrize("config", [BERT, LLAMA, MODERNBERT])
def test_every_tensor_has_a_shape_in_the_spec(config: dict[str, Any]) -> None:
    names = {name for name in tensors_of(config, state_of(config)) if not name.startswith("rotary.")}
    assert names <= set(shapes_of(spec_of(config)))


def test_buckets_are_t5s() -> None:
    """The first of each bucket beyond those of one distance: 8 exact ones, then 8 up to 128, for either side."""
    distance = np.arange(200)
    after, before = bucket_of(distance, 32, 128), bucket_of(-distance, 32, 128)
    np.testing.assert_array_equal(after[1:], before[1:] + 16)
    np.testing.assert_array_equal(
        np.flatnonzero(np.diff(before)) + 1, [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]
    )


def test_slopes_of_heads_that_are_no_power_of_two() -> None:
    np.testing.assert_allclose(alibi_slopes(4), [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])
    np.testing.assert_allclose(alibi_slopes(6), [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])
