"""Texts that tokenize, and that the model cannot run: no tokens at all, or a token without a row in its table."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder, InputError, NoTokensError, TokenIdError
from embedrt.bundle import describe_file
from tests import tiny

POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
MISSING = "zzyzx"  # a token that `with_added_token` gives, beyond the 400 rows of the table


def with_tokenizer(bundle: Path, copy: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the bundle with another tokenizer.json, right in the manifest too."""
    shutil.copytree(bundle, copy)
    tiny_json = json.loads((copy / "tokenizer.json").read_text())
    edit(tiny_json)
    (copy / "tokenizer.json").write_text(json.dumps(tiny_json))
    manifest = json.loads((copy / "manifest.json").read_text())
    file = describe_file(copy, "tokenizer.json")
    for entry in manifest["files"]:
        if entry["path"] == file.path:
            entry |= {"size": file.size, "sha256": file.sha256}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


@pytest.fixture(scope="module")
def bare_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tokenizer adds no special tokens, so that "" has no tokens."""
    return with_tokenizer(
        tiny_bundle, tmp_path_factory.mktemp("bare") / "bundle", lambda data: data.update(post_processor=None)
    )


@pytest.fixture(scope="module")
def wide_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tokenizer has a token more than the model has rows."""
    added = {"id": 400, "content": MISSING, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": False}  # fmt: skip
    return with_tokenizer(
        tiny_bundle, tmp_path_factory.mktemp("wide") / "bundle", lambda data: fill(data)["added_tokens"].append(added)
    )


def fill(data: dict[str, Any]) -> dict[str, Any]:
    """Vocabulary up to id 399, so that the next token added gets id 400."""
    vocabulary = data["model"]["vocab"]
    for number in range(len(vocabulary), 400):
        vocabulary[f"[unused{number}]"] = number
    return data


@pytest.fixture(params=["native", "onnxruntime"])
def executor(request: pytest.FixtureRequest) -> str:
    if request.param == "native":
        pytest.importorskip("embedrt.executors.native").load_library()
    return str(request.param)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_text_without_tokens_is_refused_by_its_index(bare_bundle: Path, executor: str, pooling: str) -> None:
    """sentence-transformers raises an IndexError for it alone; beside others its vector is zeros, NaN or a padding
    token's, as the pooling has it."""
    with Embedder(bare_bundle, variant="int8", executor=executor, pooling=pooling) as embedder:
        for texts, index in ((["fox", "", "dog"], 1), (["fox", "dog", "fox", " "], 3)):
            with pytest.raises(NoTokensError, match=f"text {index}: has no tokens") as raised:
                embedder.encode(texts)
            assert raised.value.index == index
        with pytest.raises(NoTokensError):
            embedder.encode("")
        with pytest.raises(InputError, match="no tokens"):
            embedder.encode(["fox", ""], output_value="token_embeddings")
        assert np.isfinite(embedder.encode("", prompt="fox ")).all()


def test_a_stream_skips_a_text_without_tokens(bare_bundle: Path, executor: str) -> None:
    with Embedder(bare_bundle, variant="int8", executor=executor) as embedder:
        (block,) = embedder.encode_stream(["fox", "", "dog", ""], on_error="skip")
        assert block.indices == (0, 2)
        assert [item.index for item in block.skipped] == [1, 3]
        assert block.skipped[1].reason.startswith("text 3: has no tokens")
        np.testing.assert_allclose(block.embeddings, embedder.encode(["fox", "dog"]), atol=2e-6)
        assert next(embedder.encode_stream([""], on_error="skip")).embeddings.shape == (0, 64)


def test_a_token_without_a_row_names_the_text(wide_bundle: Path, executor: str) -> None:
    with Embedder(wide_bundle, variant="int8", executor=executor) as embedder:
        message = re.escape(f"text 2: has token 400 ('{MISSING}'), the model's table has 400 rows")
        with pytest.raises(TokenIdError, match=message) as raised:
            embedder.encode(["fox", "dog", f"fox {MISSING}"])
        assert raised.value.index == 2
        beyond_the_cut = "fox " * 60 + MISSING
        assert embedder.encode_detailed(beyond_the_cut).embeddings.shape == (64,)


def test_a_stream_skips_a_token_without_a_row(wide_bundle: Path, executor: str) -> None:
    with Embedder(wide_bundle, variant="int8", executor=executor) as embedder:
        (block,) = embedder.encode_stream(["fox", MISSING, "dog"], on_error="skip")
        assert block.indices == (0, 2)
        assert block.skipped[0].reason.startswith("text 1: has token 400")
        np.testing.assert_allclose(block.embeddings, embedder.encode(["fox", "dog"]), atol=2e-6)


def test_negative_ids_are_beyond_the_table_too(embedder: Embedder) -> None:
    embedder.tokenizer.check(np.array([0, 399], np.int32))
    with pytest.raises(TokenIdError, match="text 5: has token -1, "):
        embedder.tokenizer.check(np.array([3, -1], np.int32), 5)
    assert tiny.FAMILIES["bert"]()[0].vocab_size == embedder.tokenizer.num_rows == 400
