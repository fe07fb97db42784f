"""Names of models: aliases, and what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import openai
import pytest

from embedrt.errors import OptionError
from embedrt.server.models import open_bundles, parse_aliases
from tests.server.serving import serving
from tests.server.test_config import load


def test_an_alias_is_another_name_of_the_same_model(lookup_bundle: Path, library):
    aliases = ("text-embedding-3-small=one", "nomic-embed-text:latest=two:query")
    with serving(f"one={lookup_bundle}", f"two={lookup_bundle}", variant="fp32", alias=aliases) as server:
        assert len(list(server.service.models)) == 2  # engines, and so memory
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
            for name, wanted in (
                ("text-embedding-3-small", library.encode("stone")),
                ("text-embedding-3-small:document", library.encode_document("stone")),
                ("nomic-embed-text:latest", library.encode_query("stone")),
            ):
                answer = client.embeddings.create(model=name, input="stone")
                assert (answer.data[0].embedding, answer.model) == (wanted.tolist(), name)
            assert [model.id for model in client.models.list()][-2:] == [alias.split("=")[0] for alias in aliases]
            assert client.models.retrieve("nomic-embed-text:latest").id == "nomic-embed-text:latest"
            with pytest.raises(openai.NotFoundError):
                client.embeddings.create(model="nomic-embed-text", input="stone")


@pytest.mark.parametrize(
    ("alias", "message"),
    [
        ("x", "must be ALIAS=NAME, not 'x'"),
        ("=m", "must be ALIAS=NAME"),
        ("x=", "must be ALIAS=NAME"),
        ("x=nobody", "there is no model 'nobody'; there are: m"),
        ("x=m:passage", "there is no model 'm:passage'"),
        ("m=m", "'m' is taken"),
    ],
)
def test_aliases_that_are_refused(lookup_bundle: Path, alias: str, message: str):
    with pytest.raises(OptionError, match=message):
        parse_aliases((alias,), open_bundles((f"m={lookup_bundle}",)))


def test_one_alias_names_one_model(lookup_bundle: Path):
    bundles = open_bundles((f"a={lookup_bundle}", f"b={lookup_bundle}"))
    assert parse_aliases(("x=a", "x=a"), bundles) == {"x": "a"}
    with pytest.raises(OptionError, match="'x' is taken"):
        parse_aliases(("x=a", "x=b"), bundles)


def test_a_list_is_given_with_commas_or_by_repeating_the_flag(cli, tmp_path: Path):
    shown = cli.ok("serve", "b", "--alias", "x=b,y=b", "--alias", "z=b", "--print-config").stdout
    assert 'alias = ["x=b", "y=b", "z=b"]  # flag' in shown
    assert load(tmp_path, 'alias = ["x=b"]').settings.alias == ("x=b",)


def test_the_folder_that_was_typed_is_a_name(lookup_bundle: Path, tmp_path: Path, library):
    """`embedrt export OWNER/NAME minilm`, `embedrt serve minilm`, and "model": "minilm", as README has it."""
    shutil.copytree(lookup_bundle, tmp_path / "minilm")
    wanted = library.encode(["water"])
    with serving(str(tmp_path / "minilm"), variant="fp32", alias=("text-embedding-3-small=minilm:query",)) as server:
        assert server.get("/v1/models").json()["data"][0]["id"] == "lookup"
        for name in ("lookup", "minilm"):
            made = server.post("/v1/embeddings", {"model": name, "input": ["water"]}).json()["data"][0]["embedding"]
            np.testing.assert_allclose(made, wanted[0], atol=1e-6)
        asked = server.post("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["water"]}).json()
        np.testing.assert_allclose(asked["data"][0]["embedding"], library.encode_query(["water"])[0], atol=1e-6)
        assert server.post("/v1/embeddings", {"model": "mini", "input": ["water"]}).status_code == 404
