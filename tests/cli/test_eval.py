from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from embedrt.embedder import Embedder

FIRST = ["the water", "a stone", "light of paper", "bread", "in the house", "is it", "river", "to and of"]
SECOND = ["the river water", "a house", "paper", "bread and water", "the house", "stone", "light", "of"]
SCORES = [4.5, 1.0, 3.0, 2.5, 5.0, 0.0, 1.5, 2.0]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    rows = zip(FIRST, SECOND, SCORES, strict=True)
    path.write_text("id\tsentence1\tsentence2\tscore\n" + "".join(f"7\t{a}\t{b}\t{s}\n" for a, b, s in rows))
    return path


def scored(cli, *args):
    return json.loads(cli.ok("eval", *args, "--samples", "20", "--json").stdout)


def write_beir(folder):
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{i}", "text": text}) + "\n" for i, text in enumerate(SECOND))
    )
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{i}", "title": "", "text": text}) + "\n" for i, text in enumerate(FIRST))
    )
    rows = "".join(f"q{i}\td{i}\t1\n" for i in range(0, 8, 2))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows + "q1\td5\t0\n")
    names = ("--queries", "queries.jsonl", "--corpus", "corpus.jsonl", "--qrels", "qrels.tsv")
    return [name if name.startswith("--") else folder / name for name in names]


def test_pairs_are_scored_by_rank_correlation(cli, lookup_bundle, pairs):
    found = scored(cli, lookup_bundle, "--pairs", pairs, "--prompt", "of ", "--variants", "fp32,int8")
    with Embedder(lookup_bundle, variant="fp32", num_threads=1) as embedder:
        a, b = (embedder.encode(texts, prompt="of ") for texts in (FIRST, SECOND))
    expected = 100 * stats.spearmanr((a * b).sum(axis=1), SCORES).statistic
    (task,) = found["tasks"]
    fp32, int8 = task["metrics"][0]["scores"]
    assert task["size"] == "8 pairs"
    assert fp32["value"]["value"] == pytest.approx(expected)
    assert fp32["to_first"] is None
    assert int8["to_first"]["value"] == pytest.approx(int8["value"]["value"] - fp32["value"]["value"])
    assert [ran["variant"] for ran in found["variants"]] == ["fp32", "int8"]


def test_columns_by_number_where_there_is_no_header(cli, lookup_bundle, pairs, tmp_path):
    plain = tmp_path / "plain.csv"
    rows = zip(FIRST, SECOND, SCORES, strict=True)
    plain.write_text("".join(f'"{a}",{s},{b}\n' for a, b, s in rows))
    by_name, by_number = (
        scored(cli, lookup_bundle, "--pairs", path, "--variants", "fp32", *options)["tasks"][0]["metrics"]
        for path, options in ((pairs, ()), (plain, ("--columns", "1,3,2")))
    )
    assert by_name == by_number


def test_retrieval_as_beir_has_it(cli, lookup_bundle, tmp_path):
    found = scored(cli, lookup_bundle, *write_beir(tmp_path), "--variants", "fp32", "--task", "stone")
    (task,) = found["tasks"]
    assert task["size"] == "4 queries, 8 texts", "those without a relevant text do not count"
    assert [metric["name"] for metric in task["metrics"]] == ["nDCG@10", "recall@10"]
    assert 0 < task["metrics"][0]["scores"][0]["value"]["value"] <= 100


def test_trec_judgments_and_titles(cli, lookup_bundle, tmp_path):
    options = write_beir(tmp_path)
    first = scored(cli, lookup_bundle, *options, "--variants", "fp32")["tasks"][0]["metrics"]
    (tmp_path / "qrels.tsv").write_text("".join(f"q{i} 0 d{i} 1\n" for i in range(0, 8, 2)))
    lines = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines()]
    for line in lines:
        line["title"], _, line["text"] = line["text"].rpartition(" ")
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert scored(cli, lookup_bundle, *options, "--variants", "fp32")["tasks"][0]["metrics"] == first


def test_squad(cli, lookup_bundle, tmp_path):
    path = tmp_path / "squad.json"
    paragraphs = [{"context": a, "qas": [{"question": b}]} for a, b in zip(FIRST, SECOND, strict=True)]
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    assert scored(cli, lookup_bundle, "--squad", path)["tasks"][0]["size"] == "8 queries, 8 texts"


def test_bitext_and_clusters(cli, lookup_bundle, tmp_path):
    a, b, labels = tmp_path / "x.one", tmp_path / "x.two", tmp_path / "labels.csv"
    a.write_text("\n".join(FIRST) + "\n")
    b.write_text("\n".join(FIRST) + "\n")
    labels.write_text("topic,text\n" + "".join(f"{i % 2},{text}\n" for i, text in enumerate(FIRST)))
    options = ("--bitext", a, b, "--clusters", labels, "--label-columns", "text,topic", "--variants", "fp32")
    bitext, clusters = scored(cli, lookup_bundle, *options)["tasks"]
    assert [metric["scores"][0]["value"]["value"] for metric in bitext["metrics"]] == [100, 100, 100]
    assert clusters["size"] == "8 texts, 2 labels"


def test_the_table_fits_a_terminal(cli, lookup_bundle, pairs):
    result = cli.ok("eval", lookup_bundle, "--pairs", pairs, "--samples", "20")
    assert "pairs.tsv: 8 pairs" in result.stdout
    assert "to fp32" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "without bf16: " in result.stderr, "this model runs on ONNX Runtime only"


def test_json_goes_to_a_file_too(cli, lookup_bundle, pairs, tmp_path):
    out = tmp_path / "out.json"
    result = cli.ok("eval", lookup_bundle, "--pairs", pairs, "--samples", "20", "--json", out, "--variants", "fp32")
    assert "Spearman" in result.stdout
    assert json.loads(out.read_text())["tasks"][0]["name"] == "pairs.tsv"


def test_a_loss_over_what_may_be_lost_fails(cli, lookup_bundle, pairs):
    options = ("eval", lookup_bundle, "--pairs", pairs, "--samples", "20", "--variants", "int8,fp32")
    cli.ok(*options, "--max-loss", "100")
    scores = scored(cli, *options[1:4], "--variants", "int8,fp32")["tasks"][0]["metrics"][0]["scores"]
    gain = scores[1]["to_first"]["value"]
    if gain < 0:  # whichever of the two is the worse one
        assert "fp32 loses" in cli.fails(*options, "--max-loss", str(-gain / 2))
    else:
        cli.ok(*options, "--max-loss", "0")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "give something to score"),
        (("--pairs", "PAIRS", "--columns", "a,b"), "is not two texts and a score"),
        (("--pairs", "PAIRS", "--columns", "1,2,score"), "all names, or all numbers"),
        (("--pairs", "nowhere.tsv"), "does not exist"),
        (("--queries", "PAIRS"), "go together"),
        (("--pairs", "PAIRS", "--variants", "int9"), "choose from"),
        (("--pairs", "PAIRS", "--variants", "fp16"), "fp16"),
        (("--pairs", "PAIRS", "--prompt", "a", "--prompt-name", "query"), "exclude each other"),
        (("--pairs", "PAIRS", "--prompt-name", "nothing"), "nothing"),
        (("--pairs", "PAIRS", "--encoding", "nothing"), "nothing"),
        (("--pairs", "PAIRS", "--max-loss", "-1"), "not in the range"),
    ],
)
def test_wrong_values(cli, lookup_bundle, pairs, options, says):
    given = [pairs if option == "PAIRS" else option for option in options]
    assert says in cli.fails("eval", lookup_bundle, *given, code=2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a\tb\nx\ty\n", "has no column 'sentence1'"),
        ("sentence1\tsentence2\nx\ty\n", "has no column 'score'"),
        ("sentence1\tsentence2\tscore\nx\ty\tmuch\n", "line 2: the score must be a number, not 'much'"),
        ("sentence1\tsentence2\tscore\nx\ty\tnan\n", "must be a number"),
        ("sentence1\tsentence2\tscore\n", "holds no pairs"),
        ("", "is empty"),
    ],
)
def test_a_file_that_does_not_hold_pairs(cli, lookup_bundle, tmp_path, content, says):
    path = tmp_path / "pairs.tsv"
    path.write_text(content)
    error = cli.fails("eval", lookup_bundle, "--pairs", path)
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nq0\td99\t1\n", "line 2: there is no 'd99' in"),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nq0\td0\t0\n", "holds no relevant texts"),
        ("qrels.tsv", "q0 d0 1\n", "line 1: 3 fields"),
        (
            "queries.jsonl",
            '{"_id": "q0", "text": "a"}\n{"_id": "q0", "text": "b"}\n',
            "line 2: the id 'q0' is there twice",
        ),
        ("corpus.jsonl", '{"text": "a"}\n', "has no column '_id'"),
    ],
)
def test_a_retrieval_that_does_not_hold_together(cli, lookup_bundle, tmp_path, name, content, says):
    options = write_beir(tmp_path)
    (tmp_path / name).write_text(content)
    assert says in cli.fails("eval", lookup_bundle, *options)


def test_other_files_that_are_none(cli, lookup_bundle, tmp_path):
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("one\n")
    other.write_text("one\ntwo\n")
    assert "has 1 texts and" in cli.fails("eval", lookup_bundle, "--bitext", path, other)
    assert "a.txt has no columns: give .csv" in cli.fails("eval", lookup_bundle, "--pairs", path)
    assert "is not JSON as SQuAD has it" in cli.fails("eval", lookup_bundle, "--squad", path)
    labels = tmp_path / "labels.csv"
    labels.write_text("text,label\na,x\nb,x\n")
    assert "has one label, 'x'" in cli.fails("eval", lookup_bundle, "--clusters", labels)
    assert "columns by number" in cli.fails("eval", lookup_bundle, "--pairs", path, "--columns", "1,2,3", code=2)


def test_intervals_are_seeded(cli, lookup_bundle, pairs):
    first, second = (scored(cli, lookup_bundle, "--pairs", pairs, "--variants", "fp32") for _ in range(2))
    assert first == second
    low, value, high = (
        first["tasks"][0]["metrics"][0]["scores"][0]["value"][name] for name in ("low", "value", "high")
    )
    assert np.isfinite([low, value, high]).all()
    assert low < high
