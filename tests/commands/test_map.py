from __future__ import annotations

import json
import re

import numpy as np
import pytest

from embedrt.commands import map as maps
from embedrt.commands.clusters import How
from embedrt.commands.map import Groups, Map, Plane, by_clusters, coloured, project, sampled_rows
from embedrt.commands.map_picture import colours, page, svg
from embedrt.commands.reading.records import Record
from embedrt.commands.source import TextSource
from embedrt.errors import DependencyError, FileFormatError
from embedrt.progress import NullProgress


def clumps(seed=3):
    """Thirty rows around each of three centres."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), 30)
    return (np.eye(12)[labels] + 0.05 * draw.standard_normal((90, 12))).astype(np.float32), labels


def made(texts, names=("a", "b"), kept=()):
    records = tuple(Record(i, i + 1, text, None, dict(kept[i]) if kept else {}) for i, text in enumerate(texts))
    points = np.random.default_rng(0).uniform(-1, 1, (len(texts), 2)).astype(np.float32)
    groups = np.arange(len(texts)) % len(names)
    return Map("in.csv", Plane(points, "by hand"), records, Groups(groups, tuple(names), "colours: lang"), "abc")


@pytest.mark.parametrize("method", ["pca", pytest.param("umap", marks=pytest.mark.slow)])  # compiles for a minute
def test_near_rows_are_near_in_the_plane(method):
    rows, labels = clumps()
    lengths = np.random.default_rng(0).uniform(1, 9, (len(rows), 1)).astype(np.float32)
    plane = project(rows * lengths, method, 0, NullProgress())
    points = plane.points
    assert np.abs(points).max() == pytest.approx(1)
    far = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(far, np.inf)
    assert (labels[far.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(project(rows * lengths, method, 0, NullProgress()).points, points)


def test_principal_components_are_those_of_the_rows():
    rows = np.random.default_rng(1).standard_normal((40, 6)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    _, values, axes = np.linalg.svd(unit - unit.mean(axis=0))
    plane = project(rows, "pca", 0, NullProgress())
    wanted = (unit - unit.mean(axis=0)) @ axes[:2].T
    for mine, theirs in zip(plane.points.T, wanted.T, strict=True):
        assert abs(np.corrcoef(mine, theirs)[0, 1]) == pytest.approx(1, abs=1e-5)
    assert f"{(values[:2] ** 2).sum() / (values**2).sum():.0%}" in plane.told


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_rows_and_equal_ones(count):
    for rows in (np.ones((count, 5), np.float32), np.eye(5, dtype=np.float32)[:count], np.ones((count, 1), np.float32)):
        points = project(rows, "auto", 0, NullProgress()).points
        assert points.shape == (count, 2)
        assert np.isfinite(points).all()


def test_umap_is_named_where_it_is_missing_and_asked_for(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    rows, _ = clumps()
    with pytest.raises(DependencyError, match=re.escape("pip install 'embedrt[analyze]'")):
        project(rows, "umap", 0, NullProgress())
    assert "principal" in project(rows, "auto", 0, NullProgress()).told


def test_more_texts_than_a_page_shows_are_drawn_by_chance(monkeypatch):
    monkeypatch.setattr(maps, "MOST_POINTS", 10)
    rows = sampled_rows(100, 0)
    assert len(set(rows.tolist())) == 10
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(sampled_rows(7, 0), np.arange(7))


def test_colours_by_a_column_the_frequent_first_and_the_rest_together():
    source = TextSource(None, "csv")
    values = ["ko", "en", "ko", None, "", 3]
    groups = coloured([Record(i, i, "x", None, {"lang": v}) for i, v in enumerate(values)], "lang", source)
    assert groups.names == ("(none)", "ko", "3", "en")
    assert [groups.names[i] for i in groups.of_rows] == ["ko", "en", "ko", "(none)", "(none)", "3"]
    many = [f"v{i:02}" for i in range(30) for _ in range(30 - i)]
    groups = coloured([Record(i, i, "x", None, {"lang": v}) for i, v in enumerate(many)], "lang", source)
    assert len(groups.names) == 20
    assert groups.names[-1] == "others"
    assert (groups.of_rows == 19).sum() == sum(30 - i for i in range(19, 30))
    with pytest.raises(FileFormatError, match="no column 'no' for --color"):
        coloured([Record(0, 1, "x", None, {"lang": "ko"})], "no", source)


def test_clusters_are_called_by_their_words():
    rows, labels = clumps()
    records = [Record(i, i + 1, f"{('bread', 'water', 'stone')[k]} of {i}") for i, k in enumerate(labels)]
    groups = by_clusters(records, rows, How(k=3), NullProgress())
    assert sorted(groups.names) == ["bread", "stone", "water"]
    assert all(groups.names[g] in record.text for g, record in zip(groups.of_rows, records, strict=True))


def test_every_group_has_a_colour_of_its_own_and_grey_is_for_the_rest():
    names = (*(str(i) for i in range(19)), "others")
    assert len(set(colours(names))) == 20
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours(names))
    assert colours(("a", "(none)", "b"))[1] == colours(names)[-1]


HOSTILE = ["</script><script>alert(1)</script>", "<!-- <b>", "{{data}}", "{{style}} $& \\u2028 \u2028", "물은 '\"&"]


def test_texts_stay_texts_in_the_page():
    drawn = made(HOSTILE, names=("<i>", "{{script}}"))
    shown = page(drawn)
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', shown, re.DOTALL)[1]
    data = json.loads(inside)
    assert data["text"] == HOSTILE
    assert data["names"] == ["<i>", "{{script}}"]
    assert np.abs(np.array([data["x"], data["y"]]).T / 10_000 - drawn.plane.points).max() <= 0.5e-4
    assert shown.count("<script") == 2


def test_the_page_loads_nothing():
    shown = page(made(["water", "물"]))
    assert "default-src 'none'" in shown
    assert not re.findall(r"""(?:src|href)\s*=|https?://|@import|url\(|fetch\(|XMLHttp|WebSocket""", shown)


def test_the_picture_has_every_point_and_name():
    shown = svg(made(["water", "물", "stone"], names=("한국어 <ko>", "en")))
    assert shown.count("<circle") == 3 + 2
    assert "한국어 &lt;ko&gt;" in shown
    assert "3 texts; by hand; colours: lang" in shown
