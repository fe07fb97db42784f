"""Every family's spec and tensors against PyTorch: tiny seeded models, run by the interpreter, a text alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from safetensors.torch import load_file

from embedrt_export.families import Family, find_family
from tests.interpreter import run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

VOCAB = 120
KINDS = (("Config", "Encoder"), ("Model", ""))  # of transformers' names, and what a config's name has not
LENGTHS = (1, 2, 5, 40)  # the windows below are shorter than the longest

_WIDE: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80,
}  # fmt: skip
_BERT = {**_WIDE, "max_position_embeddings": 64}
_LLAMA = {**_BERT, "num_key_value_heads": 2}
_LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


@dataclass(frozen=True)
class Case:
    """A model of transformers': its class's name and what its config is made of."""

    model: str  # without "Model"
    settings: dict[str, Any] = field(default_factory=dict)


_GEMMA = {
    **_BERT, "num_hidden_layers": 4, "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 20,
    "sliding_window": 10, "layer_types": ["sliding_attention", "full_attention"] * 2, "pad_token_id": 0,
}  # fmt: skip
_T5 = {
    "vocab_size": VOCAB, "d_model": 48, "d_kv": 8, "d_ff": 80, "num_layers": 3, "num_heads": 4,
    "decoder_start_token_id": 0,
}  # fmt: skip

CASES = {
    "bert": Case("Bert", _BERT),
    "bert, tanh gelu": Case("Bert", {**_BERT, "hidden_act": "gelu_new"}),
    "roberta": Case("Roberta", {**_BERT, "pad_token_id": 1, "type_vocab_size": 1}),
    "xlm-r": Case("XLMRoberta", {**_BERT, "pad_token_id": 1, "type_vocab_size": 1}),
    "camembert": Case("Camembert", {**_BERT, "pad_token_id": 2, "type_vocab_size": 1}),
    "electra": Case("Electra", {**_BERT, "embedding_size": 32}),
    "electra, as wide": Case("Electra", {**_BERT, "embedding_size": 48}),
    "distilbert": Case(
        "DistilBert",
        {"vocab_size": VOCAB, "dim": 48, "n_layers": 3, "n_heads": 4, "hidden_dim": 80, "max_position_embeddings": 64},
    ),
    "albert": Case("Albert", {**_BERT, "embedding_size": 32}),
    "albert, groups": Case(
        "Albert",
        {**_BERT, "embedding_size": 32, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    ),
    "mpnet": Case("MPNet", {**_BERT, "max_position_embeddings": 400}),
    "modernbert": Case("ModernBert", {**_BERT, "local_attention": 8, "pad_token_id": 0}),
    "modernbert, biases": Case(
        "ModernBert",
        {
            **_BERT, "local_attention": 6, "pad_token_id": 0, "norm_bias": True, "attention_bias": True,
            "mlp_bias": True, "global_attn_every_n_layers": 2, "global_rope_theta": 500.0, "local_rope_theta": 90.0,
        },
    ),
    "llama": Case("Llama", _LLAMA),
    "llama, biases, heads of their own size": Case(
        "Llama", {**_LLAMA, "attention_bias": True, "mlp_bias": True, "head_dim": 16, "rope_theta": 700.0}
    ),
    "llama 3.1": Case("Llama", {**_LLAMA, "rope_scaling": _LLAMA3}),
    "llama, linear": Case("Llama", {**_LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "llama, yarn": Case("Llama", {**_LLAMA, "rope_scaling": _YARN}),
    "llama, yarn, heads of 64": Case(
        "Llama",
        {
            **_LLAMA, "head_dim": 64,
            "rope_scaling": {**_YARN, "beta_fast": 4.0, "mscale": 0.7, "mscale_all_dim": 1.2},
        },
    ),
    "mistral": Case("Mistral", {**_LLAMA, "sliding_window": 6}),
    "mistral, no window": Case("Mistral", {**_LLAMA, "sliding_window": None}),
    "qwen3": Case("Qwen3", {**_LLAMA, "head_dim": 16, "rope_theta": 1e6}),
    "qwen3, windows": Case(
        "Qwen3", {**_LLAMA, "head_dim": 16, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
    ),
    "qwen2": Case("Qwen2", _LLAMA),
    "qwen2, windows": Case(
        "Qwen2", {**_LLAMA, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}
    ),
    "eurobert": Case("EuroBert", {**_LLAMA, "pad_token_id": 0}),
    "gemma3": Case("Gemma3Text", _GEMMA),
    "gemma3, linear": Case("Gemma3Text", {**_GEMMA, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    "embeddinggemma": Case("Gemma3Text", {**_GEMMA, "use_bidirectional_attention": True}),
    "t5": Case("T5Encoder", _T5),
    "t5, gated": Case("T5Encoder", {**_T5, "feed_forward_proj": "gated-gelu", "relative_attention_max_distance": 20}),
    "t5, whole": Case("T5", _T5),
    "mt5": Case("MT5Encoder", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "nomic": Case("NomicBert", {**_BERT, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "gte": Case("Gte", {**_BERT, "rope_parameters": {"rope_type": "default", "rope_theta": 20.0}}),
    "gte, no token types": Case("Gte", {**_BERT, "type_vocab_size": 0}),
}  # fmt: skip
# Its YaRN knows neither mscale nor truncation, and its SDPA attention no window: parity refuses such models there.
OTHER_IN_4_48 = ("llama, yarn", "llama, yarn, heads of 64", "qwen2, windows")


@dataclass(frozen=True)
class Made:
    """A model, the config.json that it was built from, and its checkpoint as transformers saves it."""

    model: Any
    config: dict[str, Any]
    state: dict[str, torch.Tensor]

    @property
    def family(self) -> Family:
        found = find_family(self.config)
        assert found is not None
        return found

    def hidden(self, ids: list[int]) -> np.ndarray:
        """PyTorch's hidden states (T, H)."""
        part = self.model.encoder if type(self.model).__name__ == "T5Model" else self.model
        with torch.no_grad():
            return part(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()


def make(case: Case, folder: Path) -> Made:
    """The model of a case, built from its own config.json, with weights of which none is trivial."""
    kinds = [getattr(transformers, f"{case.model.removesuffix(end)}{what}", None) for what, end in KINDS]
    if None in kinds:
        pytest.skip(f"transformers {transformers.__version__} has no {case.model}Model")
    config = json.loads(kinds[0](**case.settings).to_json_string())
    torch.manual_seed(3)
    model = kinds[1](kinds[0].from_dict(config)).eval()
    disturb(model)
    model.save_pretrained(folder)
    # Not the config.json that it saves: version 4's Gemma 3 halves the window whenever it reads one.
    return Made(model, config, load_file(folder / "model.safetensors"))


def disturb(model: torch.nn.Module) -> None:
    """Weights large enough that attention chooses, and norms and biases that do something."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.2 if parameter.dim() == 2 else 0.3))


def texts(seed: int = 0) -> list[list[int]]:
    """Token ids; the middle of the longest has some ids that RoBERTa and MPNet take for padding."""
    rng = np.random.default_rng(seed)
    made = [rng.integers(5, VOCAB, length).tolist() for length in LENGTHS]
    made[-1][20:22] = [1, 2]
    return made


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    """Within a ten-thousandth of the largest number; what float32 leaves is about a millionth."""
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
def test_a_family_computes_what_pytorch_computes(name: str, tmp_path: Path) -> None:
    if name in OTHER_IN_4_48 and Version(transformers.__version__) < Version("4.53"):
        pytest.skip(f"transformers {transformers.__version__} computes something else")
    made = make(CASES[name], tmp_path)
    spec = made.family.spec_of(made.config)
    tensors = made.family.tensors_of(made.config, made.state)
    in_memory = made.family.tensors_of(made.config, made.model.state_dict())
    assert tensors.keys() == in_memory.keys()
    assert all(np.array_equal(tensor, in_memory[to]) for to, tensor in tensors.items())
    for ids in texts():
        assert_close(run(spec, tensors, ids), made.hidden(ids))


@pytest.mark.parametrize("name", ["mpnet", "t5", "t5, gated"])
def test_biases_reach_as_far_as_their_last_bucket(name: str, tmp_path: Path) -> None:
    made = make(CASES[name], tmp_path)
    tensors = made.family.tensors_of(made.config, made.state)
    ids = np.random.default_rng(1).integers(5, VOCAB, 300).tolist()
    assert_close(run(made.family.spec_of(made.config), tensors, ids), made.hidden(ids))
