"""What transformers makes of a directory's tokenizer.json: a lost normalizer comes back, a setting stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from packaging.version import Version
from tokenizers import Tokenizer

from embedrt import Embedder
from embedrt.opening import open_bundle
from embedrt_export.tokenizer_file import settle_tokenizer
from tests import tiny
from tests.export.exporting import export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

WIDE = "ｆｏｘ：the ｑｕｉｃｋ one，№２"  # which NFKC, the tiny tokenizer's normalizer, makes narrow
LOSES = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5"), reason="transformers 4 reads tokenizer.json as it is"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """XLM-R's shape under the class that builds its own tokenizer."""
    folder = tiny.save_pipeline(tmp_path / "m", "xlmr")
    tiny.edit_json(folder / "tokenizer_config.json", tokenizer_class="XLMRobertaTokenizer")
    return folder


def ids(file: Path) -> list[int]:
    found: list[int] = Tokenizer.from_file(str(file)).encode(WIDE).ids
    return found


@LOSES
def test_a_lost_normalizer_is_given_back_to_reference_and_bundle(model: Path, tmp_path: Path) -> None:
    assert transformers.AutoTokenizer.from_pretrained(model)(WIDE)["input_ids"] != ids(model / "tokenizer.json")
    export(model, tmp_path / "b")
    assert ids(tmp_path / "b" / "tokenizer.json") == ids(model / "tokenizer.json")
    (note,) = [note for note in open_bundle(tmp_path / "b").manifest.notes if "tokenizer.json" in note]
    assert "left out the normalizer of tokenizer.json, which the reference was given back" in note
    assert "of 287 built-in texts would have other token ids" in note
    # As the plain class, which reads the file as it is, has it.
    tiny.edit_json(model / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    export(model, tmp_path / "plain")
    with Embedder(tmp_path / "b") as one, Embedder(tmp_path / "plain") as other:
        np.testing.assert_array_equal(one.encode(WIDE), other.encode(WIDE))
    assert not [note for note in open_bundle(tmp_path / "plain").manifest.notes if "tokenizer.json" in note]


def test_settings_beside_the_file_count(tmp_path: Path) -> None:
    """A cased tokenizer.json whose config says that texts are lower-cased, as versions 4 and 5 do."""
    folder = tiny.save_pipeline(tmp_path / "m")
    data: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())
    tiny.edit_json(folder / "tokenizer.json", normalizer={**data["normalizer"], "lowercase": False})
    tiny.edit_json(folder / "tokenizer_config.json", do_lower_case=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    before = tokenizer("The FOX")["input_ids"]
    (note,) = settle_tokenizer(tokenizer)
    assert "reads tokenizer.json otherwise by its settings, which count" in note
    assert tokenizer("The FOX")["input_ids"] == before


@pytest.mark.parametrize("family", ["bert", "xlmr", "distilbert"])
def test_equal_tokenizers_need_no_note(tmp_path: Path, family: str) -> None:
    folder = tiny.save_pipeline(tmp_path / "m", family)
    assert settle_tokenizer(transformers.AutoTokenizer.from_pretrained(folder)) == ()


def test_a_tokenizer_without_a_file_is_left_as_it_is(model: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    (model / "tokenizer.json").unlink()
    assert settle_tokenizer(tokenizer) == ()
