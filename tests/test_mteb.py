"""mteb's model: what each role of a text gets, and a task of mteb's own kinds run on local data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from embedrt import Embedder, OptionError
from tests import tiny

FIRST = [*tiny.CORPUS, "a fox", "the dog jumps", "quick brown"]
SECOND = ["the brown fox", "every day", "오늘", "今日は", "南瓜", "Где", "اليوم", "Test", "fox", "lazy dog", "how much"]
SCORES = [4.0, 3.0, 2.5, 2.0, 1.0, 0.0, 1.5, 3.5, 5.0, 4.5, 0.5]


@pytest.fixture(scope="module")
def mteb() -> Any:
    return pytest.importorskip("mteb", minversion="2", reason="mteb 2, the benchmark, is not installed")


@pytest.fixture(scope="module")
def instruct_bundle(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle("bert", prompts={"query": "Instruct: {task}\nQuery: "})


def metadata(prompt: Any = None, name: str = "Local", kind: str = "STS") -> Any:
    return SimpleNamespace(name=name, type=kind, prompt=prompt)


def encoded(model: Any, texts: list[str], task: Any, role: str | None) -> np.ndarray:
    batches = [{"text": texts[:2]}, {"text": texts[2:]}]
    return model.encode(batches, task_metadata=task, hf_split="test", hf_subset="default", prompt_type=role)


def test_plain_prompts_go_before_queries_and_documents(mteb: Any, tiny_bundle: Path) -> None:
    from embedrt.mteb import MtebModel

    model = MtebModel(tiny_bundle, variant="fp32", num_threads=1)
    task = metadata("ignored: these prompts are no templates")
    np.testing.assert_array_equal(encoded(model, FIRST, task, "query"), model.model.encode_query(FIRST))
    np.testing.assert_array_equal(encoded(model, FIRST, task, "document"), model.model.encode_document(FIRST))
    np.testing.assert_array_equal(encoded(model, FIRST, task, None), model.model.encode(FIRST))
    alike = MtebModel(model.model, alike_prompt="query: ")
    np.testing.assert_array_equal(encoded(alike, FIRST, task, None), model.model.encode_query(FIRST))


@pytest.mark.parametrize(
    ("task", "role", "expected"),
    [
        (metadata("Find it."), "query", "Find it."),
        (metadata({"query": "Find it.", "document": "A text."}), "query", "Find it."),
        (metadata({"query": "Find it."}), None, "Find it."),
        (metadata("Find it.", name="Own"), None, "Mine."),
        (metadata("Find it.", kind="Clustering"), None, "Sort."),
    ],
)
def test_a_template_is_filled_with_the_tasks_instruction(
    mteb: Any, instruct_bundle: Path, task: Any, role: str | None, expected: str
) -> None:
    from embedrt.mteb import MtebModel

    model = MtebModel(instruct_bundle, instructions={"Own": "Mine.", "Clustering": "Sort."}, num_threads=1)
    np.testing.assert_array_equal(encoded(model, FIRST, task, role), model.model.encode_query(FIRST, task=expected))
    np.testing.assert_array_equal(encoded(model, FIRST, task, "document"), model.model.encode_document(FIRST))


def test_the_meta_says_which_vectors_these_are(mteb: Any, tiny_bundle: Path) -> None:
    from embedrt.mteb import MtebModel

    model = MtebModel(tiny_bundle, variant="int8", num_threads=1)
    meta = model.mteb_model_meta
    assert meta.name == model.model.bundle.manifest.source.model
    assert meta.experiment_kwargs["variant"] == "int8"
    assert meta.experiment_kwargs["identity"] == model.model.identity
    assert (meta.max_tokens, meta.embed_dim) == (48, 64)


def test_similarities_are_tensors(mteb: Any, tiny_bundle: Path) -> None:
    import torch

    from embedrt.mteb import MtebModel

    model = MtebModel(tiny_bundle, num_threads=1)
    a, b = model.model.encode(FIRST), model.model.encode(SECOND)
    for left, right in ((a, b), (torch.from_numpy(a), torch.from_numpy(b))):
        np.testing.assert_allclose(model.similarity(left, right).numpy(), a @ b.T, atol=1e-6)
        np.testing.assert_allclose(model.similarity_pairwise(left, right).numpy(), (a * b).sum(axis=1), atol=1e-6)


def test_options_of_an_embedder_that_is_made_already_are_refused(mteb: Any, tiny_bundle: Path) -> None:
    from embedrt.mteb import MtebModel

    with Embedder(tiny_bundle, num_threads=1) as embedder, pytest.raises(OptionError, match="is made already"):
        MtebModel(embedder, variant="int8")


def local_task(mteb: Any) -> Any:
    """An STS task of mteb's own class whose data is here."""
    from datasets import Dataset
    from mteb.abstasks.sts import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    class LocalSTS(AbsTaskSTS):  # type: ignore[misc]
        metadata = TaskMetadata(
            name="LocalSTS", dataset={"path": "local/none", "revision": "1"}, description="Pairs of this test.",
            reference=None, type="STS", category="t2t", modalities=["text"], eval_splits=["test"],
            eval_langs=["eng-Latn"], main_score="cosine_spearman", date=None, domains=None, task_subtypes=None,
            license=None, annotations_creators=None, dialect=None, sample_creation=None, bibtex_citation=None,
        )  # fmt: skip

        def load_data(self, **options: Any) -> None:
            columns = {"sentence1": FIRST, "sentence2": SECOND, "score": SCORES}
            self.dataset = {"test": Dataset.from_dict(columns)}
            self.data_loaded = True

    return LocalSTS()


@pytest.mark.filterwarnings("ignore")  # mteb's and its dependencies' own
def test_a_task_of_mteb_runs_and_its_result_names_the_identity(
    mteb: Any, tiny_bundle: Path, instruct_bundle: Path, tmp_path: Path
) -> None:
    from embedrt.mteb import MtebModel

    for bundle, options in ((tiny_bundle, {}), (instruct_bundle, {"task": "Retrieve semantically similar text."})):
        model = MtebModel(bundle, variant="fp32", num_threads=1)
        cache = mteb.ResultCache(cache_path=tmp_path / bundle.parent.name)
        result = mteb.evaluate(
            model, local_task(mteb), cache=cache, co2_tracker=False, show_progress_bar=False,
        )  # fmt: skip
        a, b = (
            model.model.encode_query(texts, **options) if options else model.model.encode(texts)
            for texts in (FIRST, SECOND)
        )
        expected = stats.spearmanr((a * b).sum(axis=1), SCORES).statistic
        assert result.task_results[0].get_score() == pytest.approx(expected, abs=1e-4)
        metas = list(tmp_path.rglob("model_meta.json"))
        kept = [json.loads(path.read_text())["experiment_kwargs"] for path in metas]
        assert model.model.identity in [one["identity"] for one in kept]
