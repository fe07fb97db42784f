from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedrt.commands import clusters
from embedrt.commands.clusters import How, find_clusters
from embedrt.errors import OptionError
from embedrt.progress import NullProgress

WORDS = ["water", "stone", "bread"]
TEXTS = [f"{WORDS[i % 3]} {WORDS[i % 3]} {'the' if i % 2 else 'of'}" for i in range(36)] + ["water 물은"]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "in.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "text"), *((f"n{i}", text) for i, text in enumerate(TEXTS))])
    return path


def clumps(sizes, spread=0.02, width=16, seed=3):
    """Rows around as many centres at right angles, and which centre each is of."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.eye(width, dtype=np.float32)[labels] + spread * draw.standard_normal((len(labels), width))
    order = draw.permutation(len(labels))
    return rows[order].astype(np.float32), labels[order]


def same_groups(a, b):
    """Whether two labellings differ by names only."""
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))


@pytest.mark.parametrize("how", [How(), How(k=4), How("hdbscan", min_size=5)])
def test_clumps_are_found_and_numbered_by_size(how):
    vectors, labels = clumps([8, 40, 20, 12])
    found = find_clusters(vectors, how, NullProgress())
    assert same_groups(found.labels, labels)
    assert found.sizes == (40, 20, 12, 8)
    assert np.bincount(found.labels).tolist() == [40, 20, 12, 8]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centre = unit[found.labels == 1].mean(axis=0)
    wanted = unit[found.labels == 1] @ (centre / np.linalg.norm(centre))
    np.testing.assert_allclose(found.scores[found.labels == 1], wanted, atol=1e-5)
    assert found.central(1, 1) == [int(np.flatnonzero(found.labels == 1)[wanted.argmax()])]


def test_length_says_nothing():
    vectors, labels = clumps([20, 15, 10])
    lengths = np.random.default_rng(1).uniform(0.1, 50, (len(vectors), 1)).astype(np.float32)
    assert same_groups(find_clusters(vectors * lengths, How(k=3), NullProgress()).labels, labels)


def test_a_sample_finds_the_same_clumps_in_blocks(monkeypatch):
    vectors, labels = clumps([200, 150, 100])
    monkeypatch.setattr(clusters, "_SAMPLE", 60)
    monkeypatch.setattr(clusters, "_BLOCK_ROWS", 32)
    monkeypatch.setattr(clusters, "_FEW", 50)  # mini-batches
    found = find_clusters(vectors, How(k=3), NullProgress())
    assert same_groups(found.labels, labels)
    assert "60 rows drawn by chance" in found.told


def test_noise_is_minus_one_and_a_seed_decides():
    vectors, _ = clumps([30, 20])
    far = np.eye(16, dtype=np.float32)[4:10]
    found = find_clusters(np.concatenate([vectors, far]), How("hdbscan"), NullProgress())
    assert (found.labels[50:] == clusters.NOISE).all()
    assert (found.scores[50:] == 0).all()
    messy = np.random.default_rng(4).standard_normal((200, 16)).astype(np.float32)
    one, same = (find_clusters(messy, How(k=9, seed=5), NullProgress()).labels for _ in range(2))
    np.testing.assert_array_equal(one, same)


def test_hdbscan_refuses_too_many(monkeypatch):
    monkeypatch.setattr(clusters, "_HDBSCAN_ROWS", 10)
    with pytest.raises(OptionError, match="at most 10 texts"):
        find_clusters(clumps([20])[0], How("hdbscan"), NullProgress())


def test_words_texts_and_rows(cli, lookup_bundle, table, tmp_path):
    shown = cli.ok("cluster", lookup_bundle, table, "-k", 3, "-o", tmp_path / "out.csv", "--keep", "id", "--json")
    found = json.loads(shown.stdout)
    assert [one["size"] for one in found["clusters"]] == [13, 12, 12]
    assert sorted(one["words"][0] for one in found["clusters"]) == sorted(WORDS)
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["text"] for row in rows] == TEXTS
    assert [row["id"] for row in rows] == [f"n{i}" for i in range(len(TEXTS))]
    for one in found["clusters"]:
        word = one["words"][0]
        assert {row["text"].split()[0] for row in rows if int(row["cluster"]) == one["cluster"]} == {word}
        assert all(text.startswith(word) for text in one["texts"])
        assert len(set(one["texts"])) == len(one["texts"]), "equal texts once"
        assert [TEXTS[line - 2] for line in one["lines"]] == one["texts"]


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".parquet"])
def test_rows_in_every_format(cli, lookup_bundle, table, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    cli.ok("cluster", lookup_bundle, table, "-k", 3, "-o", out, "--keep", "all", "-q")
    if suffix == ".parquet":
        assert str(pq.read_schema(out).field("cluster").type) == "int64"
        rows = pq.read_table(out).to_pylist()
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    assert [row["text"] for row in rows] == TEXTS
    assert {str(row["cluster"]) for row in rows} == {"0", "1", "2"}
    assert list(rows[0]) == ["row", "line", "cluster", "score", "text", "id"]


def test_the_table_fits_a_terminal(cli, lookup_bundle, table):
    result = cli.ok("cluster", lookup_bundle, table)
    assert "of 37 texts" in result.stdout
    assert "chosen by silhouette" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "37 texts" in cli.ok("cluster", lookup_bundle, table, "--method", "hdbscan", "--min-size", 4).stdout


def test_bad_input_is_said_in_a_line(cli, lookup_bundle, table, tmp_path):
    def texts(name, content):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    assert "holds no texts" in cli.fails("cluster", lookup_bundle, texts("empty.txt", ""))
    assert "1 cluster of 1 text" in cli.ok("cluster", lookup_bundle, texts("one.txt", "water\n")).stdout
    same = texts("same.txt", "water\n" * 5)
    assert "1 cluster of 5 texts" in cli.ok("cluster", lookup_bundle, same).stdout
    said = cli.fails("cluster", lookup_bundle, same, "-k", 2, code=2)
    assert "-k 2 is over the number of different texts, 1" in said
    for wrong in ("0", "many", "-1", "2.5"):
        assert "neither a number of clusters nor auto" in cli.fails(
            "cluster", lookup_bundle, table, "-k", wrong, code=2
        )
    assert "hdbscan" in cli.fails("cluster", lookup_bundle, table, "-k", 3, "--method", "hdbscan", code=2)
    said = cli.fails("cluster", lookup_bundle, same, "--method", "hdbscan", code=2)
    assert "--min-size 10 is over the number of texts, 5" in said
    assert "no column 'no'" in cli.fails("cluster", lookup_bundle, table, "--column", "no")
    assert "no column 'no' for --keep" in cli.fails("cluster", lookup_bundle, table, "--keep", "no")
    assert "has a column 'row' of its own" in cli.fails(
        "cluster", lookup_bundle, texts("in.jsonl", '{"row": 1, "text": "water"}\n'), "--keep", "row", "-o",
        tmp_path / "out.jsonl",
    )  # fmt: skip
    assert not (tmp_path / "out.jsonl").exists()


def test_scikit_learn_is_named_where_it_is_missing(cli, lookup_bundle, table, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    assert "pip install 'embedrt[analyze]'" in cli.fails("cluster", lookup_bundle, table)


def test_texts_over_the_limit_are_told(cli, lookup_bundle, tmp_path):
    (tmp_path / "in.txt").write_text("water " * 60 + "\nstone\n")
    assert "1 text of the corpus cut at 32 tokens" in cli.ok("cluster", lookup_bundle, tmp_path / "in.txt").stderr


def test_a_column_that_is_not_there_is_told_before_anything_is_embedded(cli, lookup_bundle, tmp_path):
    (tmp_path / "in.csv").write_text("id,text\n1,water\n2,stone\n")
    said = cli.fails("cluster", lookup_bundle, tmp_path / "in.csv", "--center", "lang")
    assert "in.csv has no column 'lang' for --center; its columns: id, text" in said
    assert not (tmp_path / "in.csv.embedrt").exists()


def test_center_takes_a_columns_groups_away(cli, lookup_bundle, tmp_path):
    path = tmp_path / "in.csv"
    rows = [
        (f"{word} the {mark}", mark) for mark in ("water", "stone") for word in ("bread", "light") for _ in range(12)
    ]
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "lang"), *rows])
    plain = json.loads(cli.ok("cluster", lookup_bundle, path, "-k", "2", "--json").stdout)
    assert plain["center"] is None
    result = cli.ok("cluster", lookup_bundle, path, "-k", "2", "--center", "lang", "--json", "-o", tmp_path / "out.csv")
    assert json.loads(result.stdout)["center"] == "lang"
    assert "2 values of 'lang'" in result.stderr
    with (tmp_path / "out.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert "lang" not in found[0]  # only --keep takes a column along
    assert len({(row["cluster"], row["text"].split()[0]) for row in found}) == 2  # by the first word, not the last


def test_center_wants_a_column_that_is_there(cli, lookup_bundle, table):
    result = cli("cluster", lookup_bundle, table, "--column", "text", "--center", "tongue")
    assert result.exit_code != 0
    assert "no column 'tongue' for --center" in result.stderr
