"""Folders of pictures, columns of paths, and pictures as queries on the command line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embedrt import Embedder
from embedrt.pictures.generated import generated_pictures

PICTURES = [Image.fromarray(pixels) for pixels in generated_pictures(5, seed=2)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """b.png, c/a.JPG, z.png, and what is none."""
    folder = tmp_path / "photos"
    (folder / "c").mkdir(parents=True)
    PICTURES[0].save(folder / "b.png")
    PICTURES[1].save(folder / "c" / "a.JPG", quality=95)
    PICTURES[2].save(folder / "z.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"no picture")
    return folder


def paths(photos: Path) -> list[Path]:
    return [photos / "b.png", photos / "z.png", photos / "c" / "a.JPG"]


@pytest.fixture(scope="module")
def clip(clip_bundle: Path) -> Any:
    with Embedder(clip_bundle) as made:
        yield made


def test_a_folder_is_its_pictures(cli: Any, clip_bundle: Path, clip: Embedder, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    cli.ok("embed", clip_bundle, photos, "-o", out, "--with-text")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["text"] for row in rows] == [str(path) for path in paths(photos)]
    np.testing.assert_allclose([row["embedding"] for row in rows], clip.encode(paths(photos)), rtol=1e-5, atol=1e-6)
    assert json.loads((tmp_path / "out.jsonl.meta.json").read_text())["identity"] == clip.identity


def test_a_damaged_picture_is_named_or_left_out(cli: Any, clip_bundle: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "m.png").write_bytes((photos / "z.png").read_bytes()[:200])
    failed = cli.fails("embed", clip_bundle, photos, "-o", tmp_path / "out.npy")
    assert f"picture 2: {photos / 'm.png'} cannot be read" in failed
    done = cli.ok("embed", clip_bundle, photos, "-o", tmp_path / "out.npy", "--on-error", "skip", "--force")
    assert "1 picture skipped" in done.stderr
    assert " pictures/s" in done.stderr
    assert "text" not in done.stderr
    assert np.load(tmp_path / "out.npy").shape == (3, 48)
    assert np.load(tmp_path / "out.npy.rows.npy").tolist() == [0, 2, 3]


def test_a_column_of_paths(cli: Any, clip_bundle: Path, clip: Embedder, photos: Path, tmp_path: Path) -> None:
    """From the file's folder on, whatever the working directory is."""
    (photos / "list.csv").write_text("id,image\n7,b.png\n8,c/a.JPG\n9,none.png\n10,notes.txt\n")
    asked = ("embed", clip_bundle, photos / "list.csv", "--column", "image", "--pictures", "-o", tmp_path / "o.jsonl")
    failed = cli.fails(*asked)
    assert "line 4: " in failed
    assert "none.png is no file" in failed
    done = cli.ok(*asked, "--keep", "id", "--on-error", "skip", "--force")
    assert "notes.txt has no suffix of a picture" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["7", "8"]
    want = clip.encode([photos / "b.png", photos / "c" / "a.JPG"])
    np.testing.assert_allclose([row["embedding"] for row in rows], want, rtol=1e-5, atol=1e-6)


def found(cli: Any, *asked: object) -> list[str]:
    answer = json.loads(cli.ok("search", *asked, "--json").stdout)["answers"][0]
    return [Path(hit["text"]).name for hit in answer["hits"]]


def test_pictures_are_found_by_pictures_and_texts(cli: Any, clip_bundle: Path, clip: Embedder, photos: Path) -> None:
    assert found(cli, clip_bundle, photos, photos / "z.png", "-k", 1) == ["z.png"]
    scores = clip.similarity(clip.encode_query(["the fox"]), clip.encode_document(paths(photos)))[0]
    best = [paths(photos)[i].name for i in np.argsort(-scores)]
    assert found(cli, clip_bundle, photos, "the fox", "-k", 3) == best


def test_a_picture_that_is_replaced_is_embedded_again(cli: Any, clip_bundle: Path, photos: Path) -> None:
    cli.ok("search", clip_bundle, photos, "a")
    assert "reused 3 vectors" in cli.ok("search", clip_bundle, photos, "a").stderr
    PICTURES[3].save(photos / "z.png")
    os.utime(photos / "z.png", ns=(1, 1))
    assert "embedded 1 changed row, reused 2 vectors" in cli.ok("search", clip_bundle, photos, "a").stderr


def indexed(cli: Any, *asked: object) -> str:
    return " ".join(cli.ok("index", *asked).stderr.split())


def test_an_index_of_pictures_follows_its_folder(
    cli: Any, clip_bundle: Path, clip: Embedder, photos: Path, tmp_path: Path
) -> None:
    """Found by text and by picture; of a picture that is changed, removed or new, nothing else is embedded."""
    made, other = (clip_bundle, photos, tmp_path / "db"), tmp_path / "other.png"
    PICTURES[3].save(other)
    assert "3 rows; 3 added, 3 pictures embedded" in indexed(cli, *made)
    scores = clip.similarity(clip.encode_query(["the fox"]), clip.encode_document(paths(photos)))[0]
    assert found(cli, made[2], "the fox", "-k", 3) == [paths(photos)[i].name for i in np.argsort(-scores)]
    assert found(cli, made[2], photos / "c" / "a.JPG", "-k", 1) == ["a.JPG"]
    assert "nothing changed, 0 pictures embedded" in indexed(cli, *made)

    shutil.copy(other, photos / "z.png")
    assert "3 rows; 1 changed, 1 picture embedded" in indexed(cli, *made)
    hits = json.loads(cli.ok("search", made[2], other, "-k", 1, "--json").stdout)["answers"][0]["hits"]
    assert (Path(hits[0]["text"]).name, hits[0]["score"]) == ("z.png", pytest.approx(1, abs=1e-5))

    (photos / "b.png").unlink()
    PICTURES[4].save(photos / "new.png")
    assert "3 rows; 1 added, 1 deleted, 1 picture embedded" in indexed(cli, *made)
    assert sorted(found(cli, made[2], "the fox", "-k", 5)) == ["a.JPG", "new.png", "z.png"]
    assert found(cli, made[2], photos / "new.png", "-k", 1) == ["new.png"]


def test_an_index_is_as_it_was_after_a_damaged_picture(
    cli: Any, clip_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    made = (clip_bundle, photos, tmp_path / "db")
    indexed(cli, *made)
    (photos / "m.png").write_bytes((photos / "z.png").read_bytes()[:200])
    assert f"{photos / 'm.png'} cannot be read: image file is truncated" in cli.fails("index", *made)
    assert len(found(cli, made[2], "the fox", "-k", 5)) == 3
    (photos / "m.png").unlink()
    assert "nothing changed" in indexed(cli, *made)


def test_a_model_of_texts_is_refused_for_pictures(cli: Any, lookup_bundle: Path, photos: Path, tmp_path: Path) -> None:
    for asked in (
        ("embed", lookup_bundle, photos, "-o", tmp_path / "x.npy"),
        ("search", lookup_bundle, photos, "a"),
        ("index", lookup_bundle, photos, tmp_path / "db"),
    ):
        assert "holds pictures, and lookup embeds texts only" in cli.fails(*asked, code=2)
    failed = cli.fails("embed", lookup_bundle, photos, "-o", tmp_path / "x.npy", "--column", "image", code=2)
    assert "options on how texts are read do not go with it" in failed


def test_the_matrix_shows_pictures(cli: Any, clip_bundle: Path, photos: Path, tmp_path: Path) -> None:
    for suffix in ("html", "svg", "png"):
        cli.ok("similarity", clip_bundle, "a fox", photos / "b.png", "--plot", tmp_path / f"m.{suffix}")
    page = (tmp_path / "m.html").read_text()
    assert page.count("<image ") == 1
    assert 'href="data:image/png;base64,' in page
    assert ">a fox</text>" in page
    assert f"<title>{photos / 'b.png'}</title>" in page


def test_info_says_what_a_bundle_reads(cli: Any, clip_bundle: Path) -> None:
    shown = " ".join(cli.ok("info", clip_bundle, "--fast").stdout.split())
    assert "pictures 32 x 32 pixels, resized bicubic, in 16 patches; 2 layers, 96 wide" in shown
    assert "gives vectors of texts and pictures (Embedder)" in shown
    assert shown.count("(pictures)") == 2
    manifest = json.loads(cli.ok("info", clip_bundle, "--fast", "--json").stdout)["manifest"]
    assert manifest["pictures"]["encoder"]["patches"]["count"] == 16
    assert "tensors" not in manifest["pictures"]["variants"]["fp32"]


def test_verify_shows_both_encoders(cli: Any, clip_bundle: Path) -> None:
    shown = cli.ok("verify", clip_bundle, "--variants", "fp32").stdout
    assert "48 pictures" in shown
    assert shown.count("passed") == 2


def test_a_picture_is_itself(cli: Any, clip_bundle: Path, clip: Embedder, photos: Path, tmp_path: Path) -> None:
    done = cli.ok("embed", clip_bundle, photos / "c" / "a.JPG", "-o", tmp_path / "one.npy")
    assert " picture" in done.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "one.npy"), clip.encode([photos / "c" / "a.JPG"]), rtol=1e-5, atol=1e-6
    )
    assert found(cli, clip_bundle, photos / "b.png", "the fox") == ["b.png"]
    said = cli.fails("embed", clip_bundle, photos / "b.png", "-o", tmp_path / "n.npy", "--column", "image", code=2)
    assert "b.png is a picture; options on how texts are read do not go with it" in said


def test_a_picture_for_a_model_of_texts_is_refused(cli: Any, lookup_bundle: Path, photos: Path, tmp_path: Path) -> None:
    said = cli.fails("embed", lookup_bundle, photos / "b.png", "-o", tmp_path / "one.npy", code=2)
    assert "holds pictures" in said
    assert "embeds texts only" in said


def test_an_index_counts_pictures(cli: Any, clip_bundle: Path, photos: Path, tmp_path: Path) -> None:
    done = cli.ok("index", clip_bundle, photos, tmp_path / "photos.db")
    assert "3 pictures embedded" in done.stderr
    assert "text" not in done.stderr
