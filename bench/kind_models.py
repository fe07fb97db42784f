"""Models of other kinds than one vector per text, with the shapes of published ones and seeded weights.

Speed does not depend on the values of weights. The reranker's encoder is all-MiniLM-L6-v2's trained one, under a seeded
head: six layers of seeded weights hardly tell texts apart, so that no int8 ranks as they do; XLM-R-large's seeded ones
are scaled until they do. Tokenizers are real ones:
all-MiniLM-L6-v2's (BERT's English words) and `bench.models.seeded_xlmr`'s.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.models import minilm, seeded_xlmr
from bench.paths import cache_dir, whole_or_nothing

if TYPE_CHECKING:
    import torch

RECIPE = 4  # raise it when what is written below changes
_BERT = {"vocab_size": 30_522, "max_position_embeddings": 512}
_SIZES = {
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
SHAPES = {
    "rerank": ("minilm", "large"),  # cross-encoder/ms-marco-MiniLM-L6-v2, BAAI/bge-reranker-v2-m3
    "splade": ("base", "minilm"),  # naver/splade-v3
    "colbert": ("base", "minilm"),  # colbert-ir/colbertv2.0
    "m3": ("large",),  # BAAI/bge-m3
}
"""Kind -> sizes of encoders, the first where none is named. Of "large", XLM-R-large's, a run takes 5 GB and more."""
COLBERT_DIMENSION = 128
# Factors of initial weights. With 1 for all, what a layer adds outweighs what it gets, and after 24 of them the first
# token's state is nearly the same for all texts. With these it has 20 effective dimensions, and trained models have 40.
_SCALES = {"attention.output.dense.weight": 0.5, "output.dense.weight": 0.2, "query.weight": 2.0, "key.weight": 2.0,
           "position_embeddings.weight": 0.33, "token_type_embeddings.weight": 0.33}  # fmt: skip


def seeded(kind: str, size: str, layers: int | None = None) -> Path:
    """The directory of a model, made once, then cached.

    Args:
        layers: of the encoder; None is the real depth, fewer are for trying the benchmark out.
    """
    depth = f"-{layers}l" if layers else ""
    target = cache_dir() / "models" / f"{kind}-{size}{depth}-r{RECIPE}"
    if not target.is_dir():
        with whole_or_nothing(target) as directory:
            _SAVERS[kind](directory, size, layers)
            (directory / "kind.json").write_text(json.dumps({"kind": kind}) + "\n")
    return target


def kind_of(model: Path) -> str | None:
    """What `seeded` made; None of other directories."""
    path = model / "kind.json"
    return str(json.loads(path.read_text())["kind"]) if path.is_file() else None


def _config(size: str, layers: int | None, **more: Any) -> Any:
    from transformers import BertConfig

    return BertConfig(**_BERT, **{**_SIZES[size], **({"num_hidden_layers": layers} if layers else {})}, **more)


def _spread(model: torch.nn.Module) -> torch.nn.Module:
    """Weights as wide as trained ones, so that outputs of different texts differ."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.05)
    return model.eval()


def _write_large(directory: Path, layers: int | None) -> None:
    """XLM-R-large's shape with seeded weights that tell texts apart."""
    import torch
    from transformers import XLMRobertaModel

    base = seeded_xlmr(layers, outliers=False)
    model = XLMRobertaModel.from_pretrained(base, add_pooling_layer=False, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter *= next((scale for end, scale in _SCALES.items() if name.endswith(end)), 1.0)
    model.to(torch.float16).save_pretrained(directory)
    _link(base, directory, but=("config.json", "model.safetensors"))


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(minilm(), model_max_length=512)


def _save_reranker(directory: Path, size: str, layers: int | None) -> None:
    import torch
    from transformers import BertForSequenceClassification, XLMRobertaForSequenceClassification

    if size == "large":
        _write_large(directory, layers)
        model = XLMRobertaForSequenceClassification.from_pretrained(directory, num_labels=1, dtype=torch.float16)
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if name.startswith("classifier") and parameter.dim() == 2:
                parameter.data.normal_(0, 0.05)
        model.save_pretrained(directory)
        (directory / "modules.json").unlink()
        return
    config = _config(size, layers, num_labels=1)
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(minilm(), config=config)
    _spread(model.bert.pooler)
    _spread(model.classifier)
    model.save_pretrained(directory)
    _tokenizer().save_pretrained(directory)


def _save_splade(directory: Path, size: str, layers: int | None) -> None:
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling
    from transformers import BertForMaskedLM

    model: Any = _spread(BertForMaskedLM(_config(size, layers)))
    with torch.no_grad():
        model.cls.predictions.bias.normal_(-4.5, 1)  # some hundred words of a text, as trained models give
    model.save_pretrained(directory / "mlm")
    _tokenizer().save_pretrained(directory / "mlm")
    encoder = Transformer(str(directory / "mlm"), transformer_task="fill-mask", max_seq_length=512)
    SparseEncoder(modules=[encoder, SpladePooling("max")], device="cpu").save_pretrained(
        str(directory), create_model_card=False
    )
    shutil.rmtree(directory / "mlm")


def _save_colbert(directory: Path, size: str, layers: int | None) -> None:
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from transformers import BertModel

    config = _config(size, layers)
    _spread(BertModel(config)).save_pretrained(directory / "encoder")  # type: ignore[attr-defined]
    _tokenizer().save_pretrained(directory / "encoder")
    encoder = Transformer(str(directory / "encoder"), max_seq_length=512, document_length=512)
    torch.manual_seed(2)
    dense = Dense(
        config.hidden_size, COLBERT_DIMENSION, bias=False, activation_function=torch.nn.Identity(),
        module_input_name="token_embeddings",
    )  # fmt: skip
    modules = [encoder, dense, MultiVectorMask([]), Normalize(module_input_name="token_embeddings")]
    MultiVectorEncoder(modules=modules, device="cpu").save_pretrained(str(directory), create_model_card=False)
    shutil.rmtree(directory / "encoder")


def _save_m3(directory: Path, _size: str, layers: int | None) -> None:
    import torch

    _write_large(directory, layers)
    width = int(json.loads((directory / "config.json").read_text())["hidden_size"])
    torch.manual_seed(3)
    for name, outputs in (("sparse_linear", 1), ("colbert_linear", width)):
        layer = torch.nn.Linear(width, outputs)
        torch.save(layer.state_dict(), directory / f"{name}.pt")
    pooling = directory / "1_Pooling" / "config.json"
    pooling.unlink()
    pooling.write_text(json.dumps({"word_embedding_dimension": width, "pooling_mode_cls_token": True}) + "\n")


def _link(source: Path, target: Path, but: tuple[str, ...] = ()) -> None:
    """The files of a directory in another one, without their bytes."""
    for path in source.rglob("*"):
        name = path.relative_to(source)
        if path.is_dir():
            (target / name).mkdir(exist_ok=True)
        elif str(name) not in but:
            (target / name).hardlink_to(path)


_SAVERS = {"rerank": _save_reranker, "splade": _save_splade, "colbert": _save_colbert, "m3": _save_m3}
