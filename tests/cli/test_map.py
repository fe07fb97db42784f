from __future__ import annotations

import csv
import json
import re

import pytest

TEXTS = [f"{word} {other}" for word in ("water", "stone", "bread") for other in ("the", "of", "a", "in", "물은")]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "in.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = ((f"n{i}", ("ko", "en")[i % 2], text) for i, text in enumerate(TEXTS))
        csv.writer(stream).writerows([("id", "lang", "text"), *rows])
    return path


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def test_a_page_coloured_by_a_column(cli, lookup_bundle, table, tmp_path):
    plot = tmp_path / "map.html"
    args = ("--plot", plot, "--color", "lang", "--method", "pca")
    assert f"drawn: {plot}" in cli.ok("map", lookup_bundle, table, *args).stderr
    data = data_of(plot)
    assert data["text"] == TEXTS
    assert [data["names"][i] for i in data["group"]] == [("ko", "en")[i % 2] for i in range(15)]
    assert data["kept"] == [], "the colour is known from the group"
    cli.ok("map", lookup_bundle, table, *args, "--keep", "id")
    assert data_of(plot)["kept"] == [{"id": f"n{i}"} for i in range(15)]
    cli.ok("map", lookup_bundle, table, *args, "--keep", "all")
    assert data_of(plot)["kept"][1] == {"id": "n1", "lang": "en"}


def test_clusters_colour_by_default_and_points_can_be_written(cli, lookup_bundle, table, tmp_path):
    out = tmp_path / "points.csv"
    cli.ok("map", lookup_bundle, table, "-o", out, "-k", 3, "--method", "pca", "--keep", "id")
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert [row["text"] for row in rows] == TEXTS
    assert list(rows[0]) == ["row", "line", "x", "y", "group", "text", "id"]
    assert len({row["group"] for row in rows}) == 3
    assert max(abs(float(row[axis])) for row in rows for axis in "xy") == pytest.approx(1)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_pictures(cli, lookup_bundle, table, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    plot = tmp_path / f"map{suffix}"
    cli.ok("map", lookup_bundle, table, "--plot", plot, "--color", "lang", "--method", "pca")
    assert plot.read_bytes().startswith({".svg": b"<svg", ".png": b"\x89PNG"}[suffix])


def test_without_scikit_learn_there_is_one_colour(cli, lookup_bundle, table, tmp_path, monkeypatch):
    for name in ("sklearn", "umap"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    cli.ok("map", lookup_bundle, table, "--plot", tmp_path / "map.html")
    data = data_of(tmp_path / "map.html")
    assert data["names"] == ["texts"]
    assert "principal components" in data["method"]
    said = cli.fails("map", lookup_bundle, table, "--plot", tmp_path / "map.html", "-k", 3)
    assert "embedrt[analyze]" in said


def test_bad_input_is_said_in_a_line(cli, lookup_bundle, table, tmp_path):
    def texts(name, content):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    plot = ("--plot", tmp_path / "map.html")
    assert "say where to" in cli.fails("map", lookup_bundle, table, code=2)
    assert "must end in .html, .svg, .png" in cli.fails("map", lookup_bundle, table, "--plot", "x.pdf", code=2)
    assert "holds no texts" in cli.fails("map", lookup_bundle, texts("empty.txt", ""), *plot)
    assert "no column 'no' for --color" in cli.fails("map", lookup_bundle, table, "--color", "no", *plot)
    assert "no column 'no' for --color" in cli.fails(
        "map", lookup_bundle, table, "--color", "no", "--keep", "all", *plot
    )
    lines = texts("in.txt", "water\n")
    assert "--color does not go with" in cli.fails("map", lookup_bundle, lines, "--color", "lang", *plot, code=2)
    assert "-k 2 is over" in cli.fails("map", lookup_bundle, lines, "-k", 2, *plot, code=2)
    assert not (tmp_path / "map.html").exists()
    cli.ok("map", lookup_bundle, lines, *plot)
    assert len(data_of(tmp_path / "map.html")["text"]) == 1
    cli.ok("map", lookup_bundle, texts("same.txt", "water\n" * 12), *plot)
    assert len(data_of(tmp_path / "map.html")["text"]) == 12
    assert "is the input itself" in cli.fails("map", lookup_bundle, table, "-o", table)
