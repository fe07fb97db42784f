from __future__ import annotations

import json

import numpy as np
import pytest

from embedrt.commands import corpus_index
from embedrt.commands import search as search_module
from embedrt.embedder import Embedder

CORPUS = ["the water", "", "a stone in the river", "light", "bread and paper", "the water"]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(CORPUS) + "\n")
    return path


@pytest.fixture
def embedded(monkeypatch):
    """Collects the texts that were embedded as documents."""
    seen: list[str] = []
    whole = Embedder.encode_stream

    def watch(self, texts, **options):
        assert options["kind"] == "document"
        return whole(self, (seen.append(text) or text for text in texts), **options)

    monkeypatch.setattr(Embedder, "encode_stream", watch)
    return seen


def hits(cli, *args):
    return json.loads(cli.ok("search", *args, "--json").stdout)["answers"][0]["hits"]


def test_hits_are_those_of_query_against_documents(cli, lookup_bundle, corpus):
    found = hits(cli, lookup_bundle, corpus, "river water", "-k", 3, "--task", "stone")
    with Embedder(lookup_bundle) as embedder:
        query = embedder.encode_query(["river water"], task="stone")
        scores = embedder.similarity(query, embedder.encode_document(CORPUS))[0]
    order = np.argsort(-scores, kind="stable")[:3]
    assert [hit["row"] for hit in found] == order.tolist()
    assert [hit["line"] for hit in found] == (order + 1).tolist()
    assert [hit["text"] for hit in found] == [CORPUS[i] for i in order]
    np.testing.assert_allclose([hit["score"] for hit in found], scores[order], atol=1e-6)


def test_vectors_are_kept_and_reused(cli, lookup_bundle, corpus, embedded):
    first = cli.ok("search", lookup_bundle, corpus, "water")
    assert "embedded 6 rows" in first.stderr
    assert len(embedded) == 5, "alike texts once"
    assert (corpus.parent / "corpus.txt.embedrt").is_dir()
    second = cli.ok("search", lookup_bundle, corpus, "water")
    assert "reused 6 vectors" in second.stderr
    assert len(embedded) == 5
    assert second.stdout == first.stdout


def test_only_what_changed_is_embedded_again(cli, lookup_bundle, corpus, embedded):
    cli.ok("search", lookup_bundle, corpus, "water")
    embedded.clear()
    changed = ["new light", *CORPUS[:2], *CORPUS[3:]]
    corpus.write_text("\n".join(changed) + "\n")
    result = cli.ok("search", lookup_bundle, corpus, "water", "-k", 6, "--json")
    assert embedded == ["new light"]
    assert "embedded 1 changed row, reused 5 vectors" in result.stderr
    kept = sorted(path.suffix for path in (corpus.parent / "corpus.txt.embedrt").glob("[!.]*"))
    assert kept == [".json", ".npy", ".npy"], "earlier vectors are gone"
    fresh = corpus.with_name("fresh.txt")
    fresh.write_bytes(corpus.read_bytes())
    assert json.loads(result.stdout)["answers"][0]["hits"] == hits(cli, lookup_bundle, fresh, "water", "-k", 6)


def test_each_identity_has_its_own_vectors(cli, lookup_bundle, corpus, embedded):
    for variant in ("fp32", "int8", "fp32", "int8"):
        cli.ok("search", lookup_bundle, corpus, "water", "--variant", variant)
    assert len(embedded) == 10


def test_a_damaged_index_is_made_anew(cli, lookup_bundle, corpus):
    before = cli.ok("search", lookup_bundle, corpus, "water").stdout
    for path in (corpus.parent / "corpus.txt.embedrt").glob("[!.]*"):
        path.write_bytes(path.read_bytes()[:40])
        result = cli.ok("search", lookup_bundle, corpus, "water")
        assert "embedded 6 rows" in result.stderr
        assert result.stdout == before
    assert "embedded 6 rows" in cli.ok("search", lookup_bundle, corpus, "water", "--rebuild").stderr


def test_a_column_of_a_csv_and_another_place_for_the_index(cli, lookup_bundle, tmp_path):
    (tmp_path / "faq.csv").write_text('q,a\nx,"the\nwater"\ny,light\n')
    args = (lookup_bundle, tmp_path / "faq.csv", "light", "--column", "a", "--index", tmp_path / "kept", "-k", 1)
    assert hits(cli, *args)[0]["line"] == 4
    assert (tmp_path / "kept").is_dir()
    assert not (tmp_path / "faq.csv.embedrt").exists()
    other = cli.ok("search", *args[:4], "q", "--index", tmp_path / "kept")
    assert "embedded 2 changed rows" in other.stderr or "embedded 2 rows" in other.stderr


def test_several_queries_an_empty_corpus_and_more_hits_than_rows(cli, lookup_bundle, corpus, tmp_path):
    shown = cli.ok("search", lookup_bundle, corpus, "water", "light", "-k", 100).stdout
    assert shown.count("bread and paper") == 2
    assert max(map(len, shown.splitlines())) <= 80
    (tmp_path / "empty.txt").write_bytes(b"")
    assert "the corpus is empty" in cli.ok("search", lookup_bundle, tmp_path / "empty.txt", "water").stdout


def test_top_k_over_blocks_is_top_k_of_the_whole(lookup_bundle, monkeypatch):
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((50, 8)).astype(np.float32)
    vectors[30] = vectors[7]  # equal scores stay in the corpus' order
    queries = rng.standard_normal((3, 8)).astype(np.float32)
    monkeypatch.setattr(search_module, "_BLOCK_ROWS", 7)
    with Embedder(lookup_bundle) as embedder:
        rows, scores = search_module.top_k(embedder, queries, vectors, 40)
        whole = embedder.similarity(queries, vectors)
    wanted = np.argsort(-whole, axis=1, kind="stable")[:, :40]
    np.testing.assert_allclose(scores, np.take_along_axis(whole, wanted, 1), atol=1e-6)
    np.testing.assert_array_equal(rows, wanted)


def test_errors(cli, lookup_bundle, corpus, tmp_path):
    cli.fails("search", lookup_bundle, corpus, code=2)
    assert "must be a file" in cli.fails("search", lookup_bundle, "-", "water")
    corpus.write_bytes(b"water\n\xff\n")
    assert "line 2: not valid UTF-8" in cli.fails("search", lookup_bundle, corpus, "water")
    corpus.write_bytes(b"water\n")
    (tmp_path / "file").write_bytes(b"")
    cli.fails("search", lookup_bundle, corpus, "water", "--index", tmp_path / "file", code=2)
    assert "--index" in cli.fails("search", lookup_bundle, corpus, "water", "--index", tmp_path / "no" / "where")


def test_two_processes_do_not_make_the_same_index_at_once(cli, lookup_bundle, corpus, embedded, monkeypatch):
    """The second waits for the first, and finds its vectors."""
    cli.ok("search", lookup_bundle, corpus, "water")
    times_looked = []
    whole = corpus_index._Folder.find

    def too_early(self, content):
        times_looked.append(content)
        return None if len(times_looked) == 1 else whole(self, content)

    monkeypatch.setattr(corpus_index._Folder, "find", too_early)
    assert "reused 6 vectors" in cli.ok("search", lookup_bundle, corpus, "water").stderr
    assert len(embedded) == 5


def test_a_rebuilt_index_leaves_readers_their_file(cli, lookup_bundle, corpus):
    cli.ok("search", lookup_bundle, corpus, "water")
    folder = corpus.parent / "corpus.txt.embedrt"
    path = next(path for path in folder.glob("*.npy") if ".keys" not in path.name)
    held = np.load(path, mmap_mode="r")
    before = path.stat().st_ino
    cli.ok("search", lookup_bundle, corpus, "water", "--rebuild")
    assert path.stat().st_ino != before
    np.testing.assert_array_equal(held, np.load(path))


def test_a_corpus_that_is_not_there(cli, lookup_bundle, tmp_path):
    assert "none.txt is not there" in cli.fails("search", lookup_bundle, tmp_path / "none.txt", "water")
