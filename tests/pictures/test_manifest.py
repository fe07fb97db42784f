"""A manifest with pictures: read as it was written, and refused where a part does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedrt.bundle import read_bundle
from embedrt.errors import BundleFormatError
from embedrt.manifest import picture_tower
from embedrt.manifest_json import dump_manifest, parse_manifest


@pytest.fixture(scope="module")
def data(clip_bundle: Path) -> Callable[[], dict[str, Any]]:
    text = (clip_bundle / "manifest.json").read_text()
    return lambda: json.loads(text)


def test_it_is_read_as_it_was_written(clip_bundle: Path) -> None:
    text = (clip_bundle / "manifest.json").read_text()
    assert dump_manifest(parse_manifest(text)) == text


def test_the_files_of_both_towers_are_checked(clip_bundle: Path) -> None:
    bundle = read_bundle(clip_bundle)
    paths = {file.path for file in bundle.files("int8")}
    assert {"int8/weights.bin", "pictures/int8/weights.bin", "parity/pictures.npy"} <= paths
    assert "pictures/fp32/weights.bin" not in paths
    assert bundle.pictures is not None
    assert bundle.pictures.variant("bf16").graph == "pictures/fp32/model.onnx"
    tower = picture_tower(bundle.manifest)
    assert tower is not None
    assert picture_tower(tower) is None


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "older format": (lambda m: m.update(format_version=2), "format_version"),
    "another variant": (lambda m: m["pictures"]["variants"].pop("int8"), "pictures.variants: must be those"),
    "another width": (lambda m: m["pictures"]["pipeline"].update(dimension=9), "pictures.pipeline.dimension"),
    "no patches": (lambda m: m["pictures"]["encoder"].update(patches=None), "pictures.encoder.patches"),
    "patches of texts": (
        lambda m: m["encoder"].update(patches=m["pictures"]["encoder"]["patches"]), "encoder.patches: are of pictures"
    ),
    "patches that do not fill the picture": (
        lambda m: m["pictures"]["preprocessing"].update(height=24), "must give 16 patches, not 12"
    ),
    "a patch of another size": (lambda m: m["pictures"]["encoder"]["patches"].update(size=100), "must be 192"),
    "words beside patches": (lambda m: m["pictures"]["encoder"].update(vocab_size=5), "vocab_size"),
    "two ways to resize": (lambda m: m["pictures"]["preprocessing"].update(resized=[32, 32]), "resized"),
    "a deviation of zero": (lambda m: m["pictures"]["preprocessing"].update(std=[1.0, 0.0, 1.0]), "of which none is 0"),
    "two channels": (lambda m: m["pictures"]["preprocessing"].update(mean=[0.0, 0.0]), "three numbers"),
    "no such filter": (lambda m: m["pictures"]["preprocessing"].update(resample="sinc"), "resample"),
    "padding without an id": (lambda m: m["pictures"]["texts"].update(padded_to=64), "pads_with"),
    "pooling of pictures for texts": (lambda m: m["pipeline"].update(pooling=["attention"]), "pooling"),
    "pooling without its arrays": (lambda m: m["pictures"]["pipeline"].update(pooling=["attention"]), "pooling"),
    "a file that is not listed": (
        lambda m: m["pictures"]["variants"]["fp32"].update(graph="../model.onnx"), "must be among its files"
    ),
    "an unknown field": (lambda m: m["pictures"].update(more=1), "unknown field"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_fit_is_refused_by_its_place(data: Callable[[], dict[str, Any]], name: str) -> None:
    change, message = CHANGES[name]
    changed = data()
    change(changed)
    with pytest.raises(BundleFormatError, match=message):
        parse_manifest(json.dumps(changed))
