from __future__ import annotations

from pathlib import Path

import pytest

from embedrt.errors import OptionError
from embedrt.store.names import Name, as_name, home, parse_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("intfloat/multilingual-e5-small", Name("intfloat/multilingual-e5-small")),
        ("you/b.1_x@v2", Name("you/b.1_x", "v2")),
        ("you/b@refs/pr/1", Name("you/b", "refs/pr/1")),
        ("minilm", None),
        ("/srv/minilm", None),
        ("./a/b", None),
        ("../a", None),
        ("a/b/c", None),
        ("~/minilm", None),
        ("a b/c", None),
        ("a/ä", None),
        ("", None),
    ],
)
def test_what_is_a_name(text: str, name: Name | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert as_name(text) == name
    assert as_name(Path(text).absolute()) is None


def test_what_begins_with_a_folder_that_is_there_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundles").mkdir()
    assert as_name("bundles/misspelt") is None
    assert as_name("bundle/misspelt") == Name("bundle/misspelt")


def test_names_are_folders() -> None:
    assert Name("you/b").folder == "you--b"
    assert Name("you/b", "v2").folder == "you--b@v2"
    assert Name("you/b", "refs/pr/1").folder == "you--b@refs--pr--1"


def test_other_names_are_refused() -> None:
    assert parse_name("you/b@v2") == Name("you/b", "v2")
    with pytest.raises(OptionError, match=r"'minilm' is no name of the hub: OWNER/NAME"):
        parse_name("minilm")


def test_where_home_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("EMBEDRT_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".cache" / "embedrt"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert home() == tmp_path / "x" / "embedrt"
    monkeypatch.setenv("EMBEDRT_HOME", "~/bundles")
    assert home() == tmp_path / "bundles"
