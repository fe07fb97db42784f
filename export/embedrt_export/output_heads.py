"""The heads of outputs other than dense vectors: what the bundle says of them, and what the model itself gives."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.errors import SourceError, UnsupportedModelError
from embedrt.heads import Expansion, SparseHead, Stage, TokenHead, TokenSide, WeightHead, WordHead
from embedrt.manifest import Manifest
from embedrt.options import Kind
from embedrt.parity.files import write_parity_texts
from embedrt.parity.outputs import prompts_of, token_texts, write_sparse, write_tokens
from embedrt.sparse_vectors import SparseVector
from embedrt_export.hub import MORE_HEADS
from embedrt_export.pipeline import save_arrays, write_dense
from embedrt_export.reference import Reference, transformer_of
from embedrt_export.word_head import WordWeights, read_words

_TABLES = ("SparseStaticEmbedding", "IDF")
_WORD_POOLINGS = {
    ("max", "relu"): "max",
    ("max", "log1p_relu"): "max_of_twice",
    ("sum", "relu"): "sum",
    ("sum", "log1p_relu"): "sum_of_twice",
}
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, IndexError,
    AttributeError,
)  # fmt: skip
_ONE_SIDE = TokenSide(None, None, ())
Rows = list[Any]


@dataclass(frozen=True)
class OutputHeads:
    """What stands behind a model's encoder beside a pipeline of dense vectors."""

    sparse: SparseHead | None = None
    tokens: TokenHead | None = None
    words: WordWeights | None = None  # of `sparse`, for every variant


def describe_heads(reference: Reference, root: Path) -> OutputHeads:
    """Write the heads' arrays under `root`/pipeline, and describe them.

    Raises:
        UnsupportedModelError: a module or a setting cannot be said in a bundle.
    """
    source = reference.source
    if source.output == "sparse":
        return _describe_sparse(reference, root)
    if source.output == "tokens":
        return OutputHeads(tokens=_describe_tokens(reference, root))
    return _describe_more(reference, root) if source.more_heads else OutputHeads()


def _describe_sparse(reference: Reference, root: Path) -> OutputHeads:
    model, name = reference.model, reference.source.name
    routes = _routes(model, name)
    encoder, pooling = routes["document"]
    words = read_words(name, encoder.model)
    key = (pooling.pooling_strategy, pooling.activation_function)
    table = routes.get("query", ())
    dimension = words.arrays["words.decoder.weight"].shape[1]
    if table:
        _check_table(table[0], encoder, dimension, name)
        save_arrays(root / "pipeline/table.npz", weight=table[0].weight)
    default = getattr(model[0], "default_route", None) if table else None
    head = SparseHead(
        dimension=dimension,
        words=WordHead(words.activation, words.norm, _WORD_POOLINGS[key]),
        weights=None,
        table="pipeline/table.npz" if table else None,
        table_tokens=_table_tokens(table[0]) if table else None,
        default="query" if default == "query" else "document",
        max_active_dims=model.max_active_dims,
        similarity=name_of(model.similarity_fn_name),
    )
    return OutputHeads(sparse=head, words=words)


def _routes(model: Any, name: str) -> dict[str, tuple[Any, ...]]:
    """The modules of documents, an encoder and its pooling; those of queries where they are a table."""
    modules = list(model)
    routes = {"document": tuple(modules)}
    if type(modules[0]).__name__ == "Router":
        routes = {route: tuple(some) for route, some in modules[0].sub_modules.items()}
        if len(modules) > 1 or getattr(modules[0], "route_mappings", None):
            raise UnsupportedModelError(
                f"{name}: its router has a mapping, or modules behind it, that a bundle cannot say"
            )
    kinds = {route: tuple(type(module).__name__ for module in some) for route, some in routes.items()}
    documents = kinds.get("document", ())
    fine = len(documents) == 2 and documents[0] in ("Transformer", "MLMTransformer") and documents[1] == "SpladePooling"
    tables = {None, *((kind,) for kind in _TABLES)}
    if not fine or set(kinds) - {"query", "document"} or kinds.get("query") not in tables:
        raise UnsupportedModelError(
            f"{name}: documents must go through a Transformer and a SpladePooling, queries through the same or a table "
            f"of weights (SparseStaticEmbedding); here it is {kinds}"
        )
    return routes


def _check_table(table: Any, encoder: Any, dimension: int, name: str) -> None:
    if table.weight.shape != (dimension,):
        raise UnsupportedModelError(f"{name}: its table has {len(table.weight)} weights, its words are {dimension}")
    if table.tokenizer.get_vocab() != encoder.tokenizer.get_vocab():
        raise UnsupportedModelError(f"{name}: queries and documents have tokenizers of other vocabularies")


def _table_tokens(table: Any) -> int:
    """transformers says 10^30 where a tokenizer has no limit."""
    return min(int(table.tokenizer.model_max_length), 1 << 20)


def _describe_tokens(reference: Reference, root: Path) -> TokenHead:
    model, name = reference.model, reference.source.name
    modules = list(model)
    stages: list[Stage] = []
    mask: Any = None
    for index, module in enumerate(modules[1:], 1):
        kind = type(module).__name__
        if kind == "Dense":
            stages.append(write_dense(module, f"pipeline/token_dense_{index}.npz", root, "token_embeddings"))
        elif kind == "Normalize" and module.module_input_name == "token_embeddings":
            stages.append(Stage("normalize"))
        elif kind == "MultiVectorMask":
            mask = module
        elif kind != "Dropout":
            raise UnsupportedModelError(f"{name}: its module {index}, {kind}, cannot be said in a bundle")
    if mask is not None and mask.keep_only_token_ids:
        raise UnsupportedModelError(f"{name}: it keeps the vectors of some tokens only, which a bundle cannot say")
    encoder = transformer_of(model)
    expansion = _expansion(encoder, name)
    skipped = {side: _skipped(mask, side) for side in ("query", "document")}
    limit = encoder.query_length if expansion is None or not expansion.cuts else None
    return TokenHead(
        stages=tuple(stages),
        dimension=int(model.get_embedding_dimension()),
        skip_first=False,
        query=TokenSide(limit, expansion, skipped["query"]),
        document=TokenSide(encoder.document_length, None, skipped["document"]),
        similarity=name_of(model.similarity_fn_name),
    )


def _expansion(encoder: Any, name: str) -> Expansion | None:
    said, tokenizer = encoder.query_expansion, encoder.tokenizer
    if said is None:
        return None
    token = said["token"]
    number = tokenizer.convert_tokens_to_ids(token) if token is not None else tokenizer.mask_token_id
    number = tokenizer.eos_token_id if number is None else number
    if number is None:
        raise UnsupportedModelError(f"{name}: its tokenizer has no mask token to put behind short queries")
    length, seen = int(said["length"]), bool(said["attend"])
    window = getattr(encoder.model.config, "local_attention", None)
    if window is not None and not seen and length - 1 > window // 2:
        raise UnsupportedModelError(
            f"{name}: queries of {length} tokens of which some are not seen are more than its window of {window} holds"
        )
    return Expansion(int(number), length, seen, said["strategy"] == "fixed")


def _skipped(mask: Any, side: str) -> tuple[int, ...]:
    if mask is None or side not in mask.skiplist_tasks or mask._skiplist_ids is None:
        return ()
    return tuple(sorted({int(number) for number in mask._skiplist_ids.tolist()}))


def _describe_more(reference: Reference, root: Path) -> OutputHeads:
    """BGE-M3's: two linear layers in files of their own beside the encoder."""
    source, tokenizer = reference.source, transformer_of(reference.model).tokenizer
    sparse, tokens = (read_linear(source.path / file) for file in MORE_HEADS)
    encoder = transformer_of(reference.model).model
    words = encoder.get_input_embeddings().weight.shape[0]
    save_arrays(root / "pipeline/sparse_linear.npz", weight=sparse.weight, bias=sparse.bias)
    save_arrays(root / "pipeline/colbert_linear.npz", weight=tokens.weight, bias=tokens.bias)
    special = (tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    skip = tuple(sorted({number for number in special if number is not None}))
    width, size = tokens.out_features, tokens.in_features
    return OutputHeads(
        sparse=SparseHead(
            dimension=words,
            words=None,
            weights=WeightHead("pipeline/sparse_linear.npz", skip),
            table=None,
            table_tokens=None,
            default="document",
            max_active_dims=None,
            similarity="dot",
        ),
        tokens=TokenHead(
            stages=(
                Stage("dense", "pipeline/colbert_linear.npz", "identity", size, width),
                Stage("normalize"),
            ),
            dimension=width,
            skip_first=True,
            query=_ONE_SIDE,
            document=_ONE_SIDE,
            similarity="meanmaxsim",
        ),
    )


def read_linear(file: Path) -> torch.nn.Linear:
    """A linear layer that torch has saved; tensors only are read.

    Raises:
        SourceError: the file is something else.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        weight, bias = state["weight"].float(), state["bias"].float()
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    except _UNREADABLE as exc:
        raise SourceError(
            f"{file} is no linear layer of torch's, or holds other Python objects than tensors, which are never "
            "loaded: download it again"
        ) from exc
    return layer.eval()


def write_output_references(root: Path, reference: Reference, manifest: Manifest, texts: Sequence[str]) -> None:
    """Keep under `root` what the model's own library gives of the parity texts, and the texts."""
    if manifest.sparse is None and manifest.tokens is None:
        return
    write_parity_texts(root, texts)
    prompts = prompts_of(Bundle(root, manifest))
    if manifest.sparse is not None:
        rows = reference_sparse(reference, texts, prompts["document"])
        write_sparse(root, rows, manifest.sparse.dimension)
    if manifest.tokens is not None:
        some = [texts[i] for i in token_texts(texts)]
        queries = reference_tokens(reference, some, "query", prompts["query"])
        write_tokens(root, queries, reference_tokens(reference, some, "document", prompts["document"]))


def reference_sparse(reference: Reference, texts: Sequence[str], prompt: str) -> list[SparseVector]:
    """Sparse vectors of documents as the model's own library, or FlagEmbedding, gives them."""
    return _in_groups(reference, texts, prompt, _sparse_of(reference))


def reference_tokens(reference: Reference, texts: Sequence[str], kind: Kind, prompt: str) -> list[NDArray[np.float32]]:
    """Vectors of tokens likewise, of queries or documents."""
    return _in_groups(reference, texts, prompt, _tokens_of(reference, kind))


def _in_groups(reference: Reference, texts: Sequence[str], prompt: str, give: Callable[[list[str], str], Rows]) -> Rows:
    out: Rows = [None] * len(texts)
    with torch.inference_mode():
        for group in reference.equal_lengths([prompt + text for text in texts]):
            for i, row in zip(group, give([texts[i] for i in group], prompt), strict=True):
                out[i] = row
    return out


def _sparse_of(reference: Reference) -> Callable[[list[str], str], Rows]:
    model = reference.model
    if reference.source.output == "sparse":

        def by_library(texts: list[str], prompt: str) -> Rows:
            rows = model.encode_document(texts, prompt=prompt, convert_to_sparse_tensor=False, show_progress_bar=False)
            return [_sparse(row) for row in rows.numpy()]

        return by_library
    layer, dimension = read_linear(reference.source.path / MORE_HEADS[0]), _words(model)

    def by_layer(texts: list[str], prompt: str) -> Rows:
        ids, hidden = _hidden(reference, texts, prompt)
        weights = torch.relu(layer(hidden)).squeeze(-1)
        rows = torch.zeros(len(texts), dimension).scatter_reduce(1, ids, weights, "amax")
        tokenizer = transformer_of(model).tokenizer
        for number in (tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id):
            rows[:, number] = 0
        return [_sparse(row) for row in rows.numpy()]

    return by_layer


def _tokens_of(reference: Reference, kind: Kind) -> Callable[[list[str], str], Rows]:
    model = reference.model
    if reference.source.output == "tokens":

        def by_library(texts: list[str], prompt: str) -> Rows:
            return list(model.encode(texts, prompt=prompt, task=kind, convert_to_numpy=True, show_progress_bar=False))

        return by_library
    layer = read_linear(reference.source.path / MORE_HEADS[1])

    def by_layer(texts: list[str], prompt: str) -> Rows:
        _, hidden = _hidden(reference, texts, prompt)
        return list(torch.nn.functional.normalize(layer(hidden[:, 1:]), dim=-1).numpy())

    return by_layer


def _hidden(reference: Reference, texts: list[str], prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and hidden states of texts of one length."""
    encoder = transformer_of(reference.model)
    whole = [prompt + text for text in texts]
    ids = encoder.tokenizer(whole, truncation=True, max_length=reference.max_tokens, return_tensors="pt")["input_ids"]
    return ids, encoder.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


def _sparse(row: NDArray[np.float32]) -> SparseVector:
    indices = np.flatnonzero(row).astype(np.int32)
    return SparseVector(indices, row[indices], len(row))


def _words(model: Any) -> int:
    return int(transformer_of(model).model.get_input_embeddings().weight.shape[0])


def name_of(similarity: Any) -> str:
    """Of a similarity function, which is an enumeration's or a string."""
    return str(getattr(similarity, "value", similarity))
