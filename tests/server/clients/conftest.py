"""Servers for other people's clients, and the vectors that they must get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from tests.server.clients.harness import KEY, QUERY, TEXTS, Client, check, install_python
from tests.server.serving import Served, serving

_OPTIONS = {"variant": "fp32", "api_keys": (KEY,), "alias": ("text-embedding-3-small=lookup",)}


@pytest.fixture(scope="session")
def with_key(lookup_bundle: Path) -> Iterator[Served]:
    """A server as its users start it, with a key and a name that clients know."""
    with serving(lookup_bundle, **_OPTIONS) as made:
        yield made


@pytest.fixture(scope="session")
def tiktoken_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cl100k_base's file as tiktoken keeps it: litellm's wheel has it."""
    python = install_python(tmp_path_factory.mktemp("litellm"), ["litellm==1.110.2"])
    return next(python.parents[1].glob("lib/python*/site-packages/litellm/litellm_core_utils/tokenizers"))


@pytest.fixture(scope="session")
def decoding(lookup_bundle: Path, tiktoken_folder: Path) -> Iterator[Served]:
    """A server that takes OpenAI's token ids."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(tiktoken_folder))
        with serving(lookup_bundle, token_ids="cl100k_base", **_OPTIONS) as made:
            yield made


@pytest.fixture
def checked(library: Embedder) -> Callable[[Client, dict[str, object]], None]:
    """Compares what a client got with the library's vectors."""

    def embed(texts: list[str], raw: bool) -> np.ndarray:
        if not raw:
            return np.asarray(library.encode(texts))
        return np.stack([rows.mean(axis=0) for rows in library.encode(texts, output_value="token_embeddings")])

    def compare(client: Client, found: dict[str, object]) -> None:
        check(found, embed(TEXTS, client.raw), embed([QUERY], client.raw)[0])

    return compare
