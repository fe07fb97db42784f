"""Pictures and texts in one call, and what is said where they do not fit."""

from __future__ import annotations

import base64
import io
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embedrt import Embedder, ExecutorError, InputTypeError, OptionError, PictureError, open_bundle
from embedrt.pictures import runner
from embedrt.pictures.generated import generated_pictures

PIXELS = generated_pictures(7, seed=5)
PICTURES = [Image.fromarray(pixels) for pixels in PIXELS]


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def clip(clip_bundle: Path) -> Iterator[Embedder]:
    with Embedder(clip_bundle, variant="fp32", num_threads=2) as made:
        yield made


def close(got: Any, want: Any) -> None:
    """Batches add in other orders, which float32 shows in its last digits."""
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_texts_and_pictures_come_back_in_their_order(clip: Embedder, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(PICTURES[3]))
    uri = "data:image/png;base64," + base64.b64encode(png(PICTURES[4])).decode()
    inputs = ["one text", PICTURES[0], PIXELS[1], "another", png(PICTURES[2]), path, uri, str(path), "one text"]
    found = clip.encode_detailed(inputs)
    places = {1: 0, 2: 1, 4: 2, 5: 3, 6: 4, 7: 3}
    for place, number in places.items():
        close(found.embeddings[place], clip.encode(PICTURES[number]))
    close(found.embeddings[[0, 3, 8]], clip.encode(["one text", "another", "one text"]))
    assert [found.num_tokens[place] for place in places] == [17] * 6
    assert found.num_tokens[0] == clip.count_tokens("one text")
    assert found.identity == clip.identity


def test_one_picture_is_a_vector_and_several_are_rows(clip: Embedder) -> None:
    assert clip.encode(PICTURES[0]).shape == (48,)
    assert clip.encode(PIXELS[0]).shape == (48,)
    assert clip.encode([PICTURES[0]]).shape == (1, 48)
    assert clip.encode(np.stack([PIXELS[0], PIXELS[0]])).shape == (2, 48)
    assert clip.encode_pictures([]).shape == (0, 48)
    assert clip.encode_pictures(PICTURES[0], normalize_embeddings=True, truncate_dim=8).shape == (8,)
    assert clip.encode(PICTURES[:2], precision="int8").dtype == np.int8
    assert clip.takes_pictures


def test_options_mean_the_same_for_pictures(clip: Embedder) -> None:
    plain = clip.encode_pictures(PICTURES)
    normal = clip.encode(PICTURES, normalize_embeddings=True)
    close(normal, plain / np.linalg.norm(plain, axis=1, keepdims=True))
    close(clip.encode(PICTURES, batch_size=2), plain)
    close(clip.encode_query(PICTURES), plain)
    states = clip.encode(PICTURES[:2], output_value="token_embeddings")
    assert [state.shape for state in states] == [(17, 96)] * 2
    with pytest.raises(OptionError, match="output_value=None goes with texts only"):
        clip.encode(PICTURES[:1], output_value=None)


def test_a_string_is_a_path_where_pictures_alone_are_asked_for(clip: Embedder, tmp_path: Path) -> None:
    path = tmp_path / "no suffix"
    path.write_bytes(png(PICTURES[0]))
    close(clip.encode_pictures(str(path)), clip.encode(PICTURES[0]))
    close(clip.encode_pictures([str(path)])[0], clip.encode(PICTURES[0]))
    close(clip.encode(str(path)), clip.encode([str(path)])[0])  # a text
    assert not np.allclose(clip.encode(str(path)), clip.encode(PICTURES[0]))


@pytest.mark.parametrize("variant", ["fp32", "int8", "bf16"])
def test_a_pictures_vector_does_not_depend_on_its_batch(clip_bundle: Path, variant: Any) -> None:
    if variant == "bf16" and Embedder(clip_bundle, variant="int8").executor != "native":
        pytest.skip("no native executor here")
    try:
        made = Embedder(clip_bundle, variant=variant, num_threads=2)
    except ExecutorError as exc:
        pytest.skip(str(exc))
    with made:
        together = made.encode_pictures(PICTURES, normalize_embeddings=True)
        for picture, row in zip(PICTURES, together, strict=True):
            assert made.encode_pictures(picture, normalize_embeddings=True) @ row > 0.999999


def test_int8_of_both_executors_is_near_fp32(clip: Embedder, clip_bundle: Path) -> None:
    want = clip.encode(["a text", *PICTURES], normalize_embeddings=True)
    for executor in ("native", "onnxruntime"):
        try:
            made = Embedder(clip_bundle, variant="int8", executor=executor)  # type: ignore[arg-type]
        except (ExecutorError, ImportError) as exc:
            pytest.skip(str(exc))
        with made:
            assert executor in str(made.picture_executor_description)
            got = made.encode(["a text", *PICTURES], normalize_embeddings=True)
            assert (got * want).sum(axis=1).min() > 0.998


def test_a_bad_picture_is_named_by_its_place(clip: Embedder) -> None:
    with pytest.raises(PictureError, match=r"^picture 2: is no picture of a format") as caught:
        clip.encode(["a", PICTURES[0], b"no picture", "b"])
    assert caught.value.index == 2
    with pytest.raises(PictureError, match=r"^is no picture"):
        clip.encode_pictures(b"no picture")
    with pytest.raises(PictureError, match=r"^picture 0: .*addresses are never fetched"):
        clip.encode(["https://example.org/cat.png"])
    with pytest.raises(
        PictureError, match=r"^picture 0: pixels must be uint8 of the shape \(H, W, 3\), not uint8 \(8, 8"
    ):
        clip.encode([np.zeros((8, 8), np.uint8)])
    with pytest.raises(InputTypeError, match=r"^text 1: must be a string, not int"):
        clip.encode([PICTURES[0], 17])  # type: ignore[list-item]


@pytest.mark.parametrize("block_size", [1, 3, 100])
def test_a_stream_goes_on_after_a_bad_picture(clip: Embedder, block_size: int) -> None:
    inputs: list[Any] = ["a", PICTURES[0], b"broken", "b", PICTURES[1], 17, png(PICTURES[2])[:300]]
    blocks = list(clip.encode_stream(inputs, block_size=block_size, on_error="skip"))
    assert [i for block in blocks for i in block.indices] == [0, 1, 3, 4]
    skipped = [item for block in blocks for item in block.skipped]
    assert [item.index for item in skipped] == [2, 5, 6]
    assert skipped[0].reason.startswith("picture 2: is no picture")
    assert skipped[2].reason.startswith("picture 6: cannot be read")
    assert sum(block.num_texts for block in blocks) == len(inputs)
    close(np.concatenate([block.embeddings for block in blocks]), clip.encode(["a", PICTURES[0], "b", PICTURES[1]]))
    with pytest.raises(PictureError, match="picture 2"):
        list(clip.encode_stream(inputs[:4], block_size=block_size))


def test_pictures_are_read_while_the_encoder_runs(clip: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In other threads than the caller's, never more than two batches ahead."""
    seen: list[int] = []
    most = 0
    done = 0
    original = runner.PictureRunner.prepare

    def prepare(self: Any, source: Any) -> Any:
        nonlocal most
        seen.append(threading.get_ident())
        most = max(most, len(seen) - done)
        return original(self, source)

    run = runner.PictureRunner.run_group

    def run_group(self: Any, patches: Any, *rest: Any) -> Any:
        nonlocal done
        time.sleep(0.02)
        done += len(patches)
        return run(self, patches, *rest)

    monkeypatch.setattr(runner.PictureRunner, "prepare", prepare)
    monkeypatch.setattr(runner.PictureRunner, "run_group", run_group)
    clip.encode_pictures(PICTURES * 4, batch_size=4)
    assert threading.get_ident() not in seen
    assert len(seen) == 28
    assert 4 < most <= 13


@pytest.mark.parametrize("bad", [PICTURES[0], [PICTURES[0]], ["a", Path("x.png")], [PIXELS[0]]])
def test_a_model_of_texts_says_that_it_is_one(embedder: Embedder, bad: Any) -> None:
    with pytest.raises(InputTypeError, match="string"):
        embedder.encode(bad)
    if isinstance(bad, list):
        with pytest.raises(InputTypeError, match="this model embeds texts only; pictures need a bundle of CLIP"):
            embedder.encode(bad)
    with pytest.raises(OptionError, match="embeds texts only; pictures need a bundle of CLIP or its kin"):
        embedder.encode_pictures(bad)
    assert not embedder.takes_pictures
    assert embedder.picture_executor_description is None


def test_the_identity_knows_the_pictures(clip_bundle: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    bundle = open_bundle(clip_bundle)
    manifest = bundle.manifest
    assert manifest.pictures is not None
    variant = manifest.pictures.variants["fp32"]
    file = replace(variant.files[0], sha256="0" * 64)
    variants = {**manifest.pictures.variants, "fp32": replace(variant, files=(file, *variant.files[1:]))}
    other = replace(bundle, manifest=replace(manifest, pictures=replace(manifest.pictures, variants=variants)))
    with Embedder(bundle, variant="fp32") as one, Embedder(other, variant="fp32", verify_hashes=False) as two:
        assert one.identity != two.identity


def test_an_embedder_of_pictures_is_pickled_and_closed(clip_bundle: Path) -> None:
    made = Embedder(clip_bundle, variant="fp32")
    again = pickle.loads(pickle.dumps(made))
    close(again.encode(PICTURES[0]), made.encode(PICTURES[0]))
    made.close()
    with pytest.raises(ExecutorError, match="closed"):
        made.encode(PICTURES[0])


def test_packed_weights_of_both_towers_are_kept(clip_bundle: Path, tmp_path: Path) -> None:
    with Embedder(clip_bundle, variant="int8") as made:
        if made.executor != "native":
            pytest.skip("no native executor here")
        want = made.encode(["a", PICTURES[0]])
    for _ in range(2):
        with Embedder(clip_bundle, variant="int8", packed_cache=tmp_path) as kept:
            assert len(kept.packed_files) == 2
            np.testing.assert_array_equal(kept.encode(["a", PICTURES[0]]), want)


def test_pillow_is_imported_with_the_first_picture(clip_bundle: Path) -> None:
    import subprocess

    code = (
        "import sys, embedrt\n"
        f"e = embedrt.Embedder({str(clip_bundle)!r}, variant='fp32')\n"
        "e.encode('a text'); print('PIL' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
