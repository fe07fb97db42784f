"""Small seeded models of other outputs than one vector: SPLADE, ColBERT in the layouts of three programs, BGE-M3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import MultiVectorEncoder, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

from tests import tiny

WORDS = 323  # of the tokenizer of tests.tiny; a table of weights has as many
_MASKED = {
    "bert": transformers.BertForMaskedLM,
    "distilbert": transformers.DistilBertForMaskedLM,
    "xlmr": transformers.XLMRobertaForMaskedLM,
    "modernbert": transformers.ModernBertForMaskedLM,
    "mpnet": transformers.MPNetForMaskedLM,
}


def save_masked(folder: Path, family: str = "bert", seed: int = 0) -> Path:
    """A masked language model whose words are not all of a text: their biases lie around -6."""
    config, _, tokenizer = tiny.FAMILIES[family]()
    config.vocab_size = WORDS if family != "xlmr" else config.vocab_size
    torch.manual_seed(seed)
    model = _MASKED[family](config)
    tiny.spread(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("predictions.bias", "lm_head.bias", "decoder.bias", "vocab_projector.bias")):
                parameter.normal_(-2.0 if family == "xlmr" else -6.0, 1.0)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_splade(
    folder: Path,
    family: str = "bert",
    *,
    pooling: str = "max",
    activation: str = "relu",
    table: bool = False,
    max_active_dims: int | None = None,
) -> Path:
    """sentence-transformers' SparseEncoder; with a `table`, a router whose queries read that."""
    encoder = Transformer(str(save_masked(folder / "mlm", family)), transformer_task="fill-mask", max_seq_length=48)
    documents = [encoder, SpladePooling(pooling, activation)]  # type: ignore[arg-type]
    modules: list[Any] = documents
    if table:
        weight = torch.rand(WORDS, generator=torch.Generator().manual_seed(1))
        queries = [SparseStaticEmbedding(encoder.tokenizer, weight, frozen=True)]
        modules = [Router.for_query_document(query_modules=queries, document_modules=documents)]
    model = SparseEncoder(modules=modules, device="cpu", max_active_dims=max_active_dims)
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def save_colbert(folder: Path, family: str = "bert", *, expansion: dict[str, Any] | None = None) -> Path:
    """sentence-transformers' MultiVectorEncoder."""
    encoder = Transformer(
        str(tiny.save_encoder(folder / "encoder", family)),
        max_seq_length=48,
        query_expansion=expansion,  # type: ignore[arg-type]
        document_length=40,
    )
    torch.manual_seed(2)
    dense = Dense(64, 16, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings")
    mask, norm = MultiVectorMask([".", ",", "?"]), Normalize(module_input_name="token_embeddings")
    prompts = {"query": "query: ", "document": "passage: "}
    model = MultiVectorEncoder(modules=[encoder, dense, mask, norm], device="cpu", prompts=prompts)
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def save_pylate(folder: Path, **settings: Any) -> Path:
    """A directory as PyLate 1 saves it: Transformer and Dense, its own settings beside them."""
    model = tiny.save_pipeline(folder, dense=(16,), normalize=False)
    (model / "modules.json").write_text(
        json.dumps(
            [
                {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "name": "1", "path": "2_Dense", "type": "pylate.models.Dense.Dense"},
            ]
        )
    )
    dense = {"in_features": 64, "out_features": 16, "bias": True, "use_residual": False}
    (model / "2_Dense" / "config.json").write_text(
        json.dumps({**dense, "activation_function": "torch.nn.modules.linear.Identity"})
    )
    said = {
        "model_type": "ColBERT", "query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 16,
        "document_length": 40, "attend_to_expansion_tokens": False, "skiplist_words": [".", "?"],
        "do_query_expansion": True, "similarity_fn_name": "MaxSim", "prompts": {}, "default_prompt_name": None,
    }  # fmt: skip
    (model / "config_sentence_transformers.json").write_text(json.dumps({**said, **settings}))
    return model


def save_stanford(folder: Path) -> Path:
    """A directory as Stanford's ColBERT saves it: BERT and a linear layer in one checkpoint, [unused0] as a marker."""
    config, _, tokenizer = tiny.FAMILIES["bert"]()
    tokenizer.add_tokens(["[unused0]", "[unused1]"])
    torch.manual_seed(0)
    model = transformers.BertModel(config, add_pooling_layer=False)
    tiny.spread(model)
    config.architectures = ["HF_ColBERT"]
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    state = {f"bert.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.manual_seed(2)
    state["linear.weight"] = torch.randn(16, 64)
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "artifact.metadata").write_text(
        json.dumps({"query_maxlen": 16, "doc_maxlen": 40, "mask_punctuation": True})
    )
    tiny.edit_json(folder / "config.json", architectures=["HF_ColBERT"])
    return folder


def save_m3(folder: Path) -> Path:
    """BAAI/bge-m3's layout: a pipeline of dense vectors, and two linear layers beside it."""
    model = tiny.save_pipeline(folder, "xlmr", pooling="cls")
    torch.manual_seed(3)
    for name, width in (("sparse_linear", 1), ("colbert_linear", 64)):
        layer = torch.nn.Linear(64, width)
        with torch.no_grad():
            layer.weight.normal_(0, 0.1)
            layer.bias.fill_(1.0)  # most tokens have a weight, and few are near zero, as in the trained model
        torch.save(layer.state_dict(), model / f"{name}.pt")
    return model
