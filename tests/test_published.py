"""Numbers that others published: STS-B, a vector from Ollama, token ids in 205 languages; and the main model's recipes.

The data lies beside a checkout on some machines; elsewhere these tests skip, by name.
"""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.parity.metrics import correlation, ranks
from embedrt.tokenization import TextTokenizer

STSB_SPEARMAN = 82.03  # all-MiniLM-L6-v2 on STS-B English test, as its authors and MTEB publish it
CLS_PREFIX = "주어진 문장을 임베딩으로 변환: "


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("variant", "tolerance"), [("fp32", 0.02), ("fp16", 0.02), ("int8", 0.15)])
def test_stsb_spearman_is_the_published_one(
    minilm_bundle: Path, shared_data: Path, variant: str, tolerance: float
) -> None:
    with (shared_data / "stsb_multi_mt" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    with Embedder(minilm_bundle, variant=variant) as embedder:
        first, second = (embedder.encode([row[i] for row in rows]) for i in (0, 1))
    gold = np.array([float(row[2]) for row in rows])
    cosines = (first * second).sum(axis=1).astype(np.float64)
    assert abs(100 * correlation(ranks(cosines), ranks(gold)) - STSB_SPEARMAN) <= tolerance


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_vector_that_ollama_gives(minilm_bundle: Path, shared_data: Path) -> None:
    published = np.array(
        json.loads((shared_data / "reference_vectors" / "ollama_embed.json").read_text())["all-minilm:latest"]
    )
    with Embedder(minilm_bundle, variant="fp32") as embedder:
        ours = embedder.encode("why is the sky blue?")
    assert ours @ published / np.linalg.norm(published) > 0.99999


def test_token_ids_equal_the_published_ones(shared_data: Path) -> None:
    tokenizer = TextTokenizer(shared_data / "me5_large_instruct" / "tokenizer.json", 512)
    cases = json.loads((shared_data / "tokenizer_refs" / "reference_ids.json").read_text(encoding="utf-8"))
    assert len(cases) > 60
    assert tokenizer.ids([case["text"] for case in cases]) == [case["ids"] for case in cases]
    for case in cases:
        short = tokenizer.short_ids(case["text"])
        assert short is None or short.tolist() == case["ids"]


def test_token_ids_equal_hugging_faces_in_205_languages(shared_data: Path) -> None:
    tokenizer = TextTokenizer(shared_data / "me5_large_instruct" / "tokenizer.json", 512)
    with gzip.open(shared_data / "tokenizer_refs" / "hf_tokenizers_ids.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    assert len(rows) > 80_000
    for start in range(0, len(rows), 4096):
        part = rows[start : start + 4096]
        assert tokenizer.ids([row["t"] for row in part]) == [row["i"] for row in part]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recipe", ["card", "cls"])
def test_both_recipes_of_the_main_model_with_its_own_tokenizer(tmp_path: Path, shared_data: Path, recipe: str) -> None:
    """Its files and shape, two layers of seeded weights with outliers: every gate is kept in both recipes."""
    import torch
    import transformers

    from embedrt_export import export
    from tests.tiny import imitate_training

    model = tmp_path / "multilingual-e5-large-instruct"
    shutil.copytree(shared_data / "me5_large_instruct", model, ignore=shutil.ignore_patterns("*pointer", "onnx"))
    config = transformers.AutoConfig.from_pretrained(model, num_hidden_layers=2)
    torch.manual_seed(0)
    encoder = transformers.XLMRobertaModel(config).eval()
    options = {}
    if recipe == "cls":
        prompts = tmp_path / "prompts.json"
        prompts.write_text(json.dumps({"prompts": {"all": CLS_PREFIX}, "default_prompt_name": "all"}))
        options = {"pooling": "cls", "prompts": prompts}
    imitate_training(encoder)
    encoder.half().save_pretrained(model)
    report = export(model, tmp_path / "bundle", **options)
    assert report.passed
    with Embedder(tmp_path / "bundle", variant="fp32") as embedder:
        manifest = embedder.bundle.manifest
        assert manifest.variants["int8"].recipe["kept_float32"] == []  # gates are kept with room, without help
        prompts_of = manifest.prompts
        expected = {"card": {"query": "Instruct: {task}\nQuery: "}, "cls": {"all": CLS_PREFIX}}[recipe]
        assert prompts_of.texts == expected
        assert embedder.pooling == (("mean",) if recipe == "card" else ("cls",))
