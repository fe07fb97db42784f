"""CLIP from a model's directory to a bundle: the vectors of sentence-transformers, however the model was saved."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize

from embedrt import Bundle, Embedder, OptionError, SourceError, UnsupportedModelError, open_bundle
from embedrt.parity import verify
from embedrt.parity.files import ParityFiles, read_parity_pictures
from embedrt.parity.report import ParityReport
from embedrt.pictures.generated import generated_pictures
from embedrt_export.picture_settings import preprocessing_of
from embedrt_export.reference import reference_vectors
from tests import tiny
from tests.export.exporting import export
from tests.tiny_clip import END, clip_tokenizer, image_processor, save_clip

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

TEXTS = ["a cat", "", "Zwei Katzen, und 3 Hunde!", f"the end {END} and more", "서울", "word " * 100]
PICTURES = [Image.fromarray(pixels) for pixels in generated_pictures(6, seed=9)]


def theirs(model: Path) -> tuple[np.ndarray, np.ndarray]:
    """sentence-transformers' vectors of TEXTS, each alone, and of PICTURES."""
    loaded = SentenceTransformer(str(model), device="cpu")
    return np.concatenate([loaded.encode([text]) for text in TEXTS]), loaded.encode(PICTURES)


def check(bundle: Path, model: Path) -> None:
    texts, pictures = theirs(model)
    with Embedder(bundle, variant="fp32") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = made.encode([*TEXTS, *PICTURES])
    want = np.concatenate([texts, pictures])
    assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()


def test_a_transformers_directory(clip_model: Path, clip_bundle: Path) -> None:
    check(clip_bundle, clip_model)
    manifest = open_bundle(clip_bundle).manifest
    assert manifest.format_version == 4
    assert manifest.name == "tiny-clip"
    assert manifest.pictures is not None
    assert manifest.pictures.texts is not None
    assert manifest.pictures.texts.ends_at == clip_tokenizer().eos_token_id
    for variants in (manifest.variants, manifest.pictures.variants):
        assert set(variants) == {"fp32", "int8"}
        assert all(variant.parity is not None and variant.parity.passed for variant in variants.values())


def test_a_directory_of_sentence_transformers_6(clip_model: Path, tmp_path: Path) -> None:
    """With Normalize behind it."""
    pipeline = SentenceTransformer(str(clip_model), device="cpu")
    pipeline.append(Normalize())
    pipeline.save(str(tmp_path / "model"))
    export(tmp_path / "model", tmp_path / "bundle")
    check(tmp_path / "bundle", tmp_path / "model")
    with Embedder(tmp_path / "bundle", variant="fp32") as made:
        np.testing.assert_allclose(np.linalg.norm(made.encode(["a", PICTURES[0]]), axis=1), 1, rtol=1e-5)


def test_a_directory_of_older_sentence_transformers(clip_model: Path, tmp_path: Path) -> None:
    """As clip-ViT-B-32 is published: the model in 0_CLIPModel, and a config that pools at the highest id."""
    model = tmp_path / "clip-ViT-B-32"
    shutil.copytree(clip_model, model / "0_CLIPModel")
    config = model / "0_CLIPModel" / "config.json"
    data = json.loads(config.read_text())
    data["text_config"]["eos_token_id"] = 2
    config.write_text(json.dumps({**data, "text_config_dict": None, "vision_config_dict": None}))
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    (model / "modules.json").write_text(json.dumps(modules))
    export(model, tmp_path / "bundle")
    check(tmp_path / "bundle", model)


def test_pictures_beside_texts_of_another_model(clip_model: Path, tmp_path: Path) -> None:
    """As clip-ViT-B-32-multilingual-v1: a DistilBERT whose vectors were trained to be those of CLIP's texts."""
    texts = tiny.save_pipeline(tmp_path / "texts", "distilbert", dense=[48])
    export(texts, tmp_path / "bundle", pictures_from=clip_model)
    loaded = SentenceTransformer(str(texts), device="cpu")
    with Embedder(tmp_path / "bundle", variant="fp32") as made:
        want = np.concatenate([loaded.encode(["ein Hund"]), theirs(clip_model)[1]])
        got = made.encode(["ein Hund", *PICTURES])
    assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()
    assert open_bundle(tmp_path / "bundle").manifest.pictures.texts is None  # type: ignore[union-attr]


def test_pictures_of_another_width_are_refused(clip_model: Path, tmp_path: Path) -> None:
    texts = tiny.save_pipeline(tmp_path / "texts", "distilbert")
    with pytest.raises(OptionError, match="48 numbers, and texts of 64; they cannot be compared"):
        export(texts, tmp_path / "bundle", pictures_from=clip_model)


def test_what_does_not_go_together(clip_model: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--pooling has nothing to replace"):
        export(clip_model, tmp_path / "bundle", pooling="mean")
    with pytest.raises(OptionError, match="this one has a tower for pictures"):
        export(clip_model, tmp_path / "bundle", pictures_from=clip_model)
    with pytest.raises(OptionError, match="between 3 and 77"):
        export(clip_model, tmp_path / "bundle", max_tokens=78)
    texts = tiny.save_pipeline(tmp_path / "texts", "bert")
    with pytest.raises(UnsupportedModelError, match="has no tower for pictures"):
        export(texts, tmp_path / "bundle", pictures_from=texts)


def test_a_directory_without_its_image_processor_is_refused(clip_model: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_model, tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").unlink()
    with pytest.raises(SourceError, match=r"no preprocessor_config\.json"):
        export(tmp_path / "model", tmp_path / "bundle")


def test_an_added_token_and_the_highest_id_do_not_go_together(tmp_path: Path) -> None:
    save_clip(tmp_path / "model", eos_token_id=2)
    tokenizer = clip_tokenizer()
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(UnsupportedModelError, match="eos_token_id 2"):
        export(tmp_path / "model", tmp_path / "bundle")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_processor_type": "ViTImageProcessor"}, "ViTImageProcessor"),
        ({"something_new": 1}, "'something_new'"),
        ({"do_pad": True}, "'do_pad'"),
        ({"crop_size": {"height": 16, "width": 32}}, "32 x 32 pixels"),
        ({"do_center_crop": False}, "32 x 32 pixels"),
        ({"size": {"longest_edge": 32}}, "size"),
        ({"resample": 9}, "resample 9"),
    ],
)
def test_settings_of_pixels_that_cannot_be_said_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        preprocessing_of({**image_processor().to_dict(), **changes}, 32)


def test_older_settings_are_read_as_transformers_reads_them() -> None:
    """clip-ViT-B-32's: numbers instead of sizes, and no mention of what came later."""
    old = {
        "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6],
        "resample": 3, "size": 224,
    }  # fmt: skip
    found = preprocessing_of(old, 224)
    assert (found.shortest_edge, found.resized, found.height, found.width) == (224, None, 224, 224)
    assert (found.resample, found.scale, found.mean) == ("bicubic", 1 / 255, (0.1, 0.2, 0.3))


def test_verification_covers_the_pictures(clip_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reversed_vectors(bundle: Bundle) -> ParityFiles:
        kept = read_parity_pictures(bundle)
        return ParityFiles(kept.texts, kept.vectors[:, ::-1])

    monkeypatch.setattr(verify, "read_parity_pictures", reversed_vectors)
    report = verify.verify_bundle(clip_bundle, variants=["fp32"], num_threads=1)
    assert any(sentence.startswith("pictures, fp32: smallest cosine") for sentence in report.failures)
    assert not report.passed
    assert report.variants[0].passed
    (of_pictures,) = report.pictures
    assert of_pictures.worst[0].text.startswith("parity/pictures/")
    assert ParityReport.from_json(report.to_json()) == report


def test_token_ids_are_transformers(clip_bundle: Path) -> None:
    """Byte-level BPE with the end of words marked: letters, digits one by one, marks, scripts, what is spelled out."""
    tokenizer = clip_tokenizer()
    texts = [
        *TEXTS,
        "It's 2026, isn't it?",
        "  many\n\t spaces ",
        "\u00c4\u0301 ﬁ ½",
        "👩‍👩‍👧 and 🏳️‍🌈",
        "a" * 300,
        "<|startoftext|>x",
    ]
    with Embedder(clip_bundle, variant="fp32") as made:
        assert made.tokenize(texts) == [tokenizer(text)["input_ids"] for text in texts]


def test_the_reference_can_be_computed_anew(clip_model: Path) -> None:
    """What `embedrt verify --against` does, for the texts."""
    want = theirs(clip_model)[0]
    got = reference_vectors(clip_model, TEXTS, pooling="lasttoken", max_tokens=77)
    assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()


@pytest.mark.slow
def test_the_shape_of_vit_b_32(tmp_path: Path) -> None:
    """Both encoders as wide and deep as CLIP's, with a small vocabulary: every gate is kept, in int8 too."""
    model = save_clip(
        tmp_path / "clip-b32", small=False, hidden_size=512, num_hidden_layers=12, num_attention_heads=8,
        intermediate_size=2048,
    )  # fmt: skip
    report = export(model, tmp_path / "bundle", variants=["fp32", "int8"], num_threads=None)
    assert report.passed
    assert {one.variant for one in report.pictures} == {"fp32", "int8"}  # int8 on each executor that is here
