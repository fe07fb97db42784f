"""Small seeded models of pictures and texts, as transformers and sentence-transformers save them."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from tests.tiny import CORPUS, wordpiece_json
from tests.training import learn_merges, numbered, words_of

START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
SIZE = 32  # pixels of a picture as the encoder sees it


def _on_pillow(name: str) -> Any:
    """transformers' class of a processor that works with Pillow, which had the plain name before version 5."""
    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


@cache
def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Of CLIP's kind: bytes, bytes that end a word, what is merged of them, and the two special tokens last."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    _, merges = learn_merges(words_of(tokenizer, CORPUS), 400, end="</w>")
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in merges), START, END]
    return numbered(tokens), merges


def clip_tokenizer() -> Any:
    """transformers' own class, with a small vocabulary."""
    vocabulary, merges = _vocabulary()
    if transformers.CLIPTokenizerFast is transformers.CLIPTokenizer:  # since version 5
        return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)
    with tempfile.TemporaryDirectory() as folder:  # version 4 reads files
        files = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        files[0].write_text(json.dumps(vocabulary))
        files[1].write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]))
        return transformers.CLIPTokenizerFast(*map(str, files), model_max_length=77)


def clip_config(*, small: bool = True, **text: Any) -> Any:
    """Two layers each, 32 x 32 pixels in patches of 8; heads as wide as the native executor takes.

    Not `small`: pictures as ViT-B/32 has them.
    """
    tokenizer = clip_tokenizer()
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    vision = {"hidden_size": 96, "image_size": SIZE, "patch_size": 8, **sizes, "num_attention_heads": 3}
    return transformers.CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer), "max_position_embeddings": 77, "hidden_size": 64, **sizes,
            "eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id, **text,
        },
        vision_config=vision if small else {},
        projection_dim=48 if small else 512,
    )  # fmt: skip


def clip_model(seed: int = 0, *, small: bool = True, **text: Any) -> Any:
    """With weights of a trained model's size: the projections of different inputs differ."""
    torch.manual_seed(seed)
    model = transformers.CLIPModel(clip_config(small=small, **text)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * (0.7 / parameter[0].numel() ** 0.5))
            elif "norm" not in name or "bias" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
        model.text_model.embeddings.token_embedding.weight.mul_(8)
        model.vision_model.embeddings.patch_embedding.weight.mul_(2)
    return model


def image_processor(size: int = SIZE) -> Any:
    """transformers' on Pillow, for pictures of `size` pixels."""
    return _on_pillow("CLIPImageProcessor")(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def siglip_config() -> Any:
    """Two layers each, 32 x 32 pixels in patches of 8, texts padded to 16 tokens."""
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128, "hidden_size": 64}
    return transformers.SiglipConfig(
        text_config={"vocab_size": 400, "max_position_embeddings": 16, "projection_size": 64, **small},
        vision_config={"image_size": SIZE, "patch_size": 8, **small},
    )


def siglip_model(seed: int = 0) -> Any:
    """Of SigLIP's kind, with weights as `clip_model`'s."""
    torch.manual_seed(seed)
    model = transformers.SiglipModel(siglip_config()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * (0.8 / parameter[0].numel() ** 0.5))
            elif "norm" not in name or "bias" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
        model.text_model.embeddings.token_embedding.weight.mul_(4)
        model.vision_model.head.probe.mul_(8)
    return model


def save_siglip(folder: Path, padding_side: str = "right") -> Path:
    """A directory as SigLIP 2's of one size are published in, with another tokenizer."""
    siglip_model().save_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(wordpiece_json()), sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]",
        model_max_length=16, model_input_names=["input_ids"], padding_side=padding_side,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    processor = _on_pillow("SiglipImageProcessor")(size={"height": SIZE, "width": SIZE}, resample=2)
    processor.save_pretrained(folder)
    return folder


def save_clip(folder: Path, seed: int = 0, *, small: bool = True, **text: Any) -> Path:
    """A directory as transformers' CLIPModel is published in."""
    clip_model(seed, small=small, **text).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    image_processor(SIZE if small else 224).save_pretrained(folder)
    return folder
