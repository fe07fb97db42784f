from __future__ import annotations

import json

import numpy as np
import pytest

from embedrt.commands import corpus_index
from embedrt.commands import search as search_module
from embedrt.embedder import Embedder
from embedrt.errors import ExecutorError
from tests.cli.embedding import many_texts

CORPUS = ["the water", "", "a stone in the river", "light", "bread and paper", "the water"]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(CORPUS) + "\n")
    return path


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
    assert "a QUERY is empty" in cli.fails("search", lookup_bundle, corpus, "water", " ", code=2)
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


def break_after(monkeypatch, blocks):
    """The next run fails after so many blocks."""
    whole = Embedder.encode_stream

    def partly(self, texts, **options):
        for i, block in enumerate(whole(self, texts, **options)):
            if i == blocks:
                raise ExecutorError("cut")
            yield block

    monkeypatch.setattr(Embedder, "encode_stream", partly)


def test_indexing_goes_on_after_an_interruption(cli, lookup_bundle, tmp_path, embedded, monkeypatch):
    monkeypatch.setattr("embedrt.commands.index_builder._BLOCK_TEXTS", 4)
    monkeypatch.setattr("embedrt.commands.index_builder._SAVE_SECONDS", 0.0)
    texts = list(dict.fromkeys(many_texts(60)))
    corpus, other = tmp_path / "corpus.txt", tmp_path / "whole.txt"
    for path in (corpus, other):
        path.write_text("".join(f"{text}\n" for text in texts))
    cli.ok("search", lookup_bundle, other, "water")
    embedded.clear()
    with monkeypatch.context() as patch:
        break_after(patch, 3)
        cli.fails("search", lookup_bundle, corpus, "water")
    folder = corpus.with_name("corpus.txt.embedrt")
    with next(folder.glob("*.new")).open("ab") as stream:
        stream.write(b"half a row that the state does not know of")
    embedded.clear()
    result = cli.ok("search", lookup_bundle, corpus, "water")
    assert embedded == texts[12:], "the first three blocks are not embedded again"
    assert "embedding the corpus from text 12" in result.stderr
    assert sorted(path.suffix for path in folder.glob("[!.]*")) == [".json", ".npy", ".npy"]
    made, whole = (
        next(path for path in place.glob("*.npy") if ".keys" not in path.name).read_bytes()
        for place in (folder, other.with_name("whole.txt.embedrt"))
    )
    assert made == whole
    # a corpus that changed meanwhile begins anew
    with monkeypatch.context() as patch:
        break_after(patch, 1)
        cli.fails("search", lookup_bundle, corpus, "water", "--rebuild")
    corpus.write_text("light\n" + corpus.read_text())
    cli.ok("search", lookup_bundle, corpus, "water")
    found = hits(cli, lookup_bundle, corpus, "light", "-k", 1, "--prompt", "of ")  # the documents' own
    assert found[0]["row"] == 0


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_vectors_that_embed_made_are_taken(cli, lookup_bundle, corpus, embedded, tmp_path, suffix):
    out = tmp_path / f"made{suffix}"
    plain = cli.ok("search", lookup_bundle, corpus, "water", "--index", tmp_path / "plain").stdout
    cli.ok("embed", lookup_bundle, corpus, "-o", out, "--document")
    embedded.clear()
    result = cli.ok("search", lookup_bundle, corpus, "water", "--vectors", out)
    assert embedded == []
    assert "reused 6 vectors" in result.stderr
    assert result.stdout == plain


def test_vectors_are_known_by_identity_and_text(cli, lookup_bundle, corpus, embedded, tmp_path):
    with_text, without = tmp_path / "made.parquet", tmp_path / "made.npy"
    cli.ok("embed", lookup_bundle, corpus, "-o", with_text, "--document", "--with-text")
    cli.ok("embed", lookup_bundle, corpus, "-o", without, "--document")
    corpus.write_text("new light\n" + corpus.read_text())
    embedded.clear()
    args = ("search", lookup_bundle, corpus, "water", "--vectors")
    assert "was made of another file" in cli.fails(*args, without)
    cli.ok(*args, with_text)
    assert embedded == ["new light"]
    error = cli.fails(*args, with_text, "--variant", "fp32")
    assert "holds vectors of identity" in error
    assert "(this one: variant int8, document texts, float32)" in error
    cli.ok("embed", lookup_bundle, corpus, "-o", without, "--document", "--truncate-dim", 4, "--force")
    assert "with --document" in cli.fails(*args, without, "--rebuild")
    (tmp_path / "made.npy.meta.json").unlink()
    assert "an output of 'embedrt embed'" in cli.fails(*args, without, "--rebuild")


def test_vectors_of_records_that_were_skipped_are_found_in_their_rows(cli, lookup_bundle, tmp_path, embedded):
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"text": "a"}\n{"text": null}\n{"text": "light"}\n')
    cli.ok("embed", lookup_bundle, corpus, "-o", tmp_path / "o.npy", "--document", "--on-error", "skip")
    from embedrt.commands.known_vectors import vectors_of_embed
    from embedrt.commands.source import open_source
    from embedrt.vectors.keys import places_in, table_of

    with Embedder(lookup_bundle) as embedder:
        identity = embedder.identify(kind="document")
        known = vectors_of_embed(tmp_path / "o.npy", open_source(corpus), identity, tmp_path)
        wanted = embedder.encode_document(["a", "light"])
    found = known.vectors[places_in(known.keys, table_of(["a", "light"]))]
    np.testing.assert_array_equal(found, wanted)


def test_hits_carry_columns_of_the_corpus(cli, lookup_bundle, tmp_path):
    (tmp_path / "faq.csv").write_text("id,text,url\n7,water,http://a\n8,light,http://b\n")
    args = (lookup_bundle, tmp_path / "faq.csv", "light", "--keep")
    found = {hit["row"]: hit["kept"] for hit in hits(cli, *args, "id,url")}
    assert found == {0: {"id": "7", "url": "http://a"}, 1: {"id": "8", "url": "http://b"}}
    shown = cli.ok("search", *args, "all").stdout
    assert "http://b" in shown
    assert "url" in shown.splitlines()[0]
    assert "no column 'uri'" in cli.fails("search", *args, "uri")


def test_prompts_of_queries_and_of_the_corpus(cli, lookup_bundle, corpus):
    options = ("--prompt", "light ", "--document-prompt-name", "query", "-k", 6)
    found = hits(cli, lookup_bundle, corpus, "water", *options[:2], "--document-prompt", "stone ", "-k", 6)
    with Embedder(lookup_bundle) as embedder:
        documents = embedder.encode(CORPUS, prompt="stone ")
        scores = embedder.similarity(embedder.encode(["water"], prompt="light "), documents)[0]
    assert [hit["row"] for hit in found] == np.argsort(-scores, kind="stable").tolist()
    named = cli.ok("search", lookup_bundle, corpus, "water", "--prompt-name", "document", "--json").stdout
    with Embedder(lookup_bundle) as embedder:
        assert json.loads(named)["answers"][0]["identity"] == embedder.identify(prompt_name="document")
    cli.fails("search", lookup_bundle, corpus, "water", "--document-prompt", "a", *options[2:4], code=2)
    cli.fails("search", lookup_bundle, corpus, "water", "--prompt", "a", "--prompt-name", "query", code=2)


def test_a_full_disk_keeps_what_is_embedded(cli, lookup_bundle, corpus, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("embedrt.commands.index_builder.NpyWriter.append_array", full)
        error = cli.fails("search", lookup_bundle, corpus, "water")
    assert "No space left on device; what is embedded is kept" in error
    assert "--index DIR" in error
    cli.ok("search", lookup_bundle, corpus, "water")
