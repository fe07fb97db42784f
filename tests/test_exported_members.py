"""The public surface: sorted, complete, and documented."""

from __future__ import annotations

import inspect
import types

import pytest

import embedrt
from embedrt import errors


def test_all_is_sorted() -> None:
    assert embedrt.__all__ == sorted(embedrt.__all__)


def test_all_is_what_the_module_holds() -> None:
    for name in embedrt.__all__:
        getattr(embedrt, name)  # some are loaded at first use
    public = {
        name
        for name, value in vars(embedrt).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(embedrt.__all__) == public | {"__version__"}


def test_every_error_is_exported_and_of_the_tree() -> None:
    tree = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert tree <= set(embedrt.__all__)
    assert all(issubclass(getattr(errors, name), errors.EmbedrtError) for name in tree)
    assert all(name in str(errors.__doc__) for name in tree), "the docstring draws the tree"


@pytest.mark.parametrize("name", [name for name in embedrt.__all__ if name != "__version__"])
def test_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(embedrt, name))


def test_dir_shows_what_is_not_loaded_yet() -> None:
    assert dir(embedrt) == embedrt.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'SentenceTransformer'"):
        _ = embedrt.SentenceTransformer
