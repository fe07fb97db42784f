from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from embedrt.commands import fonts
from embedrt.commands.heatmap import colour, svg
from embedrt.commands.labels import label, width
from embedrt.commands.similarity import SimilarityMatrix
from embedrt.embedder import Embedder

TEXTS = ["the water", "물은 안녕하세요", "bread & <paper>"]


def test_the_matrix(cli, lookup_bundle, tmp_path):
    result = cli.ok("similarity", lookup_bundle, *TEXTS, "--json", "--variant", "fp32", "--prompt", "of ")
    found = json.loads(result.stdout)
    with Embedder(lookup_bundle, variant="fp32") as embedder:
        vectors = embedder.encode(TEXTS, prompt="of ")
        np.testing.assert_allclose(found["matrix"], embedder.similarity(vectors, vectors), atol=1e-6)
        assert found["identity"] == embedder.identify(prompt="of ")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    file_args = ("--file", tmp_path / "texts.txt", "--variant", "fp32", "--prompt", "of ")
    assert cli.ok("similarity", lookup_bundle, "--json", *file_args).stdout == result.stdout


WORDS = ("stone", "light", "river", "house", "bread", "paper", "a", "b", "c", "d", "e", "f")


def test_the_table_shows_every_pair_even_when_it_must_be_split(cli, lookup_bundle):
    texts = [f"the water {word}" for word in WORDS]
    shown = cli.ok("similarity", lookup_bundle, *texts).stdout
    assert shown.count("1.000") >= len(texts)
    assert shown.count("the water") == 2 * len(texts)
    assert max(map(len, shown.splitlines())) <= 80


def test_usage(cli, lookup_bundle, tmp_path):
    cli.fails("similarity", lookup_bundle, code=2)
    cli.fails("similarity", lookup_bundle, "a", "--file", "b", code=2)
    cli.fails("similarity", lookup_bundle, "a", "--plot", "x.pdf", code=2)
    cli.fails("similarity", lookup_bundle, *["a"] * 201, code=2)


@pytest.mark.parametrize("suffix", [".svg", ".html"])
def test_drawn_with_its_text_as_text(cli, lookup_bundle, tmp_path, suffix):
    cli.ok("similarity", lookup_bundle, *TEXTS, "--plot", tmp_path / f"map{suffix}")
    drawn = (tmp_path / f"map{suffix}").read_text(encoding="utf-8")
    assert "물은 안녕하세요" in drawn
    assert "bread &amp; &lt;paper&gt;" in drawn
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", ""), "nothing is fetched"


def test_svg_is_well_formed_and_has_a_cell_per_pair():
    values = np.array([[1, 0.5], [0.5, 1]], np.float32)
    matrix = SimilarityMatrix(("a\x00\x0b\n<b>", "한"), values, "cosine", "0" * 16, 0)
    root = ET.fromstring(svg(matrix))
    assert len(root.findall(".//{*}title")) == 4


def test_the_diagonal_is_off_the_scale_and_every_number_can_be_read():
    values = np.array([[1, 0.3, 0.1], [0.3, 1, 0.9], [0.1, 0.9, 1]], np.float32)
    root = ET.fromstring(svg(SimilarityMatrix(("a", "b", "اليوم"), values, "cosine", "0" * 16, 0)))
    fills = [cell.get("fill") for cell in root.findall(".//{*}rect") if cell.find("{*}title") is not None]
    assert fills[0] == fills[4] == fills[8] == "#eceef1"
    assert fills[1] == f"rgb{colour(0.3)}".replace(" ", "")
    inks = {text.text: text.get("fill") for text in root.findall(".//{*}text") if text.get("pointer-events")}
    assert inks == {"1.00": "#8a919c", "0.90": "#ffffff", "0.30": "#222222", "0.10": "#222222"}
    assert "اليوم" in [text.text for text in root.findall(".//{*}text")], (
        "its number stands apart, whatever its direction"
    )


def _matrix(function, *values):
    """Texts whose similarities outside the diagonal are these."""
    a, b, c = values
    square = np.array([[1, a, b], [a, 1, c], [b, c, 1]], np.float32)
    return SimilarityMatrix(("a", "b", "c"), square, function, "0" * 16, 0)


def test_small_differences_look_small_and_the_same_in_every_picture():
    near, far = svg(_matrix("cosine", 0.83, 0.84, 0.86)), svg(_matrix("cosine", 0.1, 0.5, 0.86))
    assert "0.83 to 0.86; colors from 0 to 1 in every picture" in near

    def fill(drawn, title):
        return next(
            cell.get("fill")
            for cell in ET.fromstring(drawn).findall(".//{*}rect")
            if title in (found.text for found in cell.findall("{*}title"))
        )

    assert fill(near, "2 and 3: 0.8600") == fill(far, "2 and 3: 0.8600")
    shades = [tuple(map(int, fill(near, title)[4:-1].split(","))) for title in ("1 and 2: 0.8300", "2 and 3: 0.8600")]
    assert max(abs(x - y) for x, y in zip(*shades, strict=True)) < 16, "of 255"


@pytest.mark.parametrize(
    ("function", "values", "scale"),
    [
        ("cosine", (0.83, 0.84, 0.86), (0, 1)),
        ("cosine", (-0.5, 0.2, 0.3), (0, 1)),
        ("dot", (12, 30, 25), (0, 30)),
        ("dot", (-4, 30, 25), (-4, 30)),
        ("euclidean", (-1, -2, -0.5), (-2, 0)),
        ("manhattan", (-10, -20, -5), (-20, 0)),
    ],
)
def test_the_scale_is_fixed_or_begins_at_a_value_that_means_something(function, values, scale):
    matrix = _matrix(function, *values)
    assert matrix.scale() == scale
    shown = [text.text for text in ET.fromstring(svg(matrix)).findall(".//{*}text")]
    assert [f"{end:.2f}" for end in scale] == [shown[1], shown[2]]


def test_png_with_latin_labels(cli, lookup_bundle, tmp_path):
    cli.ok("similarity", lookup_bundle, "water", "light", "--plot", tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_png_of_equal_values_and_of_one_text(cli, lookup_bundle, tmp_path):
    cli.ok("similarity", lookup_bundle, "water", "water", "--plot", tmp_path / "two.png")
    cli.ok("similarity", lookup_bundle, "water", "--plot", tmp_path / "one.png")


def test_png_with_korean_labels_uses_a_font_that_has_them(cli, lookup_bundle, tmp_path):
    """A missing glyph is a warning of matplotlib's, and warnings are errors here."""
    try:
        families = fonts.families_for("물은 안녕하세요")
    except LookupError:
        pytest.skip("no installed font has Korean")
    assert len(families) > 1
    cli.ok("similarity", lookup_bundle, *TEXTS, "--plot", tmp_path / "map.png")


def test_png_is_refused_with_the_cure_when_no_font_has_the_labels(cli, lookup_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [])
    error = cli.fails("similarity", lookup_bundle, *TEXTS, "--plot", tmp_path / "map.png")
    assert "(U+" in error
    assert "apt install fonts-noto-cjk" in error
    assert ".html" in error
    assert not (tmp_path / "map.png").exists()


def test_png_without_matplotlib_says_what_to_install(cli, lookup_bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    error = cli.fails("similarity", lookup_bundle, "a", "--plot", tmp_path / "map.png")
    assert "pip install 'embedrt[plot]'" in error


def test_a_broken_font_file_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "notosanscjk.ttf").write_bytes(b"no font")
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [str(tmp_path / "notosanscjk.ttf")])
    assert fonts.families_for("abc é") == ["DejaVu Sans"]
    with pytest.raises(LookupError, match="U\\+BB3C"):
        fonts.families_for("물")


@pytest.mark.parametrize(
    ("text", "packages"),
    [("물", "fonts-noto-cjk"), ("雨の", "fonts-noto-cjk"), ("मौसम", "fonts-noto-core"), ("🎉", "fonts-symbola"),
     ("물🎉", "fonts-noto-cjk fonts-symbola")],
)  # fmt: skip
def test_the_cure_names_a_font_that_has_the_script(monkeypatch, text, packages):
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [])
    with pytest.raises(LookupError) as caught:
        fonts.families_for(text)
    assert f"(apt install {packages})" in caught.value.args[0]


@pytest.mark.parametrize(
    ("text", "columns", "wanted"),
    [
        ("short", 10, "short"),
        ("exactly 10", 10, "exactly 10"),
        ("eleven char", 10, "eleven ch…"),
        ("안녕하세요", 10, "안녕하세요"),
        ("안녕하세요", 9, "안녕하세…"),
        ("안녕하세요", 8, "안녕하…"),
        ("\u1112\u1161\u11ab", 10, "한"),  # decomposed, as macOS names files
        ("a\r\nb\tc\x00", 10, "a b c"),
        (" \n", 10, "(empty)"),
    ],
)
def test_labels(text, columns, wanted):
    assert label(text, columns) == wanted
    assert width(label(text, columns)) <= columns


def test_the_scale_has_its_ends():
    assert colour(0) == colour(-1) == (255, 255, 217)
    assert colour(1) == colour(2) == (8, 29, 88)


@pytest.mark.parametrize("suffix", ["svg", "html"])
def test_a_full_disk_leaves_the_earlier_picture(cli, lookup_bundle, tmp_path, monkeypatch, suffix):
    def full(self, text, encoding):
        self.touch()
        raise OSError(28, "No space left on device")

    picture = tmp_path / f"p.{suffix}"
    picture.write_text("earlier")
    monkeypatch.setattr(Path, "write_text", full)
    said = cli.fails("similarity", lookup_bundle, "a", "b", "--plot", picture)
    assert f"p.{suffix}: No space left on device" in said
    assert picture.read_text() == "earlier"
    assert not list(tmp_path.glob("*.part"))
