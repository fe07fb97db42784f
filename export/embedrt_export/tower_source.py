"""Models of two towers in PyTorch: what texts and pictures are measured against, and where the weights come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedrt.encoder import EncoderSpec
from embedrt.errors import OptionError, SourceError, UnsupportedModelError
from embedrt.pictures.preprocessing import Preprocessing
from embedrt.text_rules import TextRules
from embedrt_export.checkpoint import check_complete, tensor_names
from embedrt_export.emit import emit
from embedrt_export.families import Family
from embedrt_export.families.towers import Towers, find_towers, tower_configs
from embedrt_export.graph import EncoderGraph, count_operators
from embedrt_export.picture_settings import find_settings, preprocessing_of
from embedrt_export.reference import float32_option, quiet_libraries
from embedrt_export.source import ModelSource, encoder_folder, optional_json, read_modules
from embedrt_export.tokenizer_file import settle_tokenizer

_BATCH = 16


@dataclass(frozen=True)
class Tower:
    """One of the two, as data."""

    family: Family
    config: dict[str, Any]
    projection: dict[str, NDArray[np.float32]]  # weight (out, in), and bias, behind what is pooled; or nothing

    @property
    def spec(self) -> EncoderSpec:
        """What it computes."""
        return self.family.spec_of(self.config)


@dataclass(frozen=True)
class TowerModel:
    """A loaded model."""

    source: ModelSource
    kind: Towers
    model: Any  # transformers' model, fp32, in eval mode
    tokenizer: Any
    processor: Any  # transformers' image processor on Pillow
    preprocessing: Preprocessing
    text: Tower
    vision: Tower
    rules: TextRules
    settings: Mapping[str, Any]  # config_sentence_transformers.json
    normalizes: bool  # whether sentence-transformers' modules end with Normalize
    max_tokens: int
    notes: tuple[str, ...]

    @property
    def as_pipeline(self) -> Any:
        """What a SentenceTransformer and its encoder are asked for, of the texts' tower."""
        return SimpleNamespace(
            config=self.model.config.text_config,
            get_input_embeddings=lambda: self.model.text_model.embeddings.token_embedding,
            tokenizer=self.tokenizer,
            prompts=self.settings.get("prompts"),
            default_prompt_name=self.settings.get("default_prompt_name"),
            similarity_fn_name=self.settings.get("similarity_fn_name") or "cosine",
        )

    def encode(
        self, texts: Sequence[str], prompt: str = "", advance: Callable[[int], None] = lambda _: None
    ) -> NDArray[np.float32]:
        """Vectors (N, D) of texts, each by itself, so that no padding touches any."""
        rows = []
        for text in texts:
            length: dict[str, Any] = {"truncation": True, "max_length": self.max_tokens}
            if self.rules.padded_to is not None:
                length |= {"padding": "max_length", "max_length": self.rules.padded_to}
            ids = self.tokenizer([prompt + text], return_tensors="pt", **length)
            with torch.inference_mode():
                found = self.model.get_text_features(input_ids=ids["input_ids"])
            rows.append(self._finished(found))
            advance(1)
        return np.concatenate(rows)

    def encode_pictures(
        self, files: Sequence[Path], advance: Callable[[int], None] = lambda _: None
    ) -> NDArray[np.float32]:
        """Vectors (N, D) of pictures, from their files through transformers' processor on Pillow."""
        from PIL import Image, ImageOps

        rows = []
        for k in range(0, len(files), _BATCH):
            part = files[k : k + _BATCH]
            images = [ImageOps.exif_transpose(Image.open(file)) for file in part]
            pixels = self.processor(images, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                rows.append(self._finished(self.model.get_image_features(pixel_values=pixels)))
            advance(len(part))
        return np.concatenate(rows)

    def _finished(self, found: Any) -> NDArray[np.float32]:
        vectors = getattr(found, "pooler_output", found)  # of transformers 5, and of 4
        if self.normalizes:
            vectors = torch.nn.functional.normalize(vectors, p=2, dim=1)
        out: NDArray[np.float32] = vectors.float().numpy()
        return out

    def graph(self, tower: Tower) -> EncoderGraph:
        """A tower's fp32 graph."""
        model = emit(tower.spec, tower.family.tensors_of(tower.config, self._state_of(tower), self.source.name))
        note = f"the graph is emitted from the config and the weights ({tower.family.name}), not traced"
        return EncoderGraph(model, None, count_operators(model), (note,), tower.spec)

    def _state_of(self, tower: Tower) -> Mapping[str, Any]:
        name = "text_model." if tower is self.text else "vision_model."
        return {key: value for key, value in self.model.state_dict().items() if key.startswith(name)}


def load_towers(source: ModelSource, *, max_tokens: int | None = None) -> TowerModel:
    """Load a model of two towers in fp32.

    Raises:
        SourceError: a file is missing or does not fit.
        UnsupportedModelError: something that a bundle cannot say.
        OptionError: `max_tokens` is out of range.
    """
    import transformers

    kind = find_towers(source.config)
    if kind is None:
        raise UnsupportedModelError(f"{source.name} has no tower for pictures; pictures come from CLIP and its kin")
    modules = read_modules(source.path) if source.is_pipeline else None
    folder = encoder_folder(source.path, modules)
    text, vision = tower_configs(source.config)
    preprocessing = preprocessing_of(find_settings(folder), int(vision.get("image_size") or 224))
    with quiet_libraries():
        try:
            model = transformers.AutoModel.from_pretrained(str(folder), **float32_option()).eval()
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
            processor = transformers.AutoImageProcessor.from_pretrained(str(folder), **pillow_option())
        except Exception as exc:  # transformers raises many kinds
            raise SourceError(f"{source.name} cannot be loaded by transformers: {exc}") from exc
    check_complete(source.name, model, tensor_names(source.checkpoint))
    tokenizer_notes = settle_tokenizer(tokenizer)
    rules, notes = _rules(kind, text, tokenizer)
    most = min(int(kind.text.spec_of(text).max_tokens or 77), int(tokenizer.model_max_length))
    if max_tokens is not None and not 3 <= max_tokens <= most:
        raise OptionError(f"--max-tokens must be between 3 and {most} for this model, not {max_tokens}")
    return TowerModel(
        source=source,
        kind=kind,
        model=model,
        tokenizer=tokenizer,
        processor=processor,
        preprocessing=preprocessing,
        text=Tower(kind.text, text, _product(model, kind.text_projection)),
        vision=Tower(kind.vision, vision, _product(model, kind.vision_projection)),
        rules=rules,
        settings=optional_json(source.path / "config_sentence_transformers.json"),
        normalizes=any(str(module["type"]).endswith(".Normalize") for module in modules or ()),
        max_tokens=max_tokens or most,
        notes=(*source.notes, *tokenizer_notes, *notes),
    )


def pillow_option() -> dict[str, Any]:
    """The option of AutoImageProcessor for the class that works with Pillow, whose name is another since 5."""
    import transformers
    from packaging.version import Version

    return {"backend": "pil"} if Version(transformers.__version__).major >= 5 else {"use_fast": False}


def _rules(kind: Towers, config: Mapping[str, Any], tokenizer: Any) -> tuple[TextRules, tuple[str, ...]]:
    if kind.end_of_text is None:
        positions = int(kind.text.spec_of(config).max_tokens or 64)
        left = tokenizer.padding_side == "left"
        return TextRules(None, padded_to=positions, pads_with=int(tokenizer.pad_token_id), pads_left=left), ()
    end = kind.end_of_text(config)
    if end is None:  # the highest id of a text, which must be its end's
        end = int(tokenizer.eos_token_id)
        if end != max(tokenizer.get_vocab().values()):
            raise UnsupportedModelError(
                "config.json has eos_token_id 2, with which texts are pooled at their highest id, and tokens were "
                "added behind the end of text; write the tokenizer's eos_token_id to text_config"
            )
    return TextRules(ends_at=end, padded_to=None, pads_with=None, pads_left=False), ()


def _product(model: Any, name: str | None) -> dict[str, NDArray[np.float32]]:
    if name is None:
        return {}
    named = model.get_submodule(name).named_parameters()
    return {part: parameter.detach().float().numpy() for part, parameter in named}
