"""A bundle is called what its model is called, and never "model"."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from embedrt import Embedder, open_bundle
from embedrt_export.names import ModelName, find_name, says_something
from tests import tiny
from tests.export.exporting import export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

SHA = "274baa43b0e13e37fafa6428dbc7938e62e5c439"
CARD = "---\nlicense: mit\n{matter}---\n\n{title}\n\nText with\n# all-comments-1 in a later heading.\n"


@pytest.mark.parametrize(
    ("folder", "matter", "title", "stored_as", "expected"),
    [
        ("e5-small", "", "# other-1", "o/base-1", ModelName("e5-small")),
        (f"models--o--e5-small/snapshots/{SHA}", "", "", "", ModelName("o/e5-small", SHA, "the hub's cache")),
        ("models--bert-base/snapshots/main", "", "", "", ModelName("bert-base", "main", "the hub's cache")),
        ("model", "model-index:\n- name: e5-large\n", "# x-1", "", ModelName("e5-large", None, "its card")),
        ("model", "model_name: 'o/ko-e5'\n", "# x-1", "", ModelName("o/ko-e5", None, "its card")),
        ("model", "", "# all-MiniLM-L6-v2", "o/base-1", ModelName("all-MiniLM-L6-v2", None, "its card")),
        ("final_model", "", "## Multilingual-E5-large", "", ModelName("Multilingual-E5-large", None, "its card")),
        (SHA, "", "# {MODEL_NAME}", "o/base-1", ModelName("o/base-1", None, "config.json's _name_or_path")),
        ("model", "", "# SentenceTransformer based on o/base-1", "", ModelName("run-7", None, "the directory around")),
        ("checkpoint-500", "", "# Usage", "/tmp/abc/model", ModelName("run-7", None, "the directory around")),
        ("tmpk3j_x9q2", "", "", "./model", ModelName("run-7", None, "the directory around")),
    ],
)  # fmt: skip
def test_names(tmp_path: Path, folder: str, matter: str, title: str, stored_as: str, expected: ModelName) -> None:
    path = tmp_path / "run-7" / folder
    path.mkdir(parents=True)
    (path / "README.md").write_text(CARD.format(matter=matter, title=title))
    assert find_name(path, stored_as) == expected


def test_a_link_is_asked_by_its_own_name_then_by_its_aims(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--o--e5" / "snapshots" / SHA
    snapshot.mkdir(parents=True)
    (tmp_path / "model").symlink_to(snapshot)
    assert find_name(tmp_path / "model") == ModelName("o/e5", SHA, "the hub's cache")
    (tmp_path / "e5-mine").mkdir()
    (tmp_path / "latest").symlink_to("e5-mine")
    assert find_name(tmp_path / "latest") == ModelName("e5-mine")


@pytest.mark.parametrize("name", ["model", "Model", "my-model", "best_model", "model_v2", "checkpoint-500", "output",
                                  "final", "snapshots", SHA, "0_Transformer", "merged-model", ""])  # fmt: skip
def test_names_that_say_nothing(name: str) -> None:
    assert not says_something(name)


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "bge-m3", "ko-sroberta", "model-of-law", "modernbert", "e5"])
def test_names_that_say_something(name: str) -> None:
    assert says_something(name)


def test_nothing_says_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is the architecture and the weights' hash: never "model", and the same again for the same weights."""
    (tmp_path / "data").mkdir()
    model = tiny.save_pipeline(tmp_path / "data" / "out")
    (model.parent / "tmp").mkdir()
    monkeypatch.chdir(model.rename(model.parent / "tmp" / "model"))
    export(".", tmp_path / "b")
    manifest = open_bundle(tmp_path / "b").manifest
    assert manifest.name == manifest.source.model == f"bert-{manifest.source.sha256[:8]}"


def test_prompts_go_by_the_name_wherever_it_was_found(tmp_path: Path) -> None:
    """Under the hub's cache, by its card, by --name: the family's query prompt, and the bundle says who named it."""
    source = tiny.save_pipeline(tmp_path / "made", "xlmr")
    cached = tmp_path / "models--intfloat--multilingual-e5-small" / "snapshots" / SHA
    cached.parent.mkdir(parents=True)
    source.rename(cached)
    export(cached, tmp_path / "cached")
    manifest = open_bundle(tmp_path / "cached").manifest
    assert (manifest.name, manifest.source.model, manifest.source.revision) == (
        "multilingual-e5-small", "intfloat/multilingual-e5-small", SHA,
    )  # fmt: skip
    assert "named intfloat/multilingual-e5-small by the hub's cache" in manifest.notes
    plain = cached.rename(tmp_path / "model")
    export(plain, tmp_path / "named", name="multilingual-e5-small")
    (plain / "README.md").write_text("# multilingual-e5-small\n")
    export(plain, tmp_path / "card")
    identities = set()
    for bundle in ("cached", "named", "card"):
        with Embedder(tmp_path / bundle) as embedder:
            assert embedder.bundle.manifest.prompts.texts == {"query": "query: ", "passage": "passage: "}
            assert re.fullmatch("multilingual-e5-small", embedder.bundle.manifest.name)
            identities.add(embedder.identity)
    assert len(identities) == 1
