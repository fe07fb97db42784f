"""A tokenizer with more tokens than the token table has rows is found at export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import AddedToken, Tokenizer

from embedrt import Embedder, SourceError, open_bundle
from embedrt_export.reference import load_reference
from embedrt_export.source import resolve
from embedrt_export.vocabulary import check_vocabulary
from tests import tiny
from tests.export.exporting import export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def _wordpiece(*added: str | AddedToken, special: str | None = None) -> Any:
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny.wordpiece_json()),
        cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]",
    )  # fmt: skip
    tokenizer.add_tokens(list(added))
    if special:
        tokenizer.add_special_tokens({"mask_token": special})
    return tokenizer


def test_as_many_rows_as_tokens() -> None:
    tokenizer = _wordpiece()
    assert check_vocabulary("m", tokenizer, len(tokenizer)) is None


@pytest.mark.parametrize("added", ["<user>", AddedToken("embedrt", single_word=True), "두부"], ids=str)
def test_a_text_that_becomes_an_id_without_a_row_is_shown(added: Any) -> None:
    tokenizer = _wordpiece(added)
    rows = len(tokenizer) - 1
    with pytest.raises(SourceError, match=rf"the text '{added!s}' becomes token id {rows}, and the .* {rows} rows"):
        check_vocabulary("m", tokenizer, rows)


def test_the_tokens_around_a_text_and_those_within_a_word_count() -> None:
    tokenizer = _wordpiece()
    with pytest.raises(SourceError, match=r"the text '' becomes token id 3, and the token table has 3 rows"):
        check_vocabulary("m", tokenizer, 3)
    inside = max(number for token, number in tokenizer.get_vocab().items() if token.startswith("##"))
    with pytest.raises(SourceError, match="becomes token id"):
        check_vocabulary("m", tokenizer, inside)


def test_ids_that_no_text_or_only_a_special_tokens_name_becomes_are_noted() -> None:
    tokenizer = _wordpiece(special="<later-mask>")
    note = check_vocabulary("m", tokenizer, len(tokenizer) - 1)
    assert note is not None
    assert note.startswith(f"1 of the tokenizer's ids lie beyond the token table's {len(tokenizer) - 1} rows")
    assert "'<later-mask>'" in note


def test_export_refuses_before_any_work_and_notes_the_harmless(tmp_path: Path) -> None:
    model = tiny.save_pipeline(tmp_path / "m")
    rows = transformers.AutoConfig.from_pretrained(model).vocab_size
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<extra-{i}>" for i in range(rows)]})
    tokenizer.save_pretrained(model)
    export(model, tmp_path / "noted")
    assert any("lie beyond the token table" in note for note in open_bundle(tmp_path / "noted").manifest.notes)
    tokenizer.add_tokens(["<user>"])
    tokenizer.save_pretrained(model)
    with pytest.raises(SourceError, match="the text '<user>' becomes token id"):
        export(model, tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("family", ["bert", "xlmr"])
def test_a_tokenizer_without_a_padding_token(make_bundle: Callable[..., Path], tmp_path: Path, family: str) -> None:
    """Padding is masked, so that any id pads; batches of unequal texts equal the model with its own padding."""
    model = tiny.save_pipeline(tmp_path / "m", family)
    with_padding = load_reference(resolve(model)).model.encode(["fox", "the lazy dog"], batch_size=2)
    tiny.edit_json(model / "tokenizer_config.json", pad_token=None)
    if (model / "special_tokens_map.json").is_file():  # before transformers 5
        tiny.edit_json(model / "special_tokens_map.json", pad_token=None)
    export(model, tmp_path / "b", variants=["fp32", "int8"])
    assert any("has no padding token" in note for note in open_bundle(tmp_path / "b").manifest.notes)
    with Embedder(tmp_path / "b", variant="fp32") as embedder:
        np.testing.assert_allclose(embedder.encode(["fox", "the lazy dog"]), with_padding, atol=1e-5)
