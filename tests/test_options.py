from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from embedrt.bundle import PARITY_VECTORS, Bundle
from embedrt.errors import OptionError
from embedrt.manifest import BundleFile
from embedrt.options import EncodeOptions, identity_of, identity_parts, parse_options
from tests.handmade import PROMPTS, write_bundle


def parse(kind: Any = "encode", truncate_dim_set: int | None = None, **given: Any) -> EncodeOptions:
    return parse_options(given, kind, PROMPTS, 32, truncate_dim=truncate_dim_set, device="cpu")


def test_defaults() -> None:
    assert parse() == EncodeOptions(prompt="")
    assert parse("query") == EncodeOptions(prompt="query: ")
    assert parse("document") == EncodeOptions(prompt="passage: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("output_value", "token_embeddings"),
        ("precision", "int8"),
        ("precision", "ubinary"),
        ("normalize_embeddings", True),
        ("truncate_dim", 1),
        ("truncate_dim", 32),
        ("on_overflow", "error"),
        ("batch_size", 1),
        ("show_progress_bar", True),
    ],
)
def test_a_value_is_kept(name: str, value: object) -> None:
    assert parse(**{name: value}) == replace(EncodeOptions(prompt=""), **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"normalise_embeddings": True}, "unknown option 'normalise_embeddings'; did you mean 'normalize_embeddings'?"),
        ({"sentences": ["a"]}, "unknown option 'sentences'"),
        ({"xyz": 1}, "unknown option 'xyz'; there are: prompt_name, prompt, batch_size"),
        ({"precision": "fp16"}, "precision must be one of float32, int8, uint8, binary, ubinary, None, not 'fp16'"),
        ({"output_value": "sparse"}, "output_value must be one of sentence_embedding, token_embeddings, None, not 'sp"),
        ({"output_value": None, "precision": "int8"}, "output_value=None does not go with precision"),
        ({"on_overflow": "cut"}, "on_overflow must be one of truncate, error, windows, not 'cut'"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": -3}, "not -3"),
        ({"batch_size": 2.5}, "not 2.5"),
        ({"batch_size": True}, "not True"),
        ({"truncate_dim": 0}, "truncate_dim must be a whole number of at least 1, not 0"),
        ({"truncate_dim": 33}, "truncate_dim=33 is more than the vector's 32 dimensions"),
        ({"normalize_embeddings": "no"}, "normalize_embeddings must be True or False, not 'no'"),
        ({"convert_to_tensor": "yes"}, "convert_to_tensor must be True or False, not 'yes'"),
        ({"device": "cuda"}, "this model runs on cpu and cannot move to 'cuda' for a call"),
        ({"device": "mps"}, "cannot move to 'mps'"),
        ({"device": ["cpu", "cpu"]}, "cannot move to ['cpu', 'cpu']"),
        ({"pool": {"input": 1}}, "there is no pool of processes here"),
        ({"prompts": {"a": "b"}}, "unknown option 'prompts'; prompts are set once: Embedder(..., prompts=...)"),
        ({"max_length": 16}, "unknown option 'max_length'; the limit is set once: Embedder(..., max_tokens=...)"),
        ({"max_seq_length": 16}, "with_options(max_tokens=...)"),
        ({"convert_to_numpy": "no"}, "convert_to_numpy must be True or False, not 'no'"),
        ({"output_value": "token_embeddings", "truncate_dim": 8}, "goes with neither truncate_dim nor precision"),
        ({"output_value": "token_embeddings", "precision": "int8"}, "goes with neither truncate_dim nor precision"),
        ({"prompt": 3}, "prompt must be a string, not int"),
        ({"prompt_name": ["query"]}, "prompt_name must be a string, not list"),
        ({"prompt_name": "sts"}, "there is no prompt 'sts'"),
        ({"task": "Find"}, "task='Find' goes with queries only"),
        ({"kind": "passage"}, "kind must be one of encode, query, document, not 'passage'"),
    ],
)
def test_a_wrong_option_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        parse(**given)


def test_what_sentence_transformers_users_pass_is_accepted() -> None:
    assert parse(convert_to_numpy=True, convert_to_tensor=False, batch_size=64) == EncodeOptions("", batch_size=64)
    harmless = {"device": None, "pool": None, "chunk_size": 512, "precision": None, "task": None}
    assert parse(**harmless) == EncodeOptions("")
    assert parse(device="cpu") == parse(device=torch.device("cpu")) == EncodeOptions("")


def test_a_tensor_is_given_where_torch_is_imported_and_refused_with_advice_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert parse(convert_to_tensor=True).container == "tensor"
    assert parse(convert_to_tensor=True, convert_to_numpy=False).container == "tensor"
    assert parse(convert_to_numpy=False).container == "tensors"
    assert parse(convert_to_tensor=True, output_value="token_embeddings").container == "array"
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(OptionError, match=r"tensors where torch is imported before the call; torch.from_numpy"):
        parse(convert_to_tensor=True)
    with pytest.raises(OptionError, match="embedrt gives numpy arrays"):
        parse(convert_to_numpy=False)


def test_a_dimension_that_was_set_holds_where_the_call_gives_none() -> None:
    assert parse(truncate_dim_set=8).truncate_dim == 8
    assert parse(truncate_dim_set=8, truncate_dim=4).truncate_dim == 4
    assert parse(truncate_dim_set=8, output_value="token_embeddings").truncate_dim is None


def test_an_option_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        parse(batch_size=0)


class TestIdentity:
    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Bundle:
        return write_bundle(tmp_path)

    def identity(self, bundle: Bundle, variant: str = "fp32", pooling: Any = ("mean",), **given: Any) -> str:
        return identity_of(
            identity_parts(bundle.manifest, variant, pooling, bundle.manifest.max_tokens), parse(**given)
        )

    def test_is_what_it_was(self, bundle: Bundle) -> None:
        """Indexes are kept by it."""
        assert self.identity(bundle) == "4fcdc54147143286"
        assert (
            self.identity(bundle, "int8", ("cls",), kind="query", truncate_dim=8, precision="int8")
            == "2c18d3cf49d14a8a"
        )

    def test_of_codes_changes_with_their_ranges(self, bundle: Bundle) -> None:
        """And of nothing else: floats and bits have none."""
        files = (*bundle.manifest.files, BundleFile(PARITY_VECTORS, 1, "1" * 64))
        wider = replace(bundle, manifest=replace(bundle.manifest, format_version=4, code_width=5.0, files=files))
        others = (BundleFile(PARITY_VECTORS, 1, "2" * 64), *bundle.manifest.files)
        moved = replace(wider, manifest=replace(wider.manifest, files=others))
        for precision in ("int8", "uint8"):
            found = {self.identity(one, precision=precision) for one in (bundle, wider, moved)}
            assert len(found) == 3
        for precision in ("float32", "ubinary"):
            assert len({self.identity(one, precision=precision) for one in (bundle, wider, moved)}) == 1

    def test_is_16_hex_digits_and_repeatable(self, bundle: Bundle) -> None:
        assert re.fullmatch("[0-9a-f]{16}", self.identity(bundle))
        assert self.identity(bundle) == self.identity(bundle)

    def test_does_not_depend_on_where_the_bundle_lies(self, bundle: Bundle, tmp_path: Path) -> None:
        assert self.identity(write_bundle(tmp_path / "elsewhere")) == self.identity(bundle)

    @pytest.mark.parametrize(
        "given",
        [
            {"variant": "int8"},
            {"pooling": ("cls",)},
            {"pooling": ("mean", "cls")},
            {"prompt": "x: "},
            {"prompt_name": "query"},
            {"precision": "int8"},
            {"normalize_embeddings": True},
            {"truncate_dim": 16},
            {"output_value": "token_embeddings"},
        ],
    )
    def test_changes_with_what_changes_vectors(self, bundle: Bundle, given: dict[str, Any]) -> None:
        assert self.identity(bundle, **given) != self.identity(bundle)

    @pytest.mark.parametrize(
        "given", [{"batch_size": 7}, {"show_progress_bar": True}, {"on_overflow": "error"}, {"prompt": ""}]
    )
    def test_keeps_with_what_does_not(self, bundle: Bundle, given: dict[str, Any]) -> None:
        assert self.identity(bundle, **given) == self.identity(bundle)

    def test_depends_on_the_prompt_and_not_on_its_name(self, bundle: Bundle) -> None:
        assert self.identity(bundle, prompt="query: ") == self.identity(bundle, prompt_name="query")
        assert self.identity(bundle, prompt="query: ") == self.identity(bundle, kind="query")

    @pytest.mark.parametrize(
        "changes", [{"max_tokens": 63}, {"name": "other"}, {"created": "2027-01-01T00:00:00Z"}], ids=str
    )
    def test_limits_count_and_labels_do_not(self, bundle: Bundle, tmp_path: Path, changes: dict[str, Any]) -> None:
        other = write_bundle(tmp_path / "other", changes)
        assert (self.identity(other) == self.identity(bundle)) == ("max_tokens" not in changes)
