"""What each system loads, built once from the model's directory and cached.

`python -m bench.artifacts NAME MODEL_DIR TARGET` builds one, so that the memory of a build is gone before anything
is timed. The folder's name holds the versions of the tools that made it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.kind_models import kind_of
from bench.paths import REPO, cache_dir, whole_or_nothing
from bench.systems.base import load_tokenizer
from bench.texts import calibration_texts

CALIBRATION_SENTENCES = 300
_MANY_TOKENS = 100_000  # no vocabulary of English alone has so many
_failed: dict[Path, str] = {}  # not tried again in this run
_EXPORTER = ("onnxruntime", "embedrt")
_ST_FILES = ("*.json", "*.txt", "1_Pooling", "2_Normalize")


class BuildError(RuntimeError):
    """An artifact could not be built; the message ends with the tool's own last lines."""


@dataclass(frozen=True)
class Recipe:
    """How one artifact is made."""

    build: Callable[[Path, Path, dict[str, Path]], None]  # model directory, target, what it needs
    needs: tuple[str, ...]
    tools: tuple[str, ...]  # packages whose version is part of the key


def ensure(name: str, model: Path, say: Callable[[str], None]) -> Path:
    """The cached artifact `name` of `model`, built first (with what it needs) when it is not there.

    Raises:
        BuildError: building failed.
    """
    if name == "model":
        return model
    recipe = RECIPES[name]
    target = artifact_path(name, model)
    if target in _failed:
        raise BuildError(_failed[target])
    if not target.exists():
        for need in recipe.needs:
            ensure(need, model, say)
        say(f"building {name} ...")
        start = time.perf_counter()
        command = [sys.executable, "-m", "bench.artifacts", name, str(model), str(target)]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            _failed[target] = f"{name}: " + " | ".join(line[:200] for line in lines[-3:])
            raise BuildError(_failed[target])
        say(f"built {name} in {time.perf_counter() - start:.0f} s")
    return target


def artifact_path(name: str, model: Path) -> Path:
    """Where an artifact is kept; a change of the model, a tool's version or our exporter gives another place."""
    recipe = RECIPES[name]
    key: dict[str, Any] = {"model": model.name, "path": str(model), "tools": _versions(recipe.tools)}
    if name.startswith("bundle"):
        key["exporter"] = _exporter_hash()
    if name == "openvino-int8":
        key["calibration"] = CALIBRATION_SENTENCES
    for need in recipe.needs:
        key[need] = artifact_path(need, model).name if need != "model" else str(model)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10]
    folder = model.name if model.name != "model" else model.parent.name
    return cache_dir() / "artifacts" / folder / f"{name}-{digest}"


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def _exporter_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted((REPO / "export").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def _build_onnx(model: Path, target: Path, _needs: dict[str, Path]) -> None:
    """torch.onnx's trace of the encoder alone, fp32, unfused."""
    from transformers import AutoModel

    from embedrt_export.tracing import trace

    load = splade if kind_of(model) == "splade" else AutoModel.from_pretrained
    trace(load(model).float().eval(), target / "model.onnx")


def splade(model: Path) -> Any:
    """A masked language model up to the weights of a text's words (B, V), in an encoder's place."""
    import torch
    from transformers import BertForMaskedLM
    from transformers.modeling_outputs import BaseModelOutput

    class WordWeights(BertForMaskedLM):
        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any, return_dict: bool = True) -> Any:
            given = {"attention_mask": attention_mask, "token_type_ids": token_type_ids, "return_dict": return_dict}
            logits = super().forward(input_ids, **given).logits  # (B, S, V)
            seen = torch.log1p(torch.relu(logits)) * attention_mask[:, :, None]
            return BaseModelOutput(last_hidden_state=seen.amax(dim=1))

    return WordWeights.from_pretrained(model)


def _build_onnx_fused(model: Path, target: Path, needs: dict[str, Path]) -> None:
    """onnxruntime's transformer optimizer: Attention, BiasGelu, SkipLayerNormalization."""
    from onnxruntime.transformers import optimizer

    config = json.loads((model / "config.json").read_text())
    numbers = {"num_heads": config["num_attention_heads"], "hidden_size": config["hidden_size"]}
    source = str(needs["onnx"] / "model.onnx")
    fused = optimizer.optimize_model(source, model_type="bert", opt_level=0, use_gpu=False, **numbers)
    counts = {k: v for k, v in fused.get_fused_operator_statistics().items() if v}
    fused.save_model_to_file(str(target / "model.onnx"), use_external_data_format=True)
    (target / "fused.json").write_text(json.dumps(counts))


def _build_onnx_int8(_model: Path, target: Path, needs: dict[str, Path]) -> None:
    """quantize_dynamic per channel on the fused graph, otherwise with its defaults (these quantize the embedding
    table too, with one scale: that costs accuracy, saves memory and does not change the speed)."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # shape inference cannot see through the fused operators: tell it that what it does not know is float
    extra = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    options = {"per_channel": True, "weight_type": QuantType.QInt8, "extra_options": extra}
    quantize_dynamic(needs["onnx-fused"] / "model.onnx", target / "model.onnx", **options)


def _build_st_onnx_int8(model: Path, target: Path, needs: dict[str, Path]) -> None:
    """The same int8 file in a folder that sentence-transformers loads with backend="onnx"."""
    for pattern in _ST_FILES:
        for path in model.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, target / path.name)
            else:
                shutil.copyfile(path, target / path.name)
    (target / "2_Normalize").mkdir(exist_ok=True)
    (target / "onnx").mkdir()
    for path in needs["onnx-int8"].iterdir():
        (target / "onnx" / path.name).hardlink_to(path)


def _build_fastembed(model: Path, target: Path, needs: dict[str, Path]) -> None:
    """The same once more; fastembed cuts texts where tokenizer_config.json says, and nowhere else."""
    _build_st_onnx_int8(model, target, needs)
    settings = target / "tokenizer_config.json"
    limit = load_tokenizer(model).truncation["max_length"]
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "model_max_length": limit}))


def _build_openvino(_model: Path, target: Path, needs: dict[str, Path]) -> None:
    """OpenVINO's own format from the unfused graph; its plugin does the fusing. Weights stay fp32."""
    import openvino as ov

    converted = ov.convert_model(needs["onnx"] / "model.onnx")
    ov.save_model(converted, target / "model.xml", compress_to_fp16=False)


def _build_openvino_int8(model: Path, target: Path, needs: dict[str, Path]) -> None:
    """NNCF post-training quantization for transformers (SmoothQuant is part of it)."""
    import nncf
    import numpy as np
    import openvino as ov
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    source = ov.Core().read_model(needs["openvino"] / "model.xml")
    names = [port.get_any_name() for port in source.inputs]
    texts = calibration_texts(CALIBRATION_SENTENCES, english=is_english(model))
    samples = []
    for encoding in tokenizer.encode_batch(texts):
        ids = np.array([encoding.ids], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        samples.append({name: feeds[name] for name in names})
    made = nncf.quantize(source, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples))
    ov.save_model(made, target / "model.xml", compress_to_fp16=False)


def _build_openvino_int8_weights(_model: Path, target: Path, needs: dict[str, Path]) -> None:
    """NNCF's compression of weights alone, symmetric: what OpenVINO asks for before it quantizes at run time."""
    import nncf
    import openvino as ov

    source = ov.Core().read_model(needs["openvino"] / "model.xml")
    made = nncf.compress_weights(source, mode=nncf.CompressWeightsMode.INT8_SYM)
    ov.save_model(made, target / "model.xml", compress_to_fp16=False)


def _build_ctranslate2(model: Path, target: Path, _needs: dict[str, Path]) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(model)).convert(str(target), quantization="int8", force=True)


def _build_gguf(model: Path, target: Path, _needs: dict[str, Path], *, weights: str) -> None:
    """llama.cpp's file with matrices of a type of `bench.gguf_files`."""
    from bench.gguf_files import write

    write(model, target / "model.gguf", weights)


def _build_bundle(model: Path, target: Path, _needs: dict[str, Path], **options: Any) -> None:
    """What `embedrt export MODEL BUNDLE` makes with these options, parity gates and all."""
    from embedrt_export.export import export

    target.rmdir()  # export makes it
    export(model, target, **options)


def is_english(model: Path) -> bool:
    """MiniLM and mpnet know English only; XLM-R's texts, and those of E5 with its tokens, come in many languages."""
    return int(json.loads((model / "config.json").read_text())["vocab_size"]) < _MANY_TOKENS


RECIPES: dict[str, Recipe] = {
    "onnx": Recipe(_build_onnx, (), ("torch", "transformers")),
    "onnx-fused": Recipe(_build_onnx_fused, ("onnx",), ("onnxruntime",)),
    "onnx-int8": Recipe(_build_onnx_int8, ("onnx-fused",), ("onnxruntime",)),
    "st-onnx-int8": Recipe(_build_st_onnx_int8, ("onnx-int8",), ("sentence-transformers",)),
    "fastembed": Recipe(_build_fastembed, ("onnx-int8",), ()),
    "openvino": Recipe(_build_openvino, ("onnx",), ("openvino",)),
    "openvino-int8": Recipe(_build_openvino_int8, ("openvino",), ("openvino", "nncf")),
    "openvino-int8-weights": Recipe(_build_openvino_int8_weights, ("openvino",), ("openvino", "nncf")),
    "ctranslate2": Recipe(_build_ctranslate2, (), ("ctranslate2", "transformers")),
    "gguf-q8": Recipe(partial(_build_gguf, weights="q8_0"), (), ("gguf", "transformers")),
    "gguf-bf16": Recipe(partial(_build_gguf, weights="bf16"), (), ("gguf", "transformers")),
    # bf16 is made of fp32's weights when it is loaded
    "bundle": Recipe(partial(_build_bundle, variants=("fp32", "int8")), (), _EXPORTER),
    "bundle-fp16": Recipe(partial(_build_bundle, variants=("fp16",)), (), _EXPORTER),
    "bundle-accurate": Recipe(partial(_build_bundle, variants=("int8",), int8_recipe="accurate"), (), _EXPORTER),
}


def _main(name: str, model: Path, target: Path) -> None:
    recipe = RECIPES[name]
    with whole_or_nothing(target) as directory:
        recipe.build(model, directory, {need: artifact_path(need, model) for need in recipe.needs})


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
