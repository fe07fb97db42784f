"""What a user may set: checked values, views that share the model, and assignments that are refused."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder, ExecutorError, OptionError, TruncationWarning
from embedrt.settings import change, most_tokens, own_settings
from tests.encoders import make_spec
from tests.handmade import make_manifest, write_bundle

LONG = "the quick brown fox " * 40


def test_settings_come_from_the_bundle_and_change_one_by_one(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path).manifest
    own = own_settings(manifest)
    assert (own.max_tokens, own.truncate_dim, own.prompts) == (64, None, manifest.prompts)
    assert change(own, manifest) == own
    assert change(own, manifest, max_tokens=np.int64(8)) == replace(own, max_tokens=8)  # type: ignore[arg-type]
    assert change(own, manifest, truncate_dim=8) == replace(own, truncate_dim=8)
    other = change(own, manifest, prompts={"query": "q: ", "new": ""}, default_prompt_name="new")
    assert other.prompts.texts == {"query": "q: ", "passage": "passage: ", "new": ""}
    assert other.prompts.default_name == "new"
    assert own.prompts.texts["query"] == "query: "


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_tokens": 2}, "max_tokens must be between 3 and 64 for this model, not 2"),
        ({"max_tokens": 65}, "max_tokens must be between 3 and 64 for this model, not 65"),
        ({"max_tokens": "16"}, "max_tokens must be a whole number"),
        ({"truncate_dim": 33}, "truncate_dim=33 is more than the vector's 32 dimensions"),
        ({"truncate_dim": 0}, "truncate_dim must be a whole number"),
        ({"prompts": "query: "}, "prompts must be a dict of names and texts"),
        ({"prompts": {"query": None}}, "prompts must be a dict of names and texts"),
        ({"default_prompt_name": "sts"}, "there is no prompt 'sts'; there are: query, passage"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path).manifest
    with pytest.raises(OptionError, match=re.escape(message)):
        change(own_settings(manifest), manifest, **given)


@pytest.mark.parametrize(
    ("family", "positions", "pad", "most"),
    [("bert", 512, 0, 512), ("distilbert", 512, 0, 512), ("xlm-roberta", 514, 1, 512), ("mpnet", 514, 1, 512),
     ("modernbert", 8192, 0, 64), ("bert", 0, 0, 64)],
)  # fmt: skip
def test_texts_may_be_as_long_as_there_are_positions(
    tmp_path: Path, family: str, positions: int, pad: int, most: int
) -> None:
    write_bundle(tmp_path)
    manifest = make_manifest(tmp_path)
    numbers = replace(manifest.architecture, model_type=family, max_positions=positions, pad_token_id=pad)
    assert most_tokens(replace(manifest, architecture=numbers)) == most


def test_texts_may_be_as_long_as_the_encoder_says(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    manifest = replace(make_manifest(tmp_path), format_version=2, encoder=make_spec(max_tokens=60), max_tokens=32)
    assert most_tokens(manifest) == 60


@pytest.mark.parametrize("variant", ["int8", "fp32"])
def test_a_limit_may_be_set_up_to_the_positions(tiny_bundle: Path, variant: Any) -> None:
    with Embedder(tiny_bundle, variant=variant, num_threads=1, max_tokens=64) as longer:
        result = longer.encode_detailed(LONG)
        assert result.truncated[0].limit == longer.max_tokens == longer.max_seq_length == 64
        shorter = longer.with_options(max_tokens=16)
        with pytest.warns(TruncationWarning, match="cut at 16 tokens"):
            vector = shorter.encode(LONG)
        words = LONG.split()
        fitting = max(n for n in range(20) if longer.count_tokens(" ".join(words[:n])) <= 16)
        if longer.count_tokens(" ".join(words[:fitting])) == 16:
            np.testing.assert_allclose(vector, longer.encode(" ".join(words[:fitting])), atol=1e-6)
        assert len(shorter.encode_detailed(LONG, output_value="token_embeddings").embeddings) == 16
        assert [t.limit for block in shorter.encode_stream([LONG]) for t in block.truncated] == [16]
        assert longer.identity != shorter.identity
        assert shorter.with_options(max_tokens=64).identity == longer.identity


def test_a_view_shares_the_model_and_leaves_the_other_as_it_is(embedder: Embedder) -> None:
    view = embedder.with_options(truncate_dim=8, prompts={"query": "q: "}, default_prompt_name="query")
    assert view.encode("fox").shape == (8,)
    assert (view.dimension, view.truncate_dim, view.get_sentence_embedding_dimension()) == (8, 8, 8)
    np.testing.assert_array_equal(view.encode("fox"), embedder.encode("q: fox", truncate_dim=8))
    np.testing.assert_array_equal(
        view.encode("fox", truncate_dim=64, prompt=""), embedder.encode("fox", truncate_dim=64)
    )
    np.testing.assert_array_equal(view.encode_query("fox"), embedder.encode("q: fox", truncate_dim=8))
    np.testing.assert_array_equal(view.encode_document("fox"), embedder.encode("passage: fox", truncate_dim=8))
    assert view.encode("fox", output_value="token_embeddings").shape[1] == 64
    assert embedder.encode("fox").shape == (64,)
    assert embedder.prompts["query"] == "query: "
    assert view.identity == embedder.identify(truncate_dim=8, prompt="q: ")
    assert view._executor is embedder._executor
    assert copy.copy(view)._executor is embedder._executor
    assert copy.copy(view).identity == view.identity


def test_arguments_and_views_set_the_same(tiny_bundle: Path, embedder: Embedder) -> None:
    settings: dict[str, Any] = {
        "max_tokens": 32,
        "truncate_dim": 16,
        "prompts": {"a": "b: "},
        "default_prompt_name": "a",
    }
    with Embedder(tiny_bundle, variant="fp32", num_threads=1, **settings) as made:
        view = embedder.with_options(**settings)
        assert made.identity == view.identity != embedder.identity
        np.testing.assert_array_equal(made.encode("fox"), view.encode("fox"))


def test_closing_one_closes_all_that_share_the_model(tiny_bundle: Path) -> None:
    with Embedder(tiny_bundle).with_options(truncate_dim=8) as view:
        other = view.with_options(truncate_dim=16)
    with pytest.raises(ExecutorError, match="closed"):
        other.encode("fox")


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("max_seq_length", 16, "with_options(max_tokens=...)"),
        ("max_tokens", 16, "with_options(max_tokens=...)"),
        ("truncate_dim", 8, "with_options(truncate_dim=...)"),
        ("prompts", {"a": "b"}, "with_options(prompts=...)"),
        ("default_prompt_name", "query", "with_options(default_prompt_name=...)"),
        ("device", "cuda", "Embedder(..., device=...)"),
        ("variant", "int8", "Embedder(..., variant=...)"),
        ("similarity_fn_name", "dot", "embedrt.util"),
        ("bundle", None, "does not change after it is made"),
        ("identity", "x", "does not change after it is made"),
        ("max_sequence_length", 16, "does not change after it is made"),
    ],
)
def test_an_assignment_that_would_change_nothing_is_refused(
    name: str, value: object, instead: str, embedder: Embedder
) -> None:
    with pytest.raises(AttributeError, match=rf"Embedder\.{name} cannot be set: .*{re.escape(instead)}"):
        setattr(embedder, name, value)


def test_a_subclass_may_keep_attributes_of_its_own(tiny_bundle: Path) -> None:
    class Counting(Embedder):
        def __init__(self, bundle: Path) -> None:
            super().__init__(bundle, variant="int8", num_threads=1)
            self.calls = 0

    with Counting(tiny_bundle) as made:
        made.calls += 1
        assert type(made.with_options(truncate_dim=8)) is Counting
        assert made.with_options(truncate_dim=8).calls == 1
        with pytest.raises(AttributeError, match=r"Counting\.max_seq_length cannot be set"):
            made.max_seq_length = 16  # type: ignore[misc]
