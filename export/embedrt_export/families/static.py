"""Static embeddings, a table of token vectors of which a text's vector is the mean, as model2vec and
sentence-transformers save them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Embeddings, EncoderSpec
from embedrt.errors import SourceError, UnsupportedModelError
from embedrt.manifest import Architecture
from embedrt.tensors import as_array
from embedrt_export.families.sources import Array

Library = Literal["model2vec", "sentence-transformers"]

_FOLDERS = ("", "0_StaticEmbedding")  # within a model's directory
_TABLES: dict[str, Library] = {"embeddings": "model2vec", "embedding.weight": "sentence-transformers"}
"""Name of the table in model.safetensors -> who saved it, which decides how texts are read: out of a directory of
model2vec's, sentence-transformers makes other vectors, with the unknown token in them and of texts that are not cut."""
_MODEL2VEC_MAX_TOKENS = 512  # where its config does not say


@dataclass(frozen=True)
class StaticTable:
    """A vector is the mean over a text's tokens t, without special ones, of weights[t] * vectors[rows[t]]."""

    library: Library  # whose rules these are
    vectors: Array  # (N, H)
    rows: NDArray[np.int64] | None  # (V,), of each token id; None: the id is the row
    weights: Array | None  # (V,), of each token id; None: all 1
    normalize: bool  # by model2vec; sentence-transformers has a module for it
    skipped_id: int | None  # the token that counts as none, which is model2vec's unknown one
    max_tokens: int | None  # of which the skipped ones are some
    characters_per_token: int | None  # times the limit: to so many model2vec cuts a text before it looks for tokens
    tokenizer: Path  # tokenizer.json

    @property
    def num_tokens(self) -> int:
        """V, ids that have a row."""
        return len(self.vectors if self.rows is None else self.rows)

    def folded(self) -> Array:
        """(V + 1, H): a row for each token id, its weight in it, and one of zeros, which texts without tokens have."""
        out = np.zeros((self.num_tokens + 1, self.vectors.shape[1]), np.float32)
        out[:-1] = self.vectors if self.rows is None else self.vectors[self.rows]
        if self.weights is not None:
            out[:-1] *= self.weights[: self.num_tokens, None]
        return out

    def spec(self) -> EncoderSpec:
        """The folded table as an encoder."""
        size = int(self.vectors.shape[1])
        return EncoderSpec(
            hidden_size=size,
            vocab_size=self.num_tokens + 1,
            max_tokens=None,
            embeddings=Embeddings(size, 0, None, has_token_types=False, scale=1.0, norm=None),
            blocks=(),
            final_norm=None,
        )

    def architecture(self) -> Architecture:
        """The same numbers as an encoder's config.json would have them."""
        return Architecture(
            model_type="static",
            hidden_size=int(self.vectors.shape[1]),
            num_layers=0,
            num_heads=0,
            intermediate_size=0,
            vocab_size=self.num_tokens + 1,
            max_positions=0,
            type_vocab_size=0,
            activation="none",
            layer_norm_eps=0.0,
            pad_token_id=self.num_tokens,
        )

    def tokenizer_json(self) -> str:
        """The tokenizer as it is used: without special tokens, cutting and padding, which are the bundle's matter."""
        data = _json(self.tokenizer)
        data["truncation"] = data["padding"] = data["post_processor"] = None
        return json.dumps(data, ensure_ascii=False)


def read_static(folder: Path) -> StaticTable:
    """The static embeddings in a model's directory.

    Raises:
        SourceError: there are none, or they are damaged.
        UnsupportedModelError: a setting cannot be said in a bundle.
    """
    place = next((folder / name for name in _FOLDERS if (folder / name / "model.safetensors").is_file()), None)
    if place is None or not (place / "tokenizer.json").is_file():
        raise SourceError(
            f"{folder} has no static embeddings (model.safetensors and tokenizer.json); download it again"
        )
    tensors = _tensors(place / "model.safetensors")
    table = next((name for name in _TABLES if name in tensors), None)
    if table is None:
        raise SourceError(f"{place / 'model.safetensors'} has no table of token vectors ({' or '.join(_TABLES)})")
    own = _TABLES[table] == "model2vec"
    vectors, rows, weights = tensors.pop(table), tensors.pop("mapping", None), tensors.pop("weights", None)
    if tensors or (not own and (rows is not None or weights is not None)):
        raise SourceError(f"{place / 'model.safetensors'} has more than a table of token vectors: {sorted(tensors)}")
    tokenizer = _json(place / "tokenizer.json")
    tokens = _vocabulary(tokenizer)
    _check_sizes(place, tokens, vectors, rows, weights)
    config = _json(folder / "config.json") if own else {}
    limit = config.get("max_length", _MODEL2VEC_MAX_TOKENS) if own else _truncation(place, tokenizer)
    return StaticTable(
        library=_TABLES[table],
        vectors=np.ascontiguousarray(vectors, np.float32),
        rows=None if rows is None else np.ascontiguousarray(rows, np.int64),
        weights=None if weights is None else np.ascontiguousarray(weights, np.float32),
        normalize=own and bool(config.get("normalize", False)),
        skipped_id=_unknown_id(tokenizer, tokens) if own else None,
        max_tokens=limit,
        characters_per_token=int(np.median([len(token) for token in tokens])) if own else None,
        tokenizer=place / "tokenizer.json",
    )


def _truncation(place: Path, tokenizer: dict[str, Any]) -> int | None:
    """Tokens at which sentence-transformers, which leaves that to the tokenizer, cuts."""
    said = tokenizer.get("truncation")
    if said is None:
        return None
    if said.get("direction", "Right") != "Right":
        raise UnsupportedModelError(f"{place}: its tokenizer cuts texts on the left; only right is supported")
    return int(said["max_length"])


def _tensors(file: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: np.asarray(as_array(tensor)) for name, tensor in load_file(file).items()}
    except (SafetensorError, OSError, ValueError) as exc:
        raise SourceError(f"{file} is truncated or damaged; download it again") from exc


def _json(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise SourceError(f"{file} cannot be read: {exc}; download the model again") from exc
    return found


def _vocabulary(tokenizer: dict[str, Any]) -> dict[str, int]:
    """Every token and its id, added ones included."""
    model = tokenizer["model"]["vocab"]
    known = {piece: i for i, (piece, _score) in enumerate(model)} if isinstance(model, list) else dict(model)
    return known | {added["content"]: added["id"] for added in tokenizer.get("added_tokens") or ()}


def _unknown_id(tokenizer: dict[str, Any], tokens: dict[str, int]) -> int | None:
    """WordPiece's, BPE's and WordLevel's unknown token has a name, Unigram's an id."""
    model = tokenizer["model"]
    if "unk_id" in model:
        return None if model["unk_id"] is None else int(model["unk_id"])
    return tokens.get(model.get("unk_token"))


def _check_sizes(
    place: Path, tokens: dict[str, int], vectors: NDArray[Any], rows: NDArray[Any] | None, weights: NDArray[Any] | None
) -> None:
    count = max(tokens.values()) + 1
    for name, found in (("mapping", rows), ("weights", weights), ("table", vectors if rows is None else None)):
        if found is not None and len(found) < count:
            raise SourceError(f"{place}: its {name} has {len(found)} entries and the tokenizer {count} tokens")
    if rows is not None and (rows.min() < 0 or rows.max() >= len(vectors)):
        raise SourceError(f"{place}: its mapping names rows that the table, of {len(vectors)}, does not have")
