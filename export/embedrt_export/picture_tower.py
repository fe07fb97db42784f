"""The tower of pictures in a bundle: its reference vectors, graphs and manifest; and the pipeline of its texts."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from embedrt.encoder import EncoderSpec
from embedrt.errors import OptionError, UnsupportedModelError
from embedrt.heads import ATTENTION, Pipeline, Stage
from embedrt.manifest import Architecture, Manifest, Pictures, format_for, pipeline_of
from embedrt.parity.files import PARITY_PICTURES, write_picture_vectors
from embedrt.pictures.attention_pooling import ACTIVATIONS, arrays_of
from embedrt.pictures.generated import generated_pictures
from embedrt.pictures.preprocessing import preprocess, to_patches
from embedrt.pictures.reading import read_picture
from embedrt.progress import Progress
from embedrt_export.int8 import Int8Recipe
from embedrt_export.int8.calibration import POOLED_TOKENS
from embedrt_export.tower_source import Tower, TowerModel
from embedrt_export.variants import Job, make_variants

FOLDER = "pictures"
_PARITY_SEED, _CALIBRATION_SEED = 20261126, 1
_NUM_PARITY = 48
_CALIBRATION_ROWS, _FEWEST, _MOST = 12_000, 40, 120  # as many pictures as have about so many rows
_AS_JPEG = (0, 5)  # of `generated_pictures`' kinds: what a PNG would keep a hundred thousand bytes of


def text_pipeline(model: TowerModel, root: Path) -> Pipeline:
    """The state of a text's last token, times the projection; writes its array."""
    return _pipeline(model, model.text, "lasttoken", "pipeline/dense_1.npz", root)


def add_pictures(
    root: Path,
    manifest: Manifest,
    model: TowerModel,
    *,
    with_rules: bool,
    int8: Int8Recipe,
    progress: Progress,
) -> Manifest:
    """The manifest with the tower of pictures, whose files are written under `root`.

    `with_rules`: the texts of the bundle are the same model's.

    Raises:
        OptionError: its vectors have another width than the texts'.
    """
    tower = model.vision
    if model.kind.end_of_text is None:
        pipeline = _attention_pipeline(model, tower, f"pipeline/{FOLDER}_attention.npz", root)
    else:
        pipeline = _pipeline(model, tower, "cls", f"pipeline/{FOLDER}_dense.npz", root)
    if pipeline.dimension != (width := pipeline_of(manifest).dimension):
        raise OptionError(
            f"pictures of {model.source.name} have vectors of {pipeline.dimension} numbers, and texts of {width}; they "
            "cannot be compared"
        )
    files = write_parity_pictures(root)
    with progress.step("reference vectors of pictures", total=len(files)) as advance:
        write_picture_vectors(root, model.encode_pictures(files, advance))
    graph = model.graph(tower)
    job = Job(root, graph, calibration_pictures(model), POOLED_TOKENS.get(pipeline.pooling), int8, folder=FOLDER)
    made = make_variants(job, list(manifest.variants), progress, " of pictures")
    pictures = Pictures(
        preprocessing=model.preprocessing,
        texts=model.rules if with_rules else None,
        architecture=_architecture(model, tower.spec),
        encoder=tower.spec,
        pipeline=pipeline,
        variants=made,
    )
    manifest = replace(manifest, pictures=pictures)
    return replace(manifest, format_version=format_for(manifest))


def calibration_pictures(model: TowerModel) -> list[np.ndarray]:
    """Patches of pictures that int8 is calibrated on; none of them is measured on."""
    patches = model.vision.spec.patches
    assert patches is not None
    count = min(max(_CALIBRATION_ROWS // patches.count, _FEWEST), _MOST)
    settings = model.preprocessing
    return [
        to_patches(preprocess(read_picture(pixels), settings), patches.edge, settings)
        for pixels in generated_pictures(count, _CALIBRATION_SEED)
    ]


def write_parity_pictures(root: Path) -> list[Path]:
    """Write the pictures that parity is measured on, and give their files in order."""
    folder = root / PARITY_PICTURES
    folder.mkdir(parents=True)
    files = []
    for number, pixels in enumerate(generated_pictures(_NUM_PARITY, _PARITY_SEED)):
        is_jpeg = number % 6 in _AS_JPEG
        stream = io.BytesIO()
        image = read_picture(pixels)
        image.save(stream, "JPEG", quality=90) if is_jpeg else image.save(stream, "PNG", optimize=True)
        files.append(folder / f"{number:03}.{'jpg' if is_jpeg else 'png'}")
        files[-1].write_bytes(stream.getvalue())
    return files


def _pipeline(model: TowerModel, tower: Tower, pooling: str, path: str, root: Path) -> Pipeline:
    stages: list[Stage] = []
    width = tower.spec.hidden_size
    if tower.projection:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        np.savez(root / path, **tower.projection)  # type: ignore[arg-type]  # arrays by name
        width, inputs = tower.projection["weight"].shape
        stages.append(Stage("dense", path, "identity", inputs, width))
    if model.normalizes:
        stages.append(Stage("normalize"))
    return Pipeline((pooling,), include_prompt=True, stages=tuple(stages), dimension=width)


def _attention_pipeline(model: TowerModel, tower: Tower, path: str, root: Path) -> Pipeline:
    """SigLIP's head as the pooling."""
    spec = tower.spec
    activation = spec.blocks[0].feed_forward.activation
    if activation not in ACTIVATIONS:
        raise UnsupportedModelError(f"SigLIP's pooling with {activation} is not supported yet")
    head = model.model.vision_model.head
    state = {name: tensor.detach().float().numpy() for name, tensor in head.state_dict().items()}
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    np.savez(root / path, **arrays_of(state, spec.blocks[0].attention.num_heads))  # type: ignore[arg-type]
    size = spec.hidden_size
    stages = [Stage(ATTENTION, path, activation, size, size, epsilon=spec.blocks[0].norm.epsilon)]
    if model.normalizes:
        stages.append(Stage("normalize"))
    return Pipeline((ATTENTION,), include_prompt=True, stages=tuple(stages), dimension=size)


def _architecture(model: TowerModel, spec: EncoderSpec) -> Architecture:
    """The picture encoder's numbers; it has no tokens."""
    block, config = spec.blocks[0], model.model.config.vision_config
    return Architecture(
        model_type=str(config.model_type),
        hidden_size=spec.hidden_size,
        num_layers=len(spec.blocks),
        num_heads=block.attention.num_heads,
        intermediate_size=block.feed_forward.size,
        vocab_size=0,
        max_positions=spec.embeddings.num_positions,
        type_vocab_size=0,
        activation=str(config.hidden_act),
        layer_norm_eps=block.norm.epsilon,
        pad_token_id=0,
    )
