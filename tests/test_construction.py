"""What newcomers write out of habit: keywords, attributes and classes of other libraries lead to ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import embedrt
from embedrt import BundleNotFoundError, Embedder, InputTypeError, Model, OptionError, Reranker

KEYWORDS = {
    "threads": "did you mean 'num_threads'?",
    "truncate_dims": "did you mean 'truncate_dim'?",
    "model_name_or_path": "is the first argument",
    "trust_remote_code": "'embedrt export --trust-remote-code'",
    "backend": "variant= says",
    "max_seq_length": "max_tokens= is the limit",
    "cache_folder": "EMBEDRT_HOME",
    "revision": "OWNER/NAME@REVISION",
    "local_files_only": "HF_HUB_OFFLINE=1",
    "normalize_embeddings": "encode(..., normalize_embeddings=...)",
    "colour": "there are: bundle, variant, device",
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_a_keyword_of_another_library_leads_to_ours(name: str, tmp_path: Path) -> None:
    """Said before the bundle is looked for."""
    given: dict[str, Any] = {name: 1}
    with pytest.raises(OptionError) as refused:
        Embedder(tmp_path / "none", **given)
    assert str(refused.value).startswith(f"Embedder has no option {name!r}; ")
    assert KEYWORDS[name] in str(refused.value)


@pytest.mark.parametrize("kind", [Reranker, Model])
def test_every_class_says_its_own_name(kind: Any) -> None:
    with pytest.raises(OptionError, match=f"{kind.__name__} has no option 'thread'; did you mean 'num_threads'"):
        kind("none", thread=1)


def test_settings_are_suggested_as_well(embedder: Embedder) -> None:
    wrong: Any = embedder.with_options
    with pytest.raises(OptionError, match="no option 'max_seq_length'; max_tokens= is the limit"):
        wrong(max_seq_length=16)


def test_a_subclass_keeps_its_own_keywords(tiny_bundle: Path) -> None:
    class Mine(Embedder):
        def __init__(self, bundle: Path, *, colour: str) -> None:
            super().__init__(bundle, variant="fp32", num_threads=1)
            self.colour = colour

    with Mine(tiny_bundle, colour="red") as made:
        assert made.colour == "red"


@pytest.mark.parametrize(
    ("name", "ours"),
    [("SentenceTransformer", "Embedder"), ("CrossEncoder", "Reranker"), ("encode", "Embedder(BUNDLE)")],
)
def test_a_class_of_another_library_leads_to_ours(name: str, ours: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}'; here it is ") as refused:
        getattr(embedrt, name)
    assert ours in str(refused.value)


def test_documented_modules_are_there_without_importing_each(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("util", "databases", "sentences"):
        monkeypatch.delitem(sys.modules, f"embedrt.{name}", raising=False)
        monkeypatch.delattr(embedrt, name, raising=False)
        assert getattr(embedrt, name).__name__ == f"embedrt.{name}"


def test_what_was_given_instead_of_texts_is_named(embedder: Embedder) -> None:
    for given, said in (
        (None, "not None"),
        ([["a", "b"]], "pairs of them into embedrt.Reranker"),
        ([("a", "b")], "tuple"),
    ):
        with pytest.raises(InputTypeError, match=said):
            embedder.encode(given)  # type: ignore[call-overload]


def test_a_bare_name_is_told_what_names_look_like(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleNotFoundError, match="a name has its owner before it, such as intfloat/"):
        Embedder("all-MiniLM-L6-v2")
    with pytest.raises(BundleNotFoundError) as refused:
        Embedder(tmp_path / "minilm")
    assert "owner" not in str(refused.value)
