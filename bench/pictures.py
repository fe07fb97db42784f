"""`python -m bench.pictures`: pictures per second of CLIP's encoder of pictures, beside OpenVINO.

Weights are seeded (trained ones are not needed for a time), shapes those of ViT-B/32 and ViT-B/16. Every system is
compared with PyTorch before it is timed. Calls take turns, so that what else the machine does falls on all of them;
printed is the median. OpenVINO's int8 is NNCF's for transformers, on the pictures that ours is calibrated with.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from bench.machine import describe_machine
from embedrt.bundle import Bundle, describe_file
from embedrt.executors import Executor, PatchBatch
from embedrt.executors.choice import load_executor
from embedrt.heads import Pipeline
from embedrt.manifest import Architecture, Manifest, Prompts, Source
from embedrt.options import EncodeOptions
from embedrt.pictures.generated import generated_pictures
from embedrt.pictures.preprocessing import Preprocessing, preprocess, to_patches
from embedrt.pictures.reading import read_picture
from embedrt.pictures.runner import Item, PictureRunner
from embedrt.pooling import Dense, Head
from embedrt.progress import NullProgress
from embedrt_export.emit import emit
from embedrt_export.families.clip import VISION
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8 import Int8Recipe
from embedrt_export.variants import Job, make_variants

SHAPES = {"ViT-B/32": 32, "ViT-B/16": 16}
BATCHES = (1, 8, 32)
LEAST_COSINE = {"fp32": 0.99999, "bf16": 0.999, "int8": 0.98}
_CALIBRATION = 12
_PREPROCESSING = Preprocessing(
    224, None, "bicubic", 224, 224, 1 / 255, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)
Floats = NDArray[np.float32]
Encode = Callable[[Floats], Floats]  # pixel values (B, 3, 224, 224), or patches (B, N, K), to class rows (B, H)


@dataclass(frozen=True)
class System:
    """Something that is timed."""

    name: str
    precision: str
    encode: Encode
    takes_patches: bool


def make_model(edge: int) -> Any:
    """PyTorch's, with weights of moderate size everywhere."""
    torch.manual_seed(0)
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(patch_size=edge)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * (0.6 / parameter[0].numel() ** 0.5))
    return model


def make_bundle(model: Any, root: Path) -> Bundle:
    """Its fp32 and int8 as a bundle; without a tokenizer, which no executor reads."""
    config = {k: v for k, v in model.config.to_dict().items() if v is not None}
    spec = VISION.spec_of(config)
    graph = EncoderGraph(emit(spec, VISION.tensors_of(config, model.state_dict())), None, {}, (), spec)
    calibration = [patches_of(Image.fromarray(p), config["patch_size"]) for p in generated_pictures(_CALIBRATION, 1)]
    quick = Int8Recipe(optimize=False, gptq=False, max_wide=0)  # the same work at run time, made in less
    job = Job(root, graph, calibration, 0, quick)
    variants = make_variants(job, ("fp32", "int8"), NullProgress())
    (root / "tokenizer.json").write_text("{}")
    block = spec.blocks[0]
    architecture = Architecture(
        "clip_vision_model", spec.hidden_size, len(spec.blocks), block.attention.num_heads, block.feed_forward.size, 0,
        spec.embeddings.num_positions, 0, "quick_gelu", 1e-5, 0,
    )  # fmt: skip
    pipeline = Pipeline(("cls",), include_prompt=True, stages=(), dimension=spec.hidden_size)
    manifest = Manifest(
        2, "vit", "", Source("seeded", None, "0" * 64), architecture, spec.max_tokens or 1, "tokenizer.json", pipeline,
        Prompts({}, None, None, ""), "cosine", variants, (describe_file(root, "tokenizer.json"),), {}, encoder=spec,
    )  # fmt: skip
    return Bundle(root, manifest)


def patches_of(image: Image.Image, edge: int) -> Floats:
    """A picture as our executors take it."""
    return to_patches(preprocess(image, _PREPROCESSING), edge, _PREPROCESSING)


def ours(bundle: Bundle, variant: str, executor: str, threads: int) -> tuple[Encode, Executor]:
    """One of our executors."""
    loaded = load_executor(bundle, variant, device="cpu", num_threads=threads, executor=executor, isa="auto").executor
    return lambda patches: loaded.run(PatchBatch(patches), want="first"), loaded


def openvino(model: Any, threads: int, calibration: Floats | None) -> Encode:
    """OpenVINO's, in float32 or int8."""
    import openvino as ov
    import openvino.properties as props
    import openvino.properties.hint as hints

    converted = ov.convert_model(model, example_input={"pixel_values": torch.zeros(2, 3, 224, 224)})
    if calibration is not None:
        import nncf

        samples = nncf.Dataset([{"pixel_values": picture[None]} for picture in calibration])
        kind = nncf.ModelType.TRANSFORMER
        converted = nncf.quantize(converted, samples, model_type=kind, subset_size=len(calibration))
    config = {
        hints.performance_mode: hints.PerformanceMode.LATENCY,
        hints.inference_precision: ov.Type.f32 if calibration is None else ov.Type.bf16,
        hints.enable_hyper_threading: False,
        props.inference_num_threads: threads,
        props.num_streams: 1,
    }
    compiled = ov.Core().compile_model(converted, "CPU", config)
    request = compiled.create_infer_request()
    return lambda pixels: np.asarray(request.infer([pixels], share_inputs=True)[0][:, 0], np.float32)


def check(system: System, inputs: dict[bool, Floats], want: Floats) -> float:
    """The least cosine; SystemExit where it is not this system's precision."""
    got = system.encode(inputs[system.takes_patches])
    cosines = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
    if not cosines.min() > LEAST_COSINE[system.precision]:
        raise SystemExit(f"{system.name} is not right: cosine {cosines.min()}")
    return float(cosines.min())


def speeds(systems: list[System], inputs: dict[bool, Floats], batch: int, seconds: float) -> dict[str, float]:
    """Pictures per second of each, in turns."""
    some = {
        kind: np.ascontiguousarray(np.resize(values, (batch, *values.shape[1:]))) for kind, values in inputs.items()
    }
    took: dict[str, list[float]] = {system.name: [] for system in systems}
    end = time.monotonic() + seconds * len(systems)
    while time.monotonic() < end or min(map(len, took.values())) < 4:
        for system in systems:
            start = time.perf_counter()
            system.encode(some[system.takes_patches])
            took[system.name].append(time.perf_counter() - start)
    return {name: batch / statistics.median(times[1:]) for name, times in took.items()}


def with_decoding(executor: Executor, bundle: Bundle, threads: int, seconds: float) -> tuple[float, float]:
    """Pictures per second from JPEG files of 640 x 480 pixels on, and of reading and resizing alone."""
    assert bundle.manifest.encoder is not None
    assert bundle.manifest.encoder.patches is not None
    files = []
    for pixels in generated_pictures(12, 4):
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((640, 480)).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    dense = Dense(("cls",), Head((), bundle.manifest.architecture.hidden_size, False), True)
    runner = PictureRunner(executor, dense, _PREPROCESSING, bundle.manifest.encoder.patches, "int8", threads)
    items = [Item(i, file) for i, file in enumerate(files * 8)]
    whole, alone = [], []
    end = time.monotonic() + 2 * seconds
    while time.monotonic() < end or len(whole) < 3:
        start = time.perf_counter()
        for _ in runner.run(items, EncodeOptions(prompt="")):
            pass
        whole.append(len(items) / (time.perf_counter() - start))
        start = time.perf_counter()
        for file in files:
            runner.prepare(file)
        alone.append(len(files) / (time.perf_counter() - start))
    return statistics.median(whole), statistics.median(alone)


def main() -> None:
    """Verify, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="per system and batch")
    parser.add_argument("--shapes", nargs="*", choices=tuple(SHAPES), default=tuple(SHAPES))
    parser.add_argument("--no-openvino-int8", action="store_true", help="quantizing it takes minutes")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    machine = describe_machine(given.threads)
    print(f"{machine.cpu}, {given.threads} threads, {date.today()}; pictures per second\n")
    for shape in given.shapes:
        bench_shape(shape, given.threads, given.seconds, openvino_int8=not given.no_openvino_int8)


def bench_shape(shape: str, threads: int, seconds: float, *, openvino_int8: bool) -> None:
    """One table."""
    edge, model = SHAPES[shape], make_model(SHAPES[shape])
    images = [read_picture(pixels) for pixels in generated_pictures(8, 2)]
    patches = np.stack([patches_of(image, edge) for image in images])
    calibration = np.stack([pixels_of(read_picture(pixels)) for pixels in generated_pictures(_CALIBRATION, 1)])
    inputs = {True: patches, False: np.stack([pixels_of(image) for image in images])}
    with torch.inference_mode():
        want = model(torch.from_numpy(inputs[False])).last_hidden_state[:, 0]
        normed = model.post_layernorm(want).numpy()  # ours gives what the last norm makes
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(model, Path(folder))
        native, executor = ours(bundle, "int8", "native", threads)
        systems = [
            System("embedrt int8, native", "int8", native, True),
            System("embedrt bf16, native", "bf16", ours(bundle, "bf16", "native", threads)[0], True),
            System("embedrt fp32, ONNX Runtime", "fp32", ours(bundle, "fp32", "onnxruntime", threads)[0], True),
            System("embedrt int8, ONNX Runtime", "int8", ours(bundle, "int8", "onnxruntime", threads)[0], True),
            System("OpenVINO fp32", "fp32", openvino(model, threads, None), False),
        ]
        if openvino_int8:
            systems.append(System("OpenVINO int8", "int8", openvino(model, threads, calibration), False))
        cosines = {s.name: check(s, inputs, normed if s.takes_patches else want.numpy()) for s in systems}
        columns = [speeds(systems, inputs, batch, seconds) for batch in BATCHES]
        print(f"| {shape} | least cosine | {' | '.join(f'batch {batch}' for batch in BATCHES)} |")
        print("|---|" + "---|" * (1 + len(BATCHES)))
        for system in systems:
            cells = " | ".join(f"{column[system.name]:.1f}" for column in columns)
            print(f"| {system.name} | {cosines[system.name]:.5f} | {cells} |")
        whole, alone = with_decoding(executor, bundle, threads, seconds)
        print(
            f"\nembedrt int8 from JPEG files of 640 x 480 pixels: {whole:.1f}; reading and resizing alone, on one "
            f"thread: {alone:.1f}\n"
        )


def pixels_of(image: Image.Image) -> Floats:
    """A picture as PyTorch and OpenVINO take it (3, 224, 224)."""
    return (
        to_patches(preprocess(image, _PREPROCESSING), 1, _PREPROCESSING).reshape(224, 224, 3).transpose(2, 0, 1).copy()
    )


if __name__ == "__main__":
    main()
