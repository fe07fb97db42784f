"""The table of what model cards say: the right family for a name, and none for its neighbours."""

from __future__ import annotations

import pytest

from embedrt.heads import POOLING_MODES
from embedrt.prompting import document_prompt, query_prompt
from embedrt_export.prompts import FAMILIES, choose_prompts, find_family

PASSAGES = "Represent this sentence for searching relevant passages: "
QUERIES = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


@pytest.mark.parametrize(
    ("name", "pooling", "query", "document"),
    [
        ("intfloat/multilingual-e5-small", "mean", "query: ", "passage: "),
        ("nomic-ai/nomic-embed-text-v1.5", "mean", "search_query: ", "search_document: "),
        ("nomic-ai/modernbert-embed-base", "mean", "search_query: ", "search_document: "),
        ("Qwen/Qwen3-Embedding-0.6B", "lasttoken", QUERIES, ""),
        ("google/embeddinggemma-300m", None, "task: search result | query: ", "title: none | text: "),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", "cls", PASSAGES, ""),
        ("Snowflake/snowflake-arctic-embed-xs", "cls", PASSAGES, ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "cls", "query: ", ""),
        ("mixedbread-ai/mxbai-embed-large-v1", "cls", PASSAGES, ""),
        ("Alibaba-NLP/gte-modernbert-base", "cls", "", ""),
        ("Alibaba-NLP/gte-multilingual-base", "cls", "", ""),
        ("Alibaba-NLP/gte-large-en-v1.5", "cls", "", ""),
        ("thenlper/gte-small", "mean", "", ""),
        ("ibm-granite/granite-embedding-english-r2", "cls", "", ""),
        ("ibm-granite/granite-embedding-97m-multilingual-r2", "cls", "", ""),
    ],
)
def test_a_models_card_is_found_by_its_name(name: str, pooling: str | None, query: str, document: str) -> None:
    family = find_family(name)
    assert family is not None
    assert (family.pooling, family.normalize) == (pooling, True)
    prompts = choose_prompts({}, None, family, None)
    assert query_prompt(prompts, None, None, None) == query
    assert document_prompt(prompts, None, None) == document


@pytest.mark.parametrize(
    "name",
    [
        "Alibaba-NLP/gte-Qwen2-1.5B-instruct",
        "Alibaba-NLP/gte-reranker-modernbert-base",
        "ibm-granite/granite-embedding-reranker-english-r2",
        "ibm-granite/granite-embedding-30m-sparse",
        "mixedbread-ai/mxbai-embed-2d-large-v1",
        "mixedbread-ai/mxbai-rerank-large-v1",
        "Qwen/Qwen3-Reranker-0.6B",
        "Qwen/Qwen3-0.6B",
    ],
)
def test_other_models_of_a_name_have_other_cards(name: str) -> None:
    assert find_family(name) is None


def test_tasks_fill_a_familys_prompt() -> None:
    for name, task, expected in (
        ("google/embeddinggemma-300m", "clustering", "task: clustering | query: "),
        ("Qwen/Qwen3-Embedding-4B", "Find code", "Instruct: Find code\nQuery:"),
    ):
        assert query_prompt(choose_prompts({}, None, find_family(name), None), None, None, task) == expected


def test_a_models_own_prompts_come_first() -> None:
    own = {"query": "own: "}
    assert choose_prompts(own, None, find_family("nomic-ai/nomic-embed-text-v1.5"), None).texts == own


def test_every_entry_names_its_card() -> None:
    for family in FAMILIES:
        assert family.source.startswith("https://"), family.pattern
        assert family.pooling is None or family.pooling in POOLING_MODES
        assert ("{task}" in "".join(family.prompts.values())) == (family.default_task is not None)
