from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedrt import util
from embedrt.embedder import Embedder

A = ["the water", "a stone in the river", "light", "water the", "bread and paper", "house of 물은"]
B = ["bread paper and", "the river in a stone", "light light", "물은 house"]


@pytest.fixture
def files(tmp_path):
    paths = tmp_path / "a.txt", tmp_path / "b.txt"
    for path, texts in zip(paths, (A, B), strict=True):
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return paths


def vectors(bundle, *lists):
    with Embedder(bundle) as embedder:
        return [embedder.encode(texts) for texts in lists]


def pairs(cli, *args):
    return json.loads(cli.ok("mine", *args, "--json").stdout)["pairs"]


def test_paraphrases_are_those_of_the_library(cli, lookup_bundle, files):
    found = pairs(cli, lookup_bundle, files[0], "-k", 3, "--max-pairs", 5)
    wanted = util.paraphrase_mining_embeddings(vectors(lookup_bundle, A)[0], top_k=3, max_pairs=5)
    assert [(pair["row_a"], pair["row_b"]) for pair in found] == [(i, j) for _, i, j in wanted]
    np.testing.assert_allclose([pair["score"] for pair in found], [score for score, _, _ in wanted], atol=1e-5)
    assert (found[0]["text_a"], found[0]["text_b"]) == ("the water", "water the")
    assert (found[0]["line_a"], found[0]["line_b"]) == (1, 4)
    assert len(pairs(cli, lookup_bundle, files[0], "--threshold", 0.999)) == 1


def test_translations_are_those_of_the_library(cli, lookup_bundle, files):
    found = pairs(cli, lookup_bundle, *files, "-k", 2)
    wanted = util.mine_translations(*vectors(lookup_bundle, A, B), k=2)
    assert [(pair["row_a"], pair["row_b"]) for pair in found] == [(i, j) for _, i, j in wanted]
    np.testing.assert_allclose([pair["score"] for pair in found], [score for score, _, _ in wanted], atol=1e-4)
    least = found[1]["score"] - 1e-5
    assert len(pairs(cli, lookup_bundle, *files, "-k", 2, "--threshold", least)) == 2


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_pairs_in_every_format_with_columns_of_both_sides(cli, lookup_bundle, tmp_path, suffix):
    source, out = tmp_path / "in.csv", tmp_path / f"out{suffix}"
    source.write_text('id,ko,en\n7,"물은, the water",bread\n8,light,"the water, 물은"\n', encoding="utf-8")
    cli.ok("mine", lookup_bundle, source, source, "--column", "ko", "--column-b", "en", "--keep", "id", "-o", out)
    if suffix == ".parquet":
        rows = pq.read_table(out).to_pylist()
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        delimiter = "," if suffix == ".csv" else "\t"
        rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines(), delimiter=delimiter))
    best = rows[0]
    assert (best["text_a"], best["text_b"]) == ("물은, the water", "the water, 물은")
    assert (str(best["id_a"]), str(best["id_b"])) == ("7", "8")
    assert (int(best["row_a"]), int(best["row_b"])) == (0, 1)


def test_vectors_of_both_files_are_kept_apart(cli, lookup_bundle, files, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("ko,en\nwater,light\nstone,water\n")
    columns = ("--column", "ko", "--column-b", "en")
    for args in ((*files,), (source, source, *columns), (*files, "--index", tmp_path / "kept")):
        assert cli.ok("mine", lookup_bundle, *args).stderr.count("embedded") == 2
        assert cli.ok("mine", lookup_bundle, *args).stderr.count("reused") == 2, "nothing is embedded again"


def test_the_table_fits_a_terminal(cli, lookup_bundle, files):
    shown = cli.ok("mine", lookup_bundle, *files).stdout
    assert "margin" in shown
    assert "house of 물은" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_bad_input_is_said_in_a_line(cli, lookup_bundle, files, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "one.txt").write_text("water\n")
    (tmp_path / "same.txt").write_text("water\nwater\nwater\n")
    assert "empty.txt holds no texts" in cli.fails("mine", lookup_bundle, files[0], tmp_path / "empty.txt")
    assert cli.ok("mine", lookup_bundle, tmp_path / "one.txt").stdout.startswith("0 pairs")
    assert len(pairs(cli, lookup_bundle, tmp_path / "same.txt")) == 3
    assert len(pairs(cli, lookup_bundle, tmp_path / "one.txt", files[0])) == 1
    assert "--column-b" in cli.fails("mine", lookup_bundle, files[0], "--column-b", "x", code=2)
    assert "--vectors" in cli.fails("mine", lookup_bundle, *files, "--vectors", files[0], code=2)
    cli.fails("mine", lookup_bundle, files[0], "-k", 0, code=2)
    assert "a cosine, 1 at most" in cli.fails("mine", lookup_bundle, files[0], "--threshold", 1.02, code=2)
    cli.ok("mine", lookup_bundle, *files, "--threshold", 1.02)
    assert "must end in" in cli.fails("mine", lookup_bundle, *files, "-o", tmp_path / "out.npy", code=2)
    (tmp_path / "there.csv").write_text("mine")
    assert "--force" in cli.fails("mine", lookup_bundle, *files, "-o", tmp_path / "there.csv")
    (tmp_path / "tab.jsonl").write_text('"a\\twater"\n"water a"\n')
    said = cli.fails("mine", lookup_bundle, tmp_path / "tab.jsonl", "-o", tmp_path / "out.tsv")
    assert "out.tsv: row 1 holds a tab" in said
    assert not (tmp_path / "out.tsv").exists()
